"""A member is replaced while somebody dies, a roll is called off midway, a roll of five is cut in two.

At each step of a roll: before the learner is added and after that, after the promotion, at the guard, in the clean-up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.rows.deaths import AWHILE, COMPLETES, ROLLS_BACK
from playground.faults.world import World
from playground.machines import Machine

FLIPPED, LEADER, ANOTHER = 2, 1, 3
"""The numbers of the member that is replaced, of the one that leads unless it is said otherwise, and of one more."""

STEPS = {
    "before the add": "before-add",
    "after the add": "after-add",
    "after the promotion": "after-promote",
    "at the guard": "before-snapshot",
    "in the clean-up": "before-remove",
}
"""Where the function is, by the words for it."""

PATIENT = {"TimeoutSeconds": "40"}
"""A member counts as dead after ten seconds of silence, and its successor joins after that."""

Victim = Callable[[World, Machine], Machine]
"""Who dies, given the machine of the old one."""


def old_one(_: World, elder: Machine) -> Machine:
    """The member that is replaced."""
    return elder


def new_one(world: World, elder: Machine) -> Machine:
    """Its successor."""
    return next(one for one in world.machines if one.name == elder.name and one.instance != elder.instance)


def member(number: int) -> Victim:
    """One that stays."""
    return lambda world, _: world.machine(number)


def dies(
    step: str, victim: Victim, ends: str, *, back: bool, leads: int = LEADER, **parameters: str
) -> Callable[[World, Mailbox], None]:
    """Somebody dies at a step of a roll; the machine is back in time, or when the stack rests."""

    def run(world: World, _: Mailbox) -> None:
        size, before = world.size, ids(world)
        world.lead(leads)
        elder = world.machine(FLIPPED)
        with world.stopped_at(STEPS[step], size, **world.flipped(FLIPPED), **parameters):
            dead = victim(world, elder)
            world.cloud.kill(dead)
            if back:
                world.order("go-on")
                time.sleep(AWHILE)
                world.cloud.restart(dead)
        world.expect_status(ends)
        if not back and any(one.instance == dead.instance for one in world.machines):
            world.cloud.restart(dead)
        world.wait_whole(size)
        expect_lives(world, before, elder, replaced=ends == COMPLETES)

    return run


def expect_lives(world: World, before: set[int], elder: Machine, *, replaced: bool) -> None:
    """Exactly the old members after a rollback; all but the old one and one more after a roll."""
    after, stays = ids(world), any(one.instance == elder.instance for one in world.machines)
    if replaced:
        world.expect(len(before - after) == 1, f"{len(before - after)} of the old members are gone, not one")
        world.expect(not stays, "the machine of the old one is still there")
    else:
        world.expect(after == before, "after the rollback the members are not those from before")
        world.expect(stays, "the machine of the old one is gone")


def ids(world: World) -> set[int]:
    """The IDs of the members."""
    return {one.id for one in world.view().members}


def called_off(world: World, _: Mailbox) -> None:
    """All are flipped; when the first new one votes the update is cancelled, which flips them back."""
    before, size = ids(world), world.size
    with world.stopped_at("after-promote", size, **world.flipped(*range(1, size + 1))):
        world.cancel()
    world.expect_status(ROLLS_BACK)
    world.wait_whole(size)
    world.expect(ids(world) == before, "after the rollback the members are not those from before")


def there_and_back(world: World, _: Mailbox) -> None:
    """One is flipped, and flipped back by the next update: two successors, of which one is left."""
    size = world.size
    for _again in range(2):
        elder, before = world.machine(FLIPPED), ids(world)
        world.resize(size, **world.flipped(FLIPPED))
        world.expect_status(COMPLETES)
        world.wait_whole(size)
        expect_lives(world, before, elder, replaced=True)


def never_boots(world: World, _: Mailbox) -> None:
    """The first is replaced, the machine of the second never boots; then the first alone is flipped."""
    size, before, elder = world.size, ids(world), world.machine(LEADER)
    world.order("machines", f"{world.stack}-{FLIPPED} never")
    world.resize(size, **world.flipped(LEADER, FLIPPED))
    world.expect_status(ROLLS_BACK)
    world.expect_sentence(f"the machine of {world.stack}-{FLIPPED} has not started etcd")
    world.order("machines")
    world.wait_whole(size)
    expect_lives(world, before, elder, replaced=False)
    world.resize(size, **world.flipped(LEADER))
    world.expect_status(COMPLETES)
    world.wait_whole(size)
    expect_lives(world, before, elder, replaced=True)


def killed(world: World, _: Mailbox) -> None:
    """The function dies after the promotion, for good: CloudFormation never hears of the new voter."""
    size, before, elder = world.size, ids(world), world.machine(FLIPPED)
    world.order("points", "after-promote kill")
    with world.resizing(size, **world.flipped(FLIPPED)):
        world.reached("after-promote")
        world.give_up()
    world.expect_status(ROLLS_BACK)
    world.wait_whole(size)
    expect_lives(world, before, elder, replaced=False)


def cut_off(*, back: bool) -> Callable[[World, Mailbox], None]:
    """All five are flipped; when the first new one votes, two of the old ones, one of which leads, are cut off."""

    def run(world: World, _: Mailbox) -> None:
        size, before = world.size, ids(world)
        world.lead(size)
        minority = [world.machine(number) for number in (size - 1, size)]
        everybody = world.flipped(*range(1, size + 1))
        with world.stopped_at("after-promote", size, **everybody), world.cut_off(*minority):
            world.order("go-on")
            time.sleep(AWHILE)
            if not back:
                world.rest()
        world.expect_status(COMPLETES if back else ROLLS_BACK)
        world.wait_whole(size)
        if back:
            world.expect(not before & ids(world), "some of the old members are still there")
        else:
            world.expect(ids(world) == before, "after the rollback the members are not those from before")

    return run


def _not_root() -> str:
    return "" if os.geteuid() == 0 else "to cut an address off needs root (ip route)"


def _death(who: str, step: str, victim: Victim, ends: str, size: int, **more: Any) -> Fault:
    back, leads = more.pop("back", False), more.pop("leads", LEADER)
    after = "the update completes" if ends == COMPLETES else "rolled back to exactly the old members"
    name = f"roll: {who} dies {step}{', comes back' if back else ''}"
    run = dies(step, victim, ends, back=back, leads=leads, **more)
    return Fault(name, "roll", name, after, size, 7 - size, run)


def _row(name: str, cause: str, after: str, size: int, run: Any, **more: Any) -> Fault:
    return Fault(name, "roll", cause, after, size, size + 1, run, **more)


FAULTS = (
    _row(
        "a roll of five, two are cut off and come back",
        "when the first of five new ones votes, two of the old ones, one leads, reach nobody for a while",
        "the update completes",
        5,
        cut_off(back=True),
        skip=_not_root,
    ),
    _row(
        "a roll of five, two are cut off",
        "when the first of five new ones votes, two of the old ones, one leads, reach nobody any more",
        "rolled back to exactly the old members",
        5,
        cut_off(back=False),
        skip=_not_root,
    ),
    # sizes that alternate: one that ends with four suits one that begins with four
    _death("the old one, which leads,", "before the add", old_one, COMPLETES, 3, leads=FLIPPED, **PATIENT),
    *(
        _death("the old one, which leads,", step, old_one, COMPLETES, 3, leads=FLIPPED)
        for step in list(STEPS)[1:4]
    ),
    _death("the old one", "in the clean-up", old_one, COMPLETES, 3),
    _death("the new one", "after the promotion", new_one, ROLLS_BACK, 4),
    _death("the new one", "after the promotion", new_one, COMPLETES, 4, back=True),
    _death("the new one", "at the guard", new_one, ROLLS_BACK, 4),
    _death("the new one", "in the clean-up", new_one, COMPLETES, 4),
    *(
        _death("the leader", step, member(LEADER), COMPLETES if step == "in the clean-up" else ROLLS_BACK, 3)
        for step in STEPS
    ),
    _death("the leader", "after the promotion", member(LEADER), COMPLETES, 3, back=True),
    *(
        _death(
            "another voter", step, member(ANOTHER), COMPLETES if step == "in the clean-up" else ROLLS_BACK, 4
        )
        for step in STEPS
    ),
    _row(
        "roll: the function is killed after the promotion, for good",
        "SIGKILL after the promotion of a successor, for good",
        "rolled back to exactly the old members",
        3,
        killed,
    ),
    _row(
        "flipped back in mid-roll",
        "all are flipped, and when the first new one votes the update is cancelled",
        "rolled back to exactly the old members",
        3,
        called_off,
    ),
    _row("flipped back at once", "one is flipped, and flipped back", "both complete", 3, there_and_back),
    _row(
        "flipped back in part: the second machine never boots",
        "two are flipped, the second's etcd never starts; then the first alone",
        "rolled back with the sentence, then the update completes",
        3,
        never_boots,
    ),
)
