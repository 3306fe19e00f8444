"""``RestoreFrom``: a new cluster starts from a snapshot that was read and found sound, or nothing is made."""

from __future__ import annotations

import base64
import gzip
import re

import pytest

from etcd_resize import service
from etcd_resize.errors import InvalidRequest, Refused
from etcd_resize.model import Identity
from etcd_resize.request import MEMBER, parse
from playground.cloud.userdata import read
from tests.support.events import event, member_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines

SNAPSHOT = "s3://earlier/etcd/snapshots/20260101T000000Z-r7-etcd-2.db"
FIRST = Identity("etcd", "etcd-1", "10.0.0.1")


class World:
    def __init__(self) -> None:
        self.clock, self.bucket = FakeClock(), FakeBucket(archived={SNAPSHOT: "ab" * 32})

    def create(self, endpoints: str = "", **changes: str) -> dict[str, str]:
        etcd, bucket = FakeCluster.bootstrapped(self.clock, ["10.0.0.9"]), self.bucket
        outside = service.Outside(etcd.connect, bucket, bucket, FakeMachines(), self.clock, bucket.vault)
        properties = member_properties(FIRST, endpoints, **changes)
        return service.handle(outside, parse(event("Create", MEMBER, properties)), 60)


def test_the_machine_restores_before_etcd_starts_and_is_given_the_time_for_it() -> None:
    world = World()
    answer = world.create(RestoreFrom=SNAPSHOT)
    configuration = read(base64.b64decode(answer["UserData"]))
    assert configuration.before[-1] == (
        "/usr/local/sbin/restore-etcd",
        f"https://archive/{SNAPSHOT}?signed",
        "ab" * 32,
    )
    assert "TimeoutStartSec=infinity" in "".join(file.content for file in configuration.files)


def test_without_it_nothing_is_restored() -> None:
    data = base64.b64decode(World().create()["UserData"])
    text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    assert b"restore" not in text


def test_a_snapshot_that_is_not_there_is_refused_before_anything_is_made() -> None:
    world = World()
    with pytest.raises(Refused, match="cannot read s3://earlier/other"):
        world.create(RestoreFrom="s3://earlier/other.db")
    assert (world.bucket.members, world.bucket.clusters, world.bucket.vault.kept) == ({}, {}, {})


def test_a_member_that_joins_has_its_data_from_the_others() -> None:
    world = World()
    with pytest.raises(Refused, match="RestoreFrom is for a new cluster"):
        world.create("http://10.0.0.9:2379", RestoreFrom=SNAPSHOT)
    assert world.bucket.members == {}


@pytest.mark.parametrize("dialect", ["ignition", "coreos-cloudinit"])
def test_a_dialect_that_cannot_restore_says_so(dialect: str) -> None:
    with pytest.raises(
        InvalidRequest, match=re.escape(f"of the dialect {dialect} cannot restore a snapshot")
    ):
        World().create(RestoreFrom=SNAPSHOT, Dialect=dialect, Tls="off")


@pytest.mark.parametrize("uri", ["etcd/snapshots/now.db", "s3://bucket", "s3://b/key", "https://bucket/key"])
def test_what_names_no_object_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a snapshot like"):
        World().create(RestoreFrom=uri)
