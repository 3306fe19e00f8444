"""The function is killed, before and after each change that it makes.

On AWS Lambda runs an event whose function died twice more, after one and after two minutes. Here the first pause is
one second and the second two: `… and is run again`. Where nobody runs it again (`… for good`), CloudFormation waits
until ServiceTimeout, gives the resource up, and sends a Delete; the wait, 930 seconds, is cut short as soon as the
function is dead.
"""

from __future__ import annotations

from functools import partial

from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

JOINING = (
    "before-intention",
    "before-add",
    "after-add",
    "after-journal",
    "before-promote",
    "after-promote",
    "before-protect",
    "after-protect",
)
GUARDING = ("before-snapshot", "after-snapshot", "before-move-leader", "after-move-leader")
LEAVING = ("before-remove", "after-remove", "before-unprotect", "after-unprotect", "before-departure")


def killed(world: World, _: Mailbox, *, point: str, size: int, again: bool, completes: bool) -> None:
    """Kill the function once at a point of a resize."""
    if size < world.size:
        world.lead(world.size)  # the one that leaves leads, so that there is a leader to move
    world.order("points", f"{point} kill")
    if again:
        world.order("retries", "1", "2")
    with world.resizing(size):
        world.reached(point)
        if not again:
            world.give_up()
    world.expect_status("UPDATE_COMPLETE" if completes else "UPDATE_ROLLBACK_COMPLETE")
    if not completes:
        world.expect_sentence("CloudFormation did not receive a response")
    if completes:
        world.expect(world.is_whole(size), f"the cluster has not {size} healthy members and nobody else")


def _row(point: str, before: int, size: int, *, again: bool, completes: bool) -> Fault:
    how = "and is run again" if again else "for good"
    ends = "the resize completes" if completes else "the update rolls back"
    return Fault(
        name=f"killed {point} in {before} → {size}, {how}",
        group="kills",
        cause=f"SIGKILL {point.replace('-', ' ', 1)} in {before} → {size}, {how}",
        after=ends,
        size=before,
        again=before if completes else size,
        run=partial(killed, point=point, size=size, again=again, completes=completes),
    )


FAULTS = (
    *(_row(point, 1, 2, again=False, completes=False) for point in JOINING),
    *(_row(point, 2, 1, again=False, completes=False) for point in GUARDING),
    # a Delete that fails in the clean-up is tried three times, so CloudFormation itself runs it again
    *(_row(point, 2, 1, again=False, completes=True) for point in LEAVING),
    *(_row(point, 2, 1, again=True, completes=True) for point in (*GUARDING, *LEAVING)),
    *(_row(point, 1, 2, again=True, completes=True) for point in JOINING),
    _row("before-remove", 3, 2, again=False, completes=True),
    _row("after-remove", 3, 2, again=True, completes=True),
)
