"""The newcomer's machine is broken, each in its own way. The order for it stands until the stack is at rest."""

from __future__ import annotations

import os
import shutil
import time
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from etcd_resize.model.urls import client_url
from playground.faults import clock
from playground.faults.cloud import TIMEOUT_SECONDS
from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

LATE_SECONDS = 60
"""A machine that boots late, but in time."""
HOUR = 3600
CLOSE_SECONDS = 60
"""How far from an hour an hour may be."""


def broken(how: str, ends: str, sentence: str = "", **parameters: str) -> Callable[[World, Mailbox], None]:
    """Grow to two, with a second machine that has this wrong with it."""

    def run(world: World, _: Mailbox) -> None:
        world.order("machines", f"{world.stack}-2 {how}")
        world.resize(2, **parameters)
        world.expect_status(ends)
        if sentence:
            world.expect_sentence(sentence)

    return run


def flapping(world: World, _: Mailbox) -> None:
    """Grow to two, with a second machine that serves now and then."""
    world.order("machines", f"{world.stack}-2 loop 1")
    world.resize(2, StabilizationSeconds="5")
    world.expect_status(ROLLED_BACK)
    world.order("machines")
    if any(one.name == f"{world.stack}-2" for one in world.machines):
        world.restart(2)


def stale(world: World, _: Mailbox) -> None:
    """The data directory of the last second member, that was removed, is on the disk of the next one."""
    world.resize(2)
    data = world.machine(2).folder / "root/var/lib/etcd/default"
    kept = world.orders / "removed"
    world.resize(1)
    shutil.copytree(data, kept)
    world.order("machines", f"{world.stack}-2 stale {kept}")
    world.resize(2)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    shutil.rmtree(kept)


def clock_off(world: World, _: Mailbox) -> None:
    """The second machine's clock is an hour ahead, then the next one's an hour behind; each leads for a while."""
    for seconds in (HOUR, -HOUR):
        world.order("machines", f"{world.stack}-2 clock {seconds}")
        world.resize(2)
        world.expect_status("UPDATE_COMPLETE")
        off = _clock(world, 2) - time.time()
        world.expect(abs(off - seconds) < CLOSE_SECONDS, f"its clock is {off:.0f} s off, not {seconds}")
        world.lead(2)
        world.resize(1)
        world.expect_status("UPDATE_COMPLETE")


def _clock(world: World, number: int) -> float:
    """What a member's etcd says that the time is, in the header of an answer; seconds since the epoch."""
    url = client_url(world.machine(number).address, tls=world.tls)
    with urllib.request.urlopen(f"{url}/health", timeout=5, context=world.context()) as answer:  # noqa: S310 - http or https
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()


def an_hour_off(world: World, _: Mailbox) -> None:
    """Every other event is handled by a function whose clock is an hour ahead, then behind."""
    for size, seconds in ((2, "3600"), (1, "-3600"), (2, "0"), (1, "3600")):
        world.order("clock", seconds)
        world.resize(size)
        world.expect_status("UPDATE_COMPLETE")


def _not_root() -> str:
    return "" if os.geteuid() == 0 else "a small disk of its own for one machine needs root (unshare, tmpfs)"


UNSTARTED = "has not started etcd"
ROLLED_BACK = "UPDATE_ROLLBACK_COMPLETE"
FAULTS = (
    Fault(
        "the machine never boots",
        "machines",
        "etcd never starts",
        "rolled back with the sentence",
        1,
        2,
        broken("never", ROLLED_BACK, UNSTARTED),
    ),
    Fault(
        "the machine boots late",
        "machines",
        f"etcd starts after {LATE_SECONDS} s of {2 * LATE_SECONDS}",
        "the update completes",
        1,
        1,
        broken(f"late {LATE_SECONDS}", "UPDATE_COMPLETE", TimeoutSeconds=str(2 * LATE_SECONDS)),
    ),
    Fault(
        "the machine boots too late",
        "machines",
        f"etcd starts after {TIMEOUT_SECONDS + 6} s of {TIMEOUT_SECONDS}",
        "rolled back with the sentence",
        1,
        2,
        broken(f"late {TIMEOUT_SECONDS + 6}", ROLLED_BACK, UNSTARTED),
    ),
    Fault(
        "the machine crashes in a loop before it serves",
        "machines",
        "etcd is killed 0.1 s after each of its starts",
        "rolled back",
        1,
        2,
        broken("loop 0.1", ROLLED_BACK),
    ),
    Fault(
        "the machine crashes in a loop while it serves",
        "machines",
        "etcd is killed 1 s after each of its eleven starts, StabilizationSeconds is 5",
        "rolled back; had it been promoted in a good moment, its machine is kept and reported",
        1,
        2,
        flapping,
        outage=True,
    ),
    Fault(
        "the machine has the data of a removed member",
        "machines",
        "a stale data directory is there at the first boot",
        "rolled back",
        1,
        2,
        stale,
    ),
    Fault(
        "the machine's disk is full",
        "machines",
        "the data directory is a disk of 2 MB",
        "rolled back with the sentence",
        1,
        2,
        broken("full", ROLLED_BACK, UNSTARTED),
        skip=_not_root,
    ),
    Fault(
        "a machine's clock is an hour off",
        "machines",
        "one hour ahead, then one behind, while it leads",
        "every resize works",
        1,
        2,
        clock_off,
        skip=clock.impossible,
    ),
    Fault(
        "the function's clock is an hour off",
        "machines",
        "one hour ahead, one behind, in turn",
        "every resize works",
        1,
        2,
        an_hour_off,
    ),
)
