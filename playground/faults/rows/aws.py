"""EC2 and S3 refuse, cannot be reached, or take their time. The order stands until the stack is at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

LIFT = "DisableApiTermination.Value=false"
COMPLETES, ROLLS_BACK = "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"


def calls(
    size: int, match: str, do: str, ends: str, sentence: str = "", *, seconds: float = 0, point: str = ""
) -> Callable[[World, Mailbox], None]:
    """A resize during which certain calls are broken, from the beginning or from a point on."""

    def run(world: World, _: Mailbox) -> None:
        order = world.call(match.replace("BUCKET", f"/{world.stack}/"), do, seconds)
        if point:
            with world.stopped_at(point, size):
                world.order("calls", order)
        else:
            world.order("calls", order)
            world.resize(size)
        world.expect_status(ends)
        if sentence:
            world.expect_sentence(sentence)

    return run


def _row(name: str, after: str, size: int, again: int, run: Any) -> Fault:
    return Fault(name, "aws", name, after, size, again, run)


MEMBERS, SNAPSHOTS = "BUCKETmembers/", "BUCKETsnapshots/"
FAULTS = (
    _row(
        "EC2 cannot be reached before a grow",
        "refused before anything is changed",
        1,
        2,
        calls(2, "DryRun", "unreachable", ROLLS_BACK, "the EC2 API cannot be reached", seconds=1),
    ),
    _row(
        "EC2 refuses the protection",
        "rolled back: the learner leaves again",
        1,
        2,
        calls(2, "InstanceId=i-", "refuse", ROLLS_BACK, "cannot protect the machine", point="before-protect"),
    ),
    _row(
        "EC2 cannot be reached at the protection",
        "rolled back: the learner leaves again",
        1,
        2,
        calls(
            2,
            "InstanceId=i-",
            "unreachable",
            ROLLS_BACK,
            "cannot be reached",
            seconds=1,
            point="before-protect",
        ),
    ),
    _row(
        "EC2 is slow at the protection",
        "the update completes",
        1,
        1,
        calls(2, "InstanceId=i-", "slow", COMPLETES, seconds=3),
    ),
    _row(
        "EC2 refuses to lift the protection",
        "the member is out, its machine is kept and reported",
        2,
        2,
        calls(1, LIFT, "refuse", COMPLETES),
    ),
    _row(
        "EC2 cannot be reached at the lifting",
        "the member is out, its machine is kept and reported",
        2,
        2,
        calls(1, LIFT, "unreachable", COMPLETES, seconds=1),
    ),
    _row(
        "EC2 is slow at the lifting",
        "the update completes",
        2,
        2,
        calls(1, LIFT, "slow", COMPLETES, seconds=3),
    ),
    _row(
        "S3 refuses the intention",
        "refused before anything is changed",
        1,
        2,
        calls(2, MEMBERS, "refuse", ROLLS_BACK, "in the bucket"),
    ),
    _row(
        "S3 refuses the journal after the add",
        "rolled back: the learner is out, and what could not be written is reported",
        1,
        2,
        calls(2, MEMBERS, "refuse", ROLLS_BACK, "in the bucket", point="after-add"),
    ),
    _row(
        "S3 refuses the snapshot",
        "refused by the guard, nothing is deleted",
        2,
        1,
        calls(1, SNAPSHOTS, "refuse", ROLLS_BACK, "cannot store"),
    ),
    _row(
        "S3 is slow in a grow", "the update completes", 1, 1, calls(2, "BUCKET", "slow", COMPLETES, seconds=1)
    ),
    _row(
        "S3 is slow in a shrink",
        "the update completes",
        2,
        2,
        calls(1, "BUCKET", "slow", COMPLETES, seconds=1),
    ),
)
