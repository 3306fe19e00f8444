"""``RestoreFrom``: a new cluster starts from a snapshot that was read and found sound, or nothing is made."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
from typing import Any

import pytest
from botocore.response import StreamingBody

from etcd_resize import service
from etcd_resize.aws import Bucket
from etcd_resize.errors import InvalidRequest, Refused
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import Restoration
from etcd_resize.request import MEMBER, parse
from playground.cloud.userdata import read
from tests.support.events import event, member_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines
from tests.support.snapshots import snapshot

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


class Stored:
    """S3 with one object in it, as much of it as a restore asks for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get_object(self, Bucket: str, Key: str, Range: str = "bytes=0-") -> dict[str, Any]:  # noqa: N803 - boto3's
        assert f"s3://{Bucket}/{Key}" == SNAPSHOT
        first, last = Range.removeprefix("bytes=").split("-")
        part = self._data[int(first) : int(last) + 1 if last else None]
        body = StreamingBody(io.BytesIO(part), len(part))
        return {"Body": body, "ContentRange": f"bytes {first}-{last}/{len(self._data)}"}

    def generate_presigned_url(self, *_: object, **__: object) -> str:
        return "https://archive/signed"


def restorable(data: bytes) -> Restoration:
    """The verdict of the function's own code on the bytes of an object."""
    bucket = Bucket("journal")
    bucket.__dict__["_s3"] = Stored(data)
    return bucket.restorable(SNAPSHOT)


WHOLE = snapshot()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (WHOLE[:9000] + b"\1" + WHOLE[9001:], f"{SNAPSHOT} is damaged, its sha256 is another"),
        (WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]), f"{SNAPSHOT} is damaged, its sha256 is another"),
        (WHOLE[: len(WHOLE) // 2], f"cannot restore {SNAPSHOT}: .* it is cut off"),
        (WHOLE[: 2 * 4096 + 32], f"cannot restore {SNAPSHOT}: .* it is cut off"),
        (snapshot((b"users", b"orders")), f"cannot restore {SNAPSHOT}: it is a database of another program"),
        (b"SQLite format 3".ljust(16_384 + 32), f"cannot restore {SNAPSHOT}: .*no snapshot of etcd"),
    ],
    ids=[
        "damaged inside",
        "another sha256",
        "half",
        "two pages",
        "another program's bolt file",
        "no bolt file",
    ],
)
def test_a_damaged_or_a_foreign_file_is_refused_before_anything_is_made(
    data: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    monkeypatch.setattr(world.bucket, "restorable", lambda _: restorable(data))
    with pytest.raises(Refused, match=sentence):
        world.create(RestoreFrom=SNAPSHOT)
    assert (world.bucket.members, world.bucket.clusters, world.bucket.vault.kept) == ({}, {}, {})
    assert world.bucket.documents == {}


def test_a_whole_file_is_restored_with_the_sha256_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = restorable(WHOLE)
    assert found == Restoration("https://archive/signed", hashlib.sha256(WHOLE).hexdigest())
    world = World()
    monkeypatch.setattr(world.bucket, "restorable", lambda _: found)
    assert (
        read(base64.b64decode(world.create(RestoreFrom=SNAPSHOT)["UserData"])).before[-1][-1] == found.sha256
    )


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
