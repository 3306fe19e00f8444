"""The main job, whole: ClusterSize changes, real `sam deploy`, and a real etcd cluster follows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.containers import SEED
from playground.local import Playground
from tests.support.containers import time_to_boot
from tests.support.desk import Desk
from tests.support.pages import blocks, inline
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NewWorld = Callable[[Playground, str], World]

_, _, _, _, RESIZE, _ = blocks("README.md")["Deploy it on AWS"]
DELETE = inline("README.md", "sam delete")


@pytest.fixture(params=["playground_34", "playground_containers"])
def main_job(request: pytest.FixtureRequest, new_world: NewWorld) -> World:
    """A stack named ``main``: on processes of etcd 3.4, and on containers of Debian 13, so of etcd 3.5."""
    return new_world(request.getfixturevalue(request.param), "main")


GROWN = [
    "Create Member2", "start 2", "Create Voter2",
    "Create Member3", "start 3", "Create Voter3",
    "Update Cluster",
]  # fmt: skip
SHRUNK = [
    "Update Cluster",
    "Delete Voter3", "stop 3", "Delete Member3",
    "Delete Voter2", "stop 2", "Delete Member2",
]  # fmt: skip


def test_from_one_to_three_to_one_to_nothing(main_job: World, tmp_path: Path) -> None:
    world, desk = main_job, Desk(main_job, tmp_path)
    (world.playground.directory / "control/images.json").unlink(missing_ok=True)
    world.resize(1)
    assert world.story == ["Create Member1", "start 1", "Create Voter1", "Create Cluster"]
    first = world.frozen()
    with world.written_to() as writer:
        grow(world, desk, first)
        shrink(world, first)
        acknowledged = len(writer.ledger.numbers)
    assert acknowledged > 1000
    delete(world, desk)


def grow(world: World, desk: Desk, first: dict[str, tuple[str, str, int | None]]) -> None:
    done = len(world.story)
    publish_a_newer_image(world.playground)
    desk.deploy(RESIZE, {"ClusterSize=5": "ClusterSize=3"})
    # the first one is asked again, because its image's name means another image now: it answers as before
    assert world.story[done:] == ["Update Member1", *GROWN]
    view = world.wait_whole(3)
    assert [machine.protected for machine in world.machines] == [True, True, True]
    assert world.frozen()["main-1"] == first["main-1"]  # same UserData, same image, same process
    assert world.machines[1].image != world.machines[0].image  # the new ones took the newer image
    outputs = world.playground.outputs(world.stack)
    assert outputs["ClientEndpoints"] == ",".join(world.endpoints)
    assert outputs["EtcdVersion"] == view.version
    assert outputs["MemberList"].count("isLeader=true") == 1
    assert_a_learner_s_machine_was_never_protected(world)
    assert_the_machines_booted_from_what_was_answered(world)


def assert_the_machines_booted_from_what_was_answered(world: World) -> None:
    """Byte for byte, and in time."""
    answered = {
        record["data"]["Name"]: base64.b64decode(record["data"]["UserData"])
        for record in world.records
        if record["kind"] == "answer" and record["resource"] == "Custom::EtcdMember"
    }
    started = {record["name"]: record["at"] for record in world.records if record.get("what") == "start"}
    member = {record["name"]: record["at"] for record in world.records if record.get("what") == "protect"}
    for machine in world.machines:
        assert machine.user_data == answered[machine.name]
        if machine.kind == "container":
            assert (machine.folder / "upper" / SEED / "user-data").read_bytes() == answered[machine.name]
    boots = {name: round(at - started[name], 1) for name, at in member.items()}  # it was healthy before that
    print("seconds from a machine's start to its promotion:", boots)  # noqa: T201 - shown by pytest -rP
    assert max(boots.values()) < time_to_boot()


def publish_a_newer_image(playground: Playground) -> None:
    newer = {"/aws/service/debian/release/13/latest/arm64": "ami-0fedcba9876543210"}
    (playground.directory / "control/images.json").write_text(json.dumps(newer), encoding="utf-8")


def assert_a_learner_s_machine_was_never_protected(world: World) -> None:
    """Protection comes with the Voter's answer, not a moment before its promotion was asked for."""
    for number in (2, 3):
        told = [
            (record.get("request"), record.get("what"))
            for record in world.records
            if record.get("name") == f"main-{number}"
            or (record.get("resource") == "Custom::EtcdVoter" and f"Member{number}-" in record["stack"])
        ]
        assert told.index((None, "protect")) > told.index(("Create", None))


def shrink(world: World, first: dict[str, tuple[str, str, int | None]]) -> None:
    done = len(world.story)
    world.resize(1)
    assert world.story[done:] == SHRUNK
    world.wait_whole(1)
    assert world.frozen() == first
    assert world.playground.outputs(world.stack)["ClientEndpoints"] == world.endpoints[0]
    lifted = [record["name"] for record in world.records if record.get("what") == "unprotect"]
    assert lifted == ["main-3", "main-2"]
    assert "reboot 1" not in world.story


def delete(world: World, desk: Desk) -> None:
    bucket = world.playground.outputs(world.stack)["SnapshotsBucket"]
    done = len(world.story)
    desk.type(DELETE, answers="y\n" * 3)
    assert world.story[done:] == ["Delete Cluster", "Delete Voter1", "stop 1", "Delete Member1"]
    assert world.machines == []
    assert_the_function_outlived_its_last_delete(world)
    kept = world.playground.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert any("/snapshots/last-" in item["Key"] and item["Size"] > 0 for item in kept)


def assert_the_function_outlived_its_last_delete(world: World) -> None:
    last = max(record["at"] for record in world.records if record["kind"] == "answer")
    deleted = {
        record["logical"]: record["at"]
        for record in world.records
        if record["kind"] == "resource" and record["what"] == "delete" and record["stack"] == world.stack
        and record["phase"] == "begin"
    }  # fmt: skip
    needed = {"Provider", "ProviderRole", "ProviderLog", "ProviderSecurityGroup", "S3Endpoint"}
    needed |= {"MemberSecurityGroup", "MembersReachMembers"}
    assert needed <= set(deleted)
    assert all(deleted[name] > last for name in needed)
