"""When something is wrong: the stack rolls back with a sentence that says why, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from etcd_resize.userdata import RENDERERS
from playground import tools
from playground.local import Playground
from tests.support.addresses import TESTS
from tests.support.etcd import HandMade, program
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NewWorld = Callable[[Playground, str], World]


def test_a_shrink_is_vetoed_before_anything_is_deleted(playground: Playground, new_world: NewWorld) -> None:
    world = new_world(playground, "veto")
    world.resize(3)
    before, done = world.frozen(), len(world.story)
    playground.kill(world.machines[1])
    with world.written_to():
        refused = world.deploy(2)
    assert (refused.ok, refused.status) == (False, "UPDATE_ROLLBACK_COMPLETE")
    assert "veto-2 (" in refused.reason
    assert "does not serve: bring it back or remove it" in refused.reason
    assert set(world.story[done:]) == {"Update Cluster"}
    assert [name for name, machine in world.frozen().items() if machine == before[name]] == [
        "veto-1",
        "veto-3",
    ]

    playground.restart(world.machines[1])
    world.wait_whole(3)
    world.resize(2)
    assert world.names() == ["veto-1", "veto-2"]


def test_a_voter_s_machine_cannot_be_terminated_while_it_votes(
    playground: Playground, new_world: NewWorld
) -> None:
    """The quorum goes between the guard's consent and the Voter's Delete."""
    world = new_world(playground, "guarded")
    world.resize(3, TimeoutSeconds="6" if playground.kind == "process" else "40")
    with world.held_back("Delete Custom::EtcdVoter"), world.in_the_background(2):
        world.wait_for("answer", resource="Custom::EtcdCluster", request="Update", status="SUCCESS")
        for machine in world.machines[:2]:
            playground.kill(machine)
        (playground.directory / "control/hold").write_text("", encoding="utf-8")
    assert world.story.count("Delete Voter3") == 3  # CloudFormation's three tries
    assert "refused 3" in world.story
    assert "stop 3" not in world.story
    third = world.machines[2]
    assert (third.state, third.protected) == ("running", True)
    reasons = [record["reason"] for record in world.records if record.get("status") == "FAILED"]
    failures = {reason.rpartition(" (")[0] for reason in reasons}  # without how long it was waited
    assert len(failures) == 1  # the Voter says it three times, the Member says it three times
    assert failures.pop().startswith(
        "the cluster has no quorum: 1 of 3 voters answer, 2 are needed; bring back guarded-"
    )

    for machine in world.machines[:2]:
        playground.restart(machine)
    assert sorted(member.name for member in world.wait_whole(3).voters) == [
        "guarded-1",
        "guarded-2",
        "guarded-3",
    ]


def test_a_machine_that_never_boots_is_rolled_back_and_costs_nothing(
    playground: Playground, new_world: NewWorld
) -> None:
    world = new_world(playground, "stillborn")
    world.resize(1)
    before = world.frozen()
    broken = playground.directory / "control/never-boot"
    broken.touch()
    try:
        with world.written_to():
            failed = world.deploy(2)
    finally:
        broken.unlink()
    assert (failed.ok, failed.status) == (False, "UPDATE_ROLLBACK_COMPLETE")
    assert failed.reason == "the machine of stillborn-2 has not started etcd (gave up at the deadline)"
    assert failed.seconds < 3 * int(world.patience["TimeoutSeconds"])
    told = playground.run("sh", "scripts/why.sh", "stillborn", timeout=60).stdout
    assert failed.reason in told
    assert world.names() == ["stillborn-1"]
    assert world.frozen() == before
    world.resize(2)
    assert world.names() == ["stillborn-1", "stillborn-2"]


@pytest.mark.parametrize("size", ["0", "8", "three", "2.5"])
def test_a_size_that_is_none_is_refused_before_anything_happens(
    playground: Playground, new_world: NewWorld, size: str
) -> None:
    world = new_world(playground, "sizeless")
    refused = world.deploy(size)
    assert not refused.ok
    assert "ClusterSize" in refused.output
    assert world.story == []


def test_endpoints_that_do_not_answer_end_in_one_sentence(
    playground: Playground, new_world: NewWorld
) -> None:
    world = new_world(playground, "nowhere")
    refused = world.deploy(1, Tls="off", ExistingEndpoints=f"http://{TESTS}.250.250:2379", TimeoutSeconds="5")
    assert refused.status in {"ROLLBACK_COMPLETE", ""}
    assert refused.reason == (
        f"no endpoint answers: http://{TESTS}.250.250:2379: cannot be reached (gave up at the deadline)"
    )
    assert world.machines == []


def test_another_cluster_s_endpoints_are_refused_and_nothing_is_changed(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    one = HandMade(program("3.5"), tmp_path, {"one": f"{TESTS}.200.11"}, token="one")
    two = HandMade(program("3.5"), tmp_path, {"two": f"{TESTS}.200.12"}, token="two")
    try:
        one.wait_healthy()
        two.wait_healthy()
        world = new_world(playground, "mixed")
        refused = world.deploy(1, Tls="off", ExistingEndpoints=",".join(one.endpoints + two.endpoints))
        assert refused.reason.startswith(
            f"the endpoints belong to different clusters: http://{TESTS}.200.11:2379 to "
        )
        assert world.names(one.endpoints) == ["one"]
        assert world.names(two.endpoints) == ["two"]
        assert world.machines == []
    finally:
        one.stop()
        two.stop()


def test_properties_that_are_wrong_end_in_one_sentence_that_names_them_all(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    provider = new_world(playground, "provider")
    provider.resize(1)
    broken = (tools.ROOT / "member.yaml").read_text(encoding="utf-8")
    broken = broken.replace(
        "      ProtectMachine: !Ref ProtectMachine\n", "      ProtectMachines: maybe\n", 1
    )
    broken = broken.replace("      Dialect: !Ref Dialect\n", "      Dialect: cloudinit\n", 1)
    template = tmp_path / "member.yaml"
    template.write_text(broken, encoding="utf-8")
    world = World(playground, "misspelt")
    try:
        refused = playground.deploy("misspelt", member_parameters(provider, "misspelt"), template=template)
        assert refused.reason == (
            "Custom::EtcdMember: missing: ProtectMachine; unknown: 'ProtectMachines' (ProtectMachine?);"
            f" Dialect 'cloudinit' is none of {', '.join(RENDERERS)}"
        )
        assert provider.names() == ["provider-1"]
    finally:
        world.end()


def member_parameters(provider: World, name: str) -> dict[str, str]:
    """Those of a stack of ``member.yaml`` alone, for one more member of that provider's cluster."""
    outputs = provider.playground.outputs(provider.stack)
    return {
        "Provider": outputs["Provider"],
        "ClusterName": name,
        "MemberName": f"{name}-1",
        "Endpoints": outputs["ClientEndpoints"],
        "SubnetId": provider.playground.subnet_ids[0],
        "SecurityGroupId": outputs["MemberSecurityGroupId"],
        "ImageId": "ami-0123456789abcdef0",
        **provider.patience,
    }
