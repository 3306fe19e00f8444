"""A colour is flipped: another member of the same name takes the place of the one that was there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from playground import containers, images
from playground.local import Playground
from tests.support.desk import Desk
from tests.support.pages import blocks
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NewWorld = Callable[[Playground, str], World]

(FLIP,) = blocks("README.md")["Replace a member"]


def colours(*green: int) -> dict[str, str]:
    """The parameter, with the members of these numbers green."""
    return {"Members": ",".join("green" if number in green else "blue" for number in range(1, 8))}


def test_all_are_flipped_at_once_while_the_cluster_grows(playground: Playground, new_world: NewWorld) -> None:
    """The first one too, through which the others have joined; and all the old ones leave at the same time."""
    world = new_world(playground, "rolled")
    world.resize(2)
    before, machines = world.identities(), world.frozen()
    world.resize(2, VolumeSize="40", TlsGeneration="2")
    assert world.frozen() == machines, "settings alone touch nobody"
    behind = "VolumeSize, TlsGeneration"
    outputs = world.playground.outputs(world.stack)
    assert outputs["Outdated"] == f"rolled-1 ({behind}); rolled-2 ({behind})"
    done = len(world.story)
    with world.written_to():
        world.resize(3, **colours(1, 2))
    assert [told for told in world.story[done:] if not told.startswith(("Delete", "stop"))] == [
        *("Update Member1", "start 1", "Update Voter1"),
        *("Update Member2", "start 2", "Update Voter2"),
        *("Create Member3", "start 3", "Create Voter3"),
        "Update Cluster",
    ]
    cleaned = world.story[world.story.index("Update Cluster") + 1 :]
    for number in "12":
        leave = [f"Delete Voter{number}", f"stop {number}", f"Delete Member{number}"]
        assert [told for told in cleaned if told in leave] == leave
    world.wait_whole(3)
    assert world.names() == ["rolled-1", "rolled-2", "rolled-3"]
    assert not before.keys() & world.identities().keys()
    assert [machine.protected for machine in world.machines] == [True, True, True]
    outputs = world.playground.outputs(world.stack)
    assert sorted(outputs["ClientEndpoints"].split(",")) == sorted(world.endpoints)
    assert outputs["Outdated"] == "none"


def test_a_dead_one_is_removed_before_its_successor_joins(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    world = new_world(playground, "mourned")
    world.resize(3)
    dead = world.machines[0]
    playground.kill(dead)
    with world.written_to(world.endpoints):
        Desk(world, tmp_path).deploy(FLIP)
    assert world.names() == ["mourned-1", "mourned-2", "mourned-3"]
    assert dead.address not in "".join(world.identities().values())
    assert dead.instance not in {machine.instance for machine in world.machines}
    (told,) = [
        record["data"]["Replaced"]
        for record in world.records
        if record["kind"] == "answer"
        and record["request"] == "Update"
        and record["resource"] == "Custom::EtcdMember"
        and record["data"]["Replaced"]
    ]
    assert told == f"mourned/mourned-1@{dead.address}: was dead, and is out already"


def test_a_flip_takes_a_machine_from_debian_12_to_13_and_etcd_from_3_4_to_3_5(
    playground_containers: Playground, new_world: NewWorld
) -> None:
    """Real Debians: each installs its own etcd at its first boot."""
    world = new_world(playground_containers, "upgraded")
    for debian, green in ((images.BOOKWORM, ()), (images.TRIXIE, (1,))):
        with world.written_to() if world.created else nullcontext():
            world.resize(1, **colours(*green), ImageId=debian.parameter())
        (machine,) = world.machines
        release = containers.run(machine.pid or 0, "cat", "/etc/os-release")
        assert f'VERSION_ID="{debian.number}"' in release
        outputs = playground_containers.outputs("upgraded")
        assert outputs["EtcdVersion"].startswith(f"{debian.etcd}.")
        assert outputs["Outdated"] == "none"


def test_a_roll_that_fails_midway_goes_back_to_exactly_the_old_members(
    playground: Playground, new_world: NewWorld
) -> None:
    world = new_world(playground, "returned")
    world.resize(2)
    before, machines = world.identities(), world.frozen()
    broken = playground.directory / "control/never-boot"
    try:
        with world.written_to(), world.in_the_background(2, **colours(1, 2)) as ended:
            world.wait_for("answer", resource="Custom::EtcdVoter", request="Update", status="SUCCESS")
            broken.touch()
    finally:
        broken.unlink(missing_ok=True)
    assert ended[0].status == "UPDATE_ROLLBACK_COMPLETE"
    assert ended[0].reason == "the machine of returned-2 has not started etcd (gave up at the deadline)"
    assert world.identities() == before
    assert world.frozen() == machines
    assert [machine.protected for machine in world.machines] == [True, True]
    world.resize(2, **colours(2))
    assert world.names() == ["returned-1", "returned-2"]
