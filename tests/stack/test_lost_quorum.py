"""The way out of a lost quorum that docs/recovery.md tells, step by step: the stack stays, and so does the data."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.connections import Connections
from playground.local import Playground
from playground.machines import Machine
from tests.support.stacks import World
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def alone(world: World, machine: Machine) -> None:
    """What the page does on the machine: its etcd runs once with ``--force-new-cluster``, and then as before."""
    process = Path(f"/proc/{machine.pid}")
    program = (process / "exe").readlink()
    pairs = (process / "environ").read_text().rstrip("\0").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs)
    world.playground.kill(machine)
    wait_until(lambda: world.machines[0].state == "stopped", "the machine stops")
    url = environment["ETCD_ADVERTISE_CLIENT_URLS"]
    with (machine.folder / "alone.log").open("wb") as log:
        etcd = subprocess.Popen([program, "--force-new-cluster"], env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: len(world.view([url]).voters) == 1, "it is the only member")
    finally:
        etcd.terminate()
        etcd.wait(20)
    world.playground.restart(world.machines[0])


def test_a_stack_that_lost_its_quorum_is_healthy_again_with_its_data(
    playground: Playground, new_world: Callable[[Playground, str], World]
) -> None:
    world = new_world(playground, "lost")
    world.resize(3)
    connections = Connections(world.papers)
    connections.put(world.endpoints[0], b"kept", b"value", 5)
    wait_until(lambda: world.view().members[0].health.serving, "the key is everywhere")
    first, *others = world.machines
    before = first.user_data
    for machine in others:
        playground.kill(machine)
    refused = world.deploy(1)
    assert not refused.ok
    assert "no quorum" in refused.reason

    alone(world, first)
    world.resize(1)
    world.resize(3)
    assert len(world.wait_whole(3).voters) == 3
    assert connections.read(world.endpoints[-1], b"kept", b"kepu", 5) == {b"kept": b"value"}
    connections.close()
    assert world.machines[0].user_data == before
