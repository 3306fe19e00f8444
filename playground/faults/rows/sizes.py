"""Many members in one update, one of which fails; two stacks that join one cluster at the same time."""

from __future__ import annotations

import threading

from playground.faults.cloud import wait_until
from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

LARGEST = 7


def to_seven(world: World, _: Mailbox) -> None:
    """One update from one to seven. The next resize, seven to one, is the other half of the promise."""
    world.resize(LARGEST)
    world.expect_status("UPDATE_COMPLETE")
    world.wait_whole(LARGEST)


def fails_at_six(world: World, _: Mailbox) -> None:
    """The sixth machine of the way to seven never boots."""
    world.order("machines", f"{world.stack}-6 never")
    world.resize(LARGEST)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    world.expect_sentence(f"the machine of {world.stack}-6 has not started etcd")
    wait_until(lambda: world.is_whole(1), "one healthy member, as before", 20)


def two_stacks(world: World, _: Mailbox) -> None:
    """Two further stacks join this one's cluster at the same time, and leave it at the same time."""
    joining = [World(world.cloud, world.template, f"{world.stack}{letter}") for letter in "ab"]
    seed = world.endpoints[0]
    for one in joining:
        one.seeds = (seed,)
    _side_by_side(
        lambda: joining[0].create(1, Tls="off", ExistingEndpoints=seed, TimeoutSeconds="40"),
        lambda: joining[1].create(1, Tls="off", ExistingEndpoints=seed, TimeoutSeconds="40"),
    )
    for one in joining:
        world.expect(one.status == "CREATE_COMPLETE", f"{one.stack}: {one.status}: {one.sentence}")
    world.wait_whole(3)
    _side_by_side(*(one.delete for one in joining))
    for one in joining:
        world.expect(one.status == "DELETE_COMPLETE", f"{one.stack}: {one.status}: {one.sentence}")
    world.wait_whole(1)


def _side_by_side(*works: object) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


FAULTS = (
    Fault(
        "one to seven, and back to one",
        "sizes",
        "ClusterSize from 1 to 7 in one update, then from 7 to 1",
        "both complete",
        1,
        1,
        to_seven,
    ),
    Fault(
        "one to seven, and the sixth never boots",
        "sizes",
        "the machine of the sixth never starts etcd",
        "rolled back to one member",
        1,
        2,
        fails_at_six,
    ),
    Fault(
        "two stacks join one cluster at the same time",
        "sizes",
        "two stacks with the same ExistingEndpoints are created at once, and deleted at once",
        "both complete, twice",
        1,
        2,
        two_stacks,
    ),
)
