"""The way out of a lost quorum that docs/recovery.md tells: the stack stays, and so does the data."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from etcd_resize.model.urls import client_url
from playground import machines, tree
from playground.connections import Connections
from playground.containers import enter
from playground.local import Playground
from playground.machines import Machine
from tests.support.desk import Desk
from tests.support.pages import blocks, inline
from tests.support.stacks import World
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

ALONE, REPLACE = blocks("docs/recovery.md")["After a lost quorum, in the same stack"]
(DOWN,) = inline("docs/recovery.md", "systemctl disable")


@pytest.fixture
def somewhere(request: pytest.FixtureRequest) -> Playground:
    """Machines that really boot, for they have the page's ``systemctl``; processes where there are none."""
    wanted = "playground" if tree.missing() else "playground_containers"
    made: Playground = request.getfixturevalue(wanted)
    return made


def type_on(machine: Machine, *lines: str) -> None:
    """As root in a login shell."""
    assert machine.pid
    script = "\n".join(("set -eux", *lines))
    subprocess.run(
        enter(machine.pid, "bash", "-lc", script), check=True, capture_output=True, text=True, timeout=60
    )


def make_alone(world: World, machine: Machine) -> None:
    """What the page says to do on the machine; one without a systemd does the same with its process."""
    if machine.kind == "process":
        make_process_alone(world, machine)
    else:
        type_on(machine, *ALONE)


def take_down(world: World, machine: Machine) -> None:
    """For good, as the page says; one without a systemd loses its power."""
    if machine.kind == "process":
        world.playground.kill(machine)
    else:
        type_on(machine, DOWN)


def make_process_alone(world: World, machine: Machine) -> None:
    process = Path(f"/proc/{machine.pid}")
    program = (process / "exe").readlink()
    pairs = (process / "environ").read_text().rstrip("\0").split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs)
    machines.order(machine.folder, running=False)
    machines.send(
        machine, signal.SIGTERM
    )  # as systemd does: killed, it would forget what it knows to be committed
    wait_until(lambda: not process.exists(), "its etcd ends")
    url = environment["ETCD_ADVERTISE_CLIENT_URLS"]
    with (machine.folder / "alone.log").open("wb") as log:
        etcd = subprocess.Popen([program, "--force-new-cluster"], env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: len(world.view([url]).voters) == 1, "it is the only member")
    finally:
        etcd.terminate()
        etcd.wait(20)
    world.playground.restart(next(one for one in world.machines if one.instance == machine.instance))


def test_a_stack_that_lost_its_quorum_is_healthy_again_with_its_data(
    somewhere: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    playground, world = somewhere, new_world(somewhere, "lost")
    world.resize(3)
    first, stays, last = world.machines
    url = client_url(stays.address, tls=True)
    connections = Connections(world.papers)
    connections.put(url, b"kept", b"value", 5)
    take_down(world, last)
    playground.kill(first)
    assert playground.invoke("lost", "ClusterHealth")["state"] == "unavailable"

    make_alone(world, stays)
    wait_until(lambda: [one.health.serving for one in world.view([url]).members] == [True], "it serves alone")
    Desk(world, tmp_path).deploy(REPLACE)

    world.wait_whole(3)
    assert connections.read(world.endpoints[-1], b"kept", b"kepu", 5) == {b"kept": b"value"}
    connections.close()
    now = {one.name: one for one in world.machines}
    assert sorted(now) == ["lost-1", "lost-2", "lost-3"]
    assert (now["lost-2"].instance, now["lost-2"].user_data) == (stays.instance, stays.user_data)
    assert not {first.instance, last.instance} & {one.instance for one in now.values()}
    assert [one.protected for one in now.values()] == [True] * 3
    assert playground.invoke("lost", "ClusterHealth")["state"] == "healthy"
    told = playground.invoke("lost", "ClusterMaintenance", {"action": "defragment"})["Defragmented"]
    assert sorted(one.split()[0] for one in told.split("; ")) == ["lost-1", "lost-2", "lost-3"]
