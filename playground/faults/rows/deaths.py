"""Members that die while others come and go, and a quorum that is lost: before a resize, in its middle, for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

AWHILE = 3.0
"""Seconds that a machine is down when it comes back in time."""

COMPLETES = "UPDATE_COMPLETE"
ROLLS_BACK = "UPDATE_ROLLBACK_COMPLETE"


def dies(
    point: str, size: int, who: Callable[[World], int], *, back: bool, ends: str, leader: int = 1
) -> Callable[[World, Mailbox], None]:
    """A member dies while the function is at a point of a resize; it comes back in time, or when the stack rests."""

    def run(world: World, _: Mailbox) -> None:
        world.lead(leader)
        with world.stopped_at(point, size):
            number = who(world)
            world.kill(number)
            if back:
                world.order("go-on")
                time.sleep(AWHILE)
                world.restart(number)
        if not back and any(one.name.endswith(f"-{number}") for one in world.machines):
            world.restart(number)
        world.expect_status(ends)

    return run


def leading(world: World) -> int:
    """Who leads now."""
    return world.leader()


def number(which: int) -> Callable[[World], int]:
    """Always the same one."""
    return lambda _: which


def before(
    dead: tuple[int, ...], size: int, ends: str, sentence: str = "", *, restart: bool = True
) -> Callable[[World, Mailbox], None]:
    """Members are dead when the resize begins, and come back when it is over."""

    def run(world: World, _: Mailbox) -> None:
        world.lead(1 if 1 not in dead else max(set(range(1, world.size + 1)) - set(dead)))
        world.kill(*dead)
        world.resize(size)
        world.expect_status(ends)
        if sentence:
            world.expect_sentence(sentence)
        if restart:
            world.restart(*dead)

    return run


def in_the_middle_of_a_shrink(*, back: bool) -> Callable[[World, Mailbox], None]:
    """The guard has agreed to 3 → 2; then both that stay die."""

    def run(world: World, _: Mailbox) -> None:
        world.order("hold", "Delete Custom::EtcdVoter")
        with world.resizing(2):
            world.wait_for("answer", resource="Custom::EtcdCluster", request="Update", status="SUCCESS")
            world.kill(1, 2)
            world.lift("hold")
            if back:
                time.sleep(AWHILE)
                world.restart(1, 2)
        world.expect_status(COMPLETES)
        third = [one for one in world.machines if one.name == f"{world.stack}-3"]
        if not back:
            kept = third and third[0].state == "running" and third[0].protected
            world.expect(kept, "the machine of the voter that could not leave was not kept")
            world.restart(1, 2)
            world.wait_whole(3)
        else:
            world.expect(not third, "the third machine is still there")

    return run


def before_it_is_in_sync(world: World, _: Mailbox) -> None:
    """The newcomer's machine dies between its start and the Voter's Create."""
    world.order("hold", "Create Custom::EtcdVoter")
    with world.resizing(2):
        world.wait_for("machine", what="start", name=f"{world.stack}-2")
        world.kill(2)
        world.lift("hold")
    world.expect_status(ROLLS_BACK)


def dies_with_the_function(world: World, _: Mailbox) -> None:
    """Promoted, and nobody is told: the function is killed for good, and the newcomer's machine dies at once."""
    world.order("points", "after-promote kill")
    with world.resizing(2):
        world.reached("after-promote")
        world.kill(2)
        world.give_up()
    world.expect_status(ROLLS_BACK)
    kept = any(one.name == f"{world.stack}-2" and one.protected for one in world.machines)
    world.expect(kept, "the machine of a voter was not kept")
    if kept:
        world.restart(2)


def deleted(dead: tuple[int, ...]) -> Callable[[World, Mailbox], None]:
    """The quorum never comes back, and the whole stack is deleted."""

    def run(world: World, _: Mailbox) -> None:
        world.kill(*dead)
        world.delete()
        world.expect(not world.machines, f"machines are left: {[one.name for one in world.machines]}")

    return run


def _row(name: str, after: str, size: int, again: int, run: Any, **more: Any) -> Fault:
    return Fault(name, "deaths", name, after, size, again, run, **more)


FAULTS = (
    _row(
        "no quorum before a grow",
        "refused with the sentence; it works when the quorum is back",
        2,
        3,
        before((2,), 3, ROLLS_BACK, "the cluster has no quorum: 1 of 2 voters answer"),
        outage=True,
    ),
    _row(
        "no quorum before a shrink",
        "refused, nothing is deleted; it works when the quorum is back",
        2,
        1,
        before((1,), 1, ROLLS_BACK, "the cluster has no quorum: 1 of 2 voters answer"),
        outage=True,
    ),
    _row(
        "quorum lost in the middle of a grow, comes back",
        "the update completes",
        2,
        2,
        dies("before-promote", 3, number(2), back=True, ends=COMPLETES),
        outage=True,
    ),
    _row(
        "quorum lost in the middle of a grow",
        "rolled back; the learner left behind is reported, and is out after the next resize",
        2,
        3,
        dies("before-promote", 3, number(2), back=False, ends=ROLLS_BACK),
        outage=True,
    ),
    _row(
        "quorum lost in the middle of a shrink, comes back",
        "the update completes",
        3,
        3,
        in_the_middle_of_a_shrink(back=True),
        outage=True,
    ),
    _row(
        "quorum lost in the middle of a shrink",
        "the voter and its machine are kept and reported; the next resize takes them out",
        3,
        3,
        in_the_middle_of_a_shrink(back=False),
        outage=True,
    ),
    _row(
        "quorum never back, stack deleted",
        "DELETE_COMPLETE, no machine is left",
        2,
        0,
        deleted((1,)),
        outage=True,
        ends_deleted=True,
    ),
    _row(
        "nobody answers, stack deleted",
        "DELETE_COMPLETE, no machine is left",
        2,
        0,
        deleted((1, 2)),
        outage=True,
        ends_deleted=True,
    ),
    _row(
        "the leader dies while a member is added",
        "refused, since etcd admits nobody while a voter is down; it works when it is back",
        3,
        4,
        dies("before-add", 4, leading, back=False, ends=ROLLS_BACK),
    ),
    _row(
        "the leader dies while a member is added, comes back",
        "the update completes",
        3,
        3,
        dies("before-add", 4, leading, back=True, ends=COMPLETES),
    ),
    _row(
        "the leader dies while a member is promoted",
        "the guard refuses a grown cluster with a dead voter: rolled back",
        3,
        4,
        dies("before-promote", 4, leading, back=False, ends=ROLLS_BACK),
    ),
    _row(
        "another voter dies while a member is promoted, comes back",
        "the update completes",
        3,
        3,
        dies("before-promote", 4, number(3), back=True, ends=COMPLETES),
    ),
    _row(
        "the leader dies while a member is removed, comes back",
        "the update completes",
        3,
        3,
        dies("before-remove", 2, leading, back=True, ends=COMPLETES),
    ),
    _row(
        "another voter dies while a member is removed, comes back",
        "the update completes",
        3,
        3,
        dies("before-remove", 2, number(2), back=True, ends=COMPLETES),
    ),
    _row(
        "the member dies while it is removed",
        "the update completes",
        3,
        3,
        dies("before-remove", 2, number(3), back=False, ends=COMPLETES),
    ),
    _row(
        "the one that is removed is dead already",
        "the update completes",
        3,
        3,
        before((3,), 2, COMPLETES, restart=False),
    ),
    _row(
        "the learner dies before it is in sync",
        "rolled back, nothing is left of it",
        1,
        2,
        before_it_is_in_sync,
    ),
    _row(
        "the learner dies as it is promoted",
        "the quorum is gone until its machine, which is kept and reported, is back; the next resize takes it out",
        1,
        2,
        dies("before-promote", 2, number(2), back=False, ends=ROLLS_BACK),
        outage=True,
    ),
    _row(
        "the learner dies as it is promoted, and the function with it",
        "the same: the machine was protected before the promotion",
        1,
        2,
        dies_with_the_function,
        outage=True,
    ),
    _row(
        "the learner dies as it is promoted, comes back",
        "the update completes",
        1,
        1,
        dies("before-promote", 2, number(2), back=True, ends=COMPLETES),
        outage=True,
    ),
    _row(
        "two of five die before a grow",
        "refused, and no write fails",
        5,
        6,
        before((4, 5), 6, ROLLS_BACK, "does not serve"),
    ),
    _row(
        "two of five die, and are the ones that leave",
        "the update completes",
        5,
        4,
        before((4, 5), 3, COMPLETES, restart=False),
    ),
)
