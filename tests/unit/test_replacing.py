"""A member that is replaced: beside the old one, after a dead one, and back again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from etcd_resize import service
from etcd_resize.errors import Refused
from etcd_resize.model.cluster import hex_id
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import TUNING
from etcd_resize.model.records import Accepted, ClusterRecord, MemberRecord
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from tests.support.events import cluster_properties, event, instance_of, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines, FakeVault

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
PARENT = "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd/00000000-0000-0000-0000-000000000001"
CHILD = (
    "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd-Member2-ABCDEFGHIJKL/00000000-0000-0000-0000-2"
)
OLD, NEW = Identity("etcd", "m2", "10.0.0.2"), Identity("etcd", "m2", "10.0.0.9")


@dataclass
class World:
    """The members m1, m2 and m3 of one stack; m2, whose colour is flipped, was answered ``as it was``."""

    clock: FakeClock = field(default_factory=FakeClock)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    machines: FakeMachines = field(default_factory=FakeMachines)

    def __post_init__(self) -> None:
        self.etcd = FakeCluster.bootstrapped(self.clock, ADDRESSES)
        self.old_id = self.etcd.members[1].id
        answer = (("UserData", "as it was"), ("ClientURL", OLD.client_url), ("VolumeSize", "20"))
        record = MemberRecord("added", CHILD, "r", 0, self.old_id, answer, instance_of(OLD))
        self.bucket.record_member(OLD, record)
        accepted = (Accepted(3, tuple(map(client_url, ADDRESSES)), ()),)
        known = ClusterRecord(self.etcd.cluster_id, established=True, accepted=accepted, stack_id=PARENT)
        self.bucket.record_cluster("etcd", known)

    def send(self, action: str, resource: str, wanted: Identity, physical: Identity, old: Identity) -> Any:
        def properties(identity: Identity) -> dict[str, str]:
            if resource == MEMBER:
                return member_properties(identity)
            listed = next((one for one in self.etcd.members if identity.peer_url in one.peer_urls), None)
            return voter_properties(identity, hex_id(listed.id) if listed else "1")

        sent = event(
            action,
            resource,
            properties(wanted),
            physical_id=str(physical),
            old=properties(old) if action == "Update" else None,
            stack_id=CHILD,
        )
        return self.handle(sent)

    def handle(self, sent: dict[str, Any]) -> dict[str, str]:
        outside = service.Outside(
            self.etcd.connect, self.bucket, self.bucket, self.machines, self.clock, FakeVault()
        )
        return service.handle(outside, parse(sent), 60)

    def flip(self) -> dict[str, str]:
        """Up to the machine's start; endpoints are none, as for the first member."""
        answer: dict[str, str] = self.send("Update", MEMBER, NEW, OLD, OLD)
        self.etcd.boot(NEW.address, NEW.name)
        return answer


@pytest.fixture
def world() -> World:
    return World()


def test_the_new_one_joins_beside_the_old_one_under_a_name_that_is_told_apart(world: World) -> None:
    answer = world.flip()
    assert world.etcd.history == ["add http://10.0.0.9:2380"]
    assert answer["InitialCluster"].split(",")[1:] == [
        f"m2-{hex_id(world.old_id)}=http://10.0.0.2:2380",
        "m3=http://10.0.0.3:2380",
        "m2=http://10.0.0.9:2380",
    ]
    assert answer["Replaced"] == "etcd/m2@10.0.0.2: leaves in the clean-up"


def test_a_dead_one_is_removed_first_and_its_machine_kept_until_the_clean_up(world: World) -> None:
    world.etcd.down = {world.old_id}
    answer = world.flip()
    assert [told.split()[0] for told in world.etcd.history] == ["snapshot", "remove", "add"]
    assert answer["Replaced"] == "etcd/m2@10.0.0.2: was dead, and is out already"
    assert world.bucket.members[str(OLD)].state == "left"
    assert world.machines.history == []
    world.send("Delete", VOTER, OLD, OLD, OLD)
    assert world.machines.history == [f"unprotect {instance_of(OLD)}"]


def test_a_short_silence_is_no_death(world: World) -> None:
    world.etcd.down = {world.old_id}
    begin = world.clock.now
    world.clock.ticks.append(lambda: world.etcd.down.clear() if world.clock.now > begin + 5 else None)
    world.flip()
    assert world.etcd.history == ["add http://10.0.0.9:2380"]


def test_without_a_quorum_nobody_is_removed_and_the_way_out_is_named(world: World) -> None:
    world.etcd.down = {member.id for member in world.etcd.members[1:]}
    with pytest.raises(Refused, match="restore a snapshot"):
        world.flip()
    assert world.etcd.history == []


@pytest.mark.parametrize("physical", [OLD, NEW])
@pytest.mark.parametrize("dead", [False, True])
def test_the_way_back_to_the_old_one_needs_nobody_s_consent(
    world: World, physical: Identity, *, dead: bool
) -> None:
    """CloudFormation names the old or the new one; and a dead one that was removed stays removed."""
    world.etcd.down = {world.old_id} if dead else set()
    world.flip()
    history = list(world.etcd.history)
    world.etcd.down = {member.id for member in world.etcd.members}
    assert world.send("Update", MEMBER, OLD, physical, NEW)["UserData"] == "as it was"
    world.send("Update", VOTER, OLD, physical, NEW)
    assert world.etcd.history == history


def test_a_learner_of_which_cloudformation_never_heard_goes_with_the_rollback(world: World) -> None:
    """The function was killed after the add, and nobody knows the new physical ID: no Delete names it."""
    world.send("Update", MEMBER, NEW, OLD, OLD)
    world.send("Update", MEMBER, OLD, OLD, NEW)
    assert [member.name for member in world.etcd.members] == ["m1", "m2", "m3"]
    world.send("Delete", MEMBER, NEW, NEW, NEW)  # should it have heard of it all the same
    assert world.etcd.history == ["add http://10.0.0.9:2380", "remove http://10.0.0.9:2380"]


def test_a_learner_that_goes_with_the_rollback_leaves_no_protected_machine(world: World) -> None:
    """The function was killed between the protection of the new machine and the promotion."""
    world.flip()
    record = world.bucket.members[str(NEW)]
    world.bucket.record_member(NEW, replace(record, instance=instance_of(NEW)))
    world.machines.protect(instance_of(NEW))
    world.send("Update", MEMBER, OLD, NEW, NEW)
    world.send("Delete", MEMBER, NEW, NEW, NEW)
    assert [member.name for member in world.etcd.members] == ["m1", "m2", "m3"]
    assert world.machines.protected == set()


def promoted_unheard(world: World) -> None:
    """The function was killed right after the promotion: CloudFormation goes back, and knows no new Voter."""
    world.flip()
    world.clock.sleep(6)
    world.send("Update", VOTER, NEW, OLD, OLD)


def test_a_voter_of_which_cloudformation_never_heard_goes_with_the_rollback(world: World) -> None:
    promoted_unheard(world)
    world.send("Update", VOTER, OLD, OLD, NEW)
    assert [told.split()[0] for told in world.etcd.history] == ["add", "promote", "snapshot", "remove"]
    assert {member.peer_urls[0] for member in world.etcd.members} == {
        f"http://{one}:2380" for one in ADDRESSES
    }
    assert world.machines.protected == set()
    world.send("Delete", MEMBER, NEW, NEW, NEW)
    assert world.bucket.members[str(NEW)].state == "left"


def test_one_that_could_not_go_with_the_rollback_is_out_before_the_next_flip(world: World) -> None:
    promoted_unheard(world)
    world.etcd.down = {member.id for member in world.etcd.members}
    world.send("Update", VOTER, OLD, OLD, NEW)
    world.etcd.down = set()
    third = Identity("etcd", "m2", "10.0.0.8")
    world.send("Update", MEMBER, third, OLD, OLD)
    assert [told.split()[0] for told in world.etcd.history][2:] == ["snapshot", "remove", "add"]
    assert world.machines.protected == set()


def test_once_the_old_one_is_cleaned_up_its_address_is_an_address_like_any_other(world: World) -> None:
    world.flip()
    world.clock.sleep(6)
    world.send("Update", VOTER, NEW, OLD, OLD)
    world.send("Delete", VOTER, OLD, OLD, OLD)
    world.send("Delete", MEMBER, OLD, OLD, OLD)
    assert world.bucket.members[str(OLD)].successor == ""
    world.clock.sleep(6)
    assert world.send("Update", MEMBER, OLD, NEW, NEW)["UserData"] != "as it was"
    assert world.etcd.history[-1] == "add http://10.0.0.2:2380"


def test_whoever_leaves_is_seen_to_be_out_through_those_that_stay(world: World) -> None:
    """Its own properties name nobody else: it was the first."""
    world.send("Delete", VOTER, OLD, OLD, OLD)
    world.send("Delete", MEMBER, OLD, OLD, OLD)
    assert [member.name for member in world.etcd.members] == ["m1", "m3"]


def guard(world: World, addresses: list[str], before: list[str], **changes: str) -> dict[str, str]:
    wanted, old = cluster_properties("etcd", addresses, **changes), cluster_properties("etcd", before)
    sent = event("Update", CLUSTER, wanted, old=old, physical_id="etcd/cluster", stack_id=PARENT)
    return world.handle(sent)


def test_the_guard_prepares_the_leave_of_the_old_one_and_removes_nobody(world: World) -> None:
    world.flip()
    world.clock.sleep(6)
    world.send("Update", VOTER, NEW, OLD, OLD)
    world.etcd.leader = world.old_id
    done = len(world.etcd.history)
    answer = guard(world, ["10.0.0.1", "10.0.0.9", "10.0.0.3"], ADDRESSES)
    assert [told.split()[0] for told in world.etcd.history[done:]] == ["snapshot", "lead"]
    assert "10.0.0.2" not in answer["MemberList"] + answer["Endpoints"]
    assert answer["Ghosts"] == ""


def test_an_endpoint_of_somebody_else_that_is_not_given_any_more_does_not_leave(world: World) -> None:
    answer = guard(world, ["10.0.0.2", "10.0.0.3"], ADDRESSES, ClusterSize="3")
    assert world.etcd.history == []
    assert "10.0.0.1" in answer["MemberList"]


def test_a_change_of_settings_names_who_was_made_with_others_and_asks_nobody(world: World) -> None:
    world.etcd.down = {member.id for member in world.etcd.members}
    answer = guard(world, ADDRESSES, ADDRESSES, VolumeSize="40", ImageId="ami-00000000")
    assert answer["Outdated"] == "m2 (VolumeSize)"  # of m2's record nothing but the size is known
    settings = parse(
        event("Create", CLUSTER, cluster_properties("etcd", ADDRESSES, VolumeSize="40"))
    ).properties.settings  # type: ignore[union-attr]
    world.bucket.record_member(OLD, replace(world.bucket.members[str(OLD)], settings=settings))
    assert guard(world, ADDRESSES, ADDRESSES, VolumeSize="40")["Outdated"] == "none"
    dialect = guard(world, ADDRESSES, ADDRESSES, VolumeSize="40", Dialect="ignition", BaseUserData="e30=")
    assert dialect["Outdated"] == "m2 (Dialect, BaseUserData)"
    tuned = guard(world, ADDRESSES, ADDRESSES, VolumeSize="40", QuotaBackendBytes="4294967296")
    assert tuned["Outdated"] == "m2 (QuotaBackendBytes)"
    # made by a version without these settings: with etcd's own, which keeps all history
    before = tuple(one for one in settings if one[0] not in TUNING)
    world.bucket.record_member(OLD, replace(world.bucket.members[str(OLD)], settings=before))
    assert guard(world, ADDRESSES, ADDRESSES, VolumeSize="40")["Outdated"] == "m2 (AutoCompactionRetention)"
