"""``ClusterMaintenance``: what an event asks for, and what is done."""

from __future__ import annotations

import pytest

from etcd_resize import service
from etcd_resize.errors import GaveUp, InvalidRequest, Refused
from etcd_resize.model import ClusterRecord
from etcd_resize.service import Maintained
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines


class World:
    def __init__(self, size: int = 3) -> None:
        self.clock, self.bucket = FakeClock(now=1_700_000_000.0), FakeBucket()
        addresses = [f"10.0.0.{number}" for number in range(1, size + 1)]
        self.etcd = FakeCluster.bootstrapped(self.clock, addresses)
        self.endpoints = tuple(url for member in self.etcd.members for url in member.client_urls)

    def maintain(self, event: object) -> dict[str, str]:
        outside = service.Outside(
            connect=self.etcd.connect,
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
