"""``ClusterMaintenance``: what an event asks for, and what is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from etcd_resize import service
from etcd_resize.errors import GaveUp, InvalidRequest, Refused
from etcd_resize.gateway import Gateway
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Credentials
from etcd_resize.model.records import ClusterRecord
from etcd_resize.service import Maintained
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines


class World:
    def __init__(self, size: int = 3) -> None:
        self.on_defragment: Callable[[Member], None] | None = None
        """In place of what the fake does."""
        self.clock, self.bucket = FakeClock(now=1_700_000_000.0), FakeBucket()
        addresses = [f"10.0.0.{number}" for number in range(1, size + 1)]
        self.etcd = FakeCluster.bootstrapped(self.clock, addresses)
        self.endpoints = tuple(url for member in self.etcd.members for url in member.client_urls)

    def maintain(self, event: object) -> dict[str, str]:
        def connect(*asked: Any) -> Gateway:
            gateway = self.etcd.connect(*asked)
            if self.on_defragment:
                gateway.defragment = self.on_defragment  # type: ignore[method-assign, assignment]
            return gateway

        outside = service.Outside(
            connect=connect,
            journal=self.bucket,
            snapshots=self.bucket,
            machines=FakeMachines(),
            clock=self.clock,
            vault=self.bucket.vault,
        )
        return service.maintain(outside, Maintained("etcd", self.endpoints), event, 60.0)


def test_a_snapshot_is_named_by_time_revision_and_the_follower_it_comes_from() -> None:
    world = World()
    assert world.maintain({"action": "snapshot"}) == {
        "Snapshot": "etcd/20231114T221320Z-r7-m2",
        "Source": "m2",
    }
    assert world.etcd.history == ["snapshot m2"]


def test_a_cluster_of_one_is_asked_though_it_leads() -> None:
    assert World(1).maintain({"action": "snapshot"})["Source"] == "m1"


@pytest.mark.parametrize("event", [{}, {"action": "delete"}, {"action": ["snapshot"]}, "snapshot", None])
def test_another_event_is_refused_with_what_there_is(event: object) -> None:
    with pytest.raises(InvalidRequest, match=r"with one of .*snapshot"):
        World().maintain(event)


def test_without_a_quorum_there_is_no_snapshot() -> None:
    world = World()
    world.etcd.down = {member.id for member in world.etcd.members[:2]}
    with pytest.raises(GaveUp, match="no quorum"):
        world.maintain({"action": "snapshot"})
    assert world.bucket.snapshots == []


def test_data_that_may_be_damaged_is_not_kept() -> None:
    world = World()
    world.etcd.alarms = ("CORRUPT on m2",)
    with pytest.raises(Refused, match="CORRUPT on m2"):
        world.maintain({"action": "snapshot"})
    assert world.bucket.snapshots == []


def test_a_full_database_still_gives_a_snapshot() -> None:
    world = World()
    world.etcd.alarms = ("NOSPACE on m2",)
    assert world.maintain({"action": "snapshot"})["Source"] == "m2"


def test_another_cluster_behind_the_endpoints_is_refused() -> None:
    world = World()
    world.bucket.clusters["etcd"] = ClusterRecord(cluster_id=1)
    with pytest.raises(Refused, match="give the endpoints of that one"):
        world.maintain({"action": "snapshot"})


def test_members_are_defragmented_one_after_the_other_and_the_leader_last() -> None:
    world = World(5)
    world.etcd.leader = world.etcd.members[1].id
    told = world.maintain({"action": "defragment"})
    assert world.etcd.history == [f"defragment m{number}" for number in (1, 3, 4, 5, 2)]
    assert told["Defragmented"].startswith("m1 from 0 to 0 bytes; m3 from ")


def test_a_leadership_that_moves_meanwhile_leaves_nobody_out_and_nobody_twice() -> None:
    world = World()

    def moves(step: Member) -> None:
        world.etcd.history.append(f"defragment {step.name}")
        world.etcd.leader = step.id

    world.on_defragment = moves
    world.maintain({"action": "defragment"})
    assert world.etcd.history == [f"defragment m{number}" for number in (2, 1, 3)]


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_nobody_is_defragmented_while_a_member_is_unhealthy(dead: int) -> None:
    world = World()
    world.etcd.down = {world.etcd.members[dead].id}
    with pytest.raises(GaveUp, match=rf"m{dead + 1} .* does not serve: bring it back or remove it"):
        world.maintain({"action": "defragment"})
    assert world.etcd.history == []


def test_one_that_dies_meanwhile_ends_it_and_the_others_are_as_they_were() -> None:
    world = World()

    def dies(step: Member) -> None:
        world.etcd.history.append(f"defragment {step.name}")
        world.etcd.down = {step.id}

    world.on_defragment = dies
    with pytest.raises(GaveUp, match=r"m2 .* does not serve"):
        world.maintain({"action": "defragment"})
    assert world.etcd.history == ["defragment m2"]


def test_nobody_is_begun_with_less_time_left_than_the_slowest_took() -> None:
    world = World()

    def takes_long(step: Member) -> None:
        world.etcd.history.append(f"defragment {step.name}")
        world.clock.sleep(40)

    world.on_defragment = takes_long
    with pytest.raises(GaveUp, match=r"no time is left for m3 .*, done are m2"):
        world.maintain({"action": "defragment"})
    assert world.etcd.history == ["defragment m2"]


def test_a_full_database_is_defragmented_and_one_that_may_be_damaged_or_grows_is_not() -> None:
    world = World()
    world.etcd.alarms = ("NOSPACE on m2",)
    world.maintain({"action": "defragment"})
    assert len(world.etcd.history) == 3
    world.etcd.history.clear()
    world.etcd.alarms = ("CORRUPT on m2",)
    with pytest.raises(Refused, match="CORRUPT on m2"):
        world.maintain({"action": "defragment"})
    world.etcd.alarms = ()
    world.etcd.connect(world.endpoints).add_learner("http://10.0.0.9:2380")
    world.etcd.history.clear()
    with pytest.raises(GaveUp, match="is a learner still"):
        world.maintain({"action": "defragment"})
    assert world.etcd.history == []


def test_what_the_function_shows_is_what_is_kept_of_whatever_generation() -> None:
    world = World()
    kept = {"authority": "a", "certificate": "c", "key": "k", "generation": 1}
    world.bucket.vault.kept["etcd/pki/function"] = json.dumps(kept).encode()
    world.maintain({"action": "snapshot"})
    assert world.etcd.shown == [Credentials("a", "c", "k")]
