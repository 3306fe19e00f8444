"""The contracts of the journal, the snapshots and the machines: the same tests for the fakes and for S3 and EC2."""

from __future__ import annotations

import hashlib
import os
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from etcd_resize.aws import Bucket, Ec2Machines
from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.identity import Identity
from etcd_resize.model.records import Accepted, ClusterRecord, MemberRecord
from playground.local import Playground
from tests.support.fakes import FakeBucket

pytestmark = pytest.mark.stack

WHO = Identity("etcd", "etcd-2", "10.0.0.2")
RECORD = MemberRecord(
    "added", "arn:stack", "request", 1.5, 7, (("Name", "etcd-2"), ("UserData", "e30=")), "i-1"
)


@pytest.fixture
def aws(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    for name, value in playground.settings.items():
        monkeypatch.setenv(name, value)
    return playground


@pytest.fixture(params=["fake", "real"])
def bucket(request: pytest.FixtureRequest, aws: Playground) -> Any:
    if request.param == "fake":
        return FakeBucket()
    name = f"journal-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}"
    aws.client("s3").create_bucket(Bucket=name)
    return Bucket(name)


def test_what_was_recorded_comes_back(bucket: Any) -> None:
    assert bucket.member(WHO) is None
    bucket.record_member(WHO, RECORD)
    assert bucket.member(WHO) == RECORD


def test_a_record_is_replaced_only_as_it_was_read(bucket: Any) -> None:
    assert bucket.member(WHO) is None
    assert bucket.replace_member(WHO, RECORD)
    assert not bucket.replace_member(WHO, replace(RECORD, state="left"))  # it was read when there was none
    assert bucket.member(WHO) == RECORD
    bucket.record_member(WHO, replace(RECORD, state="left"))
    assert not bucket.replace_member(WHO, RECORD)
    assert bucket.member(WHO).state == "left"
    assert bucket.replace_member(WHO, RECORD)


def test_a_cluster_s_record_comes_back(bucket: Any) -> None:
    assert bucket.cluster("etcd") is None
    accepted = Accepted(3, ("http://10.0.0.1:2379",), (("Leader", "m1"),))
    record = ClusterRecord(
        2**63, established=True, accepted=(accepted, replace(accepted, size=2)), stack_id="arn"
    )
    bucket.record_cluster("etcd", record)
    assert bucket.cluster("etcd") == record


def test_members_are_found_by_their_address(bucket: Any) -> None:
    bucket.record_member(WHO, RECORD)
    bucket.record_member(Identity("etcd", "old", "10.0.0.2"), RECORD)
    bucket.record_member(Identity("etcd", "near", "110.0.0.2"), RECORD)
    bucket.record_member(Identity("other", "etcd-2", "10.0.0.2"), RECORD)
    found = bucket.recorded("etcd", "10.0.0.2")
    assert sorted(identity.name for identity, _ in found) == ["etcd-2", "old"]
    assert sorted(identity.name for identity, _ in bucket.recorded("etcd")) == ["etcd-2", "near", "old"]


def test_a_snapshot_is_kept_byte_for_byte(aws: Playground) -> None:
    aws.client("s3").create_bucket(Bucket="snapshots")
    chunks = [os.urandom(1 << 20) for _ in range(18)]  # three parts, the last one short
    where = Bucket("snapshots").store("etcd", "now", iter([*chunks, b"", b"end"]))
    assert where == "s3://snapshots/etcd/snapshots/now.db"
    stored = aws.client("s3").get_object(Bucket="snapshots", Key="etcd/snapshots/now.db")["Body"].read()
    assert stored == b"".join(chunks) + b"end"


@pytest.mark.parametrize("mebibytes", [1, 18])
def test_a_snapshot_that_breaks_off_leaves_nothing(aws: Playground, mebibytes: int) -> None:
    def breaking() -> Iterator[bytes]:
        yield from (os.urandom(1 << 20) for _ in range(mebibytes))
        raise Retryable("the snapshot broke off")

    s3, name = aws.client("s3"), f"broken-{mebibytes}"
    s3.create_bucket(Bucket=name)
    with pytest.raises(Retryable, match="broke off"):
        Bucket(name).store("etcd", "now", breaking())
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0
    assert s3.list_multipart_uploads(Bucket=name).get("Uploads", []) == []


def test_a_snapshot_s_parts_are_as_large_as_s3_wants_them_though_its_chunks_are_small(
    aws: Playground,
) -> None:
    """A short read was once taken for the end of a small file: all was read into memory, and sent in one piece."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="parts")
    chunk = os.urandom(32_768)  # what etcd sends at once
    Bucket("parts").store("etcd", "now", iter([chunk] * 576))  # 18 MiB
    etag = s3.head_object(Bucket="parts", Key="etcd/snapshots/now.db")["ETag"].strip('"')
    assert etag.endswith("-3"), "the number of parts"


def test_what_is_no_snapshot_is_not_restored(aws: Playground) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="foreign")
    s3.put_object(Bucket="foreign", Key="text.db", Body=b"not a database" * 1000)
    s3.put_object(Bucket="foreign", Key="zeros.db", Body=bytes(16_384 + 32))
    for key, sentence in {
        "text.db": "cannot restore s3://foreign/text.db: it has 14000 bytes",
        "zeros.db": "cannot restore s3://foreign/zeros.db: it does not start as etcd's database does",
        "nothing.db": "cannot read s3://foreign/nothing.db, is it there",
    }.items():
        with pytest.raises(Refused, match=sentence):
            Bucket("journal").restorable(f"s3://foreign/{key}")


def test_a_document_is_kept_byte_for_byte_and_its_url_needs_no_credentials(
    bucket: Any, aws: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = bytes(range(256)) * 300
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps the credentials that it found first
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")  # a signature is verified by the local S3 too: these it knows
    url = bucket.keep(WHO, document)
    if isinstance(bucket, FakeBucket):
        assert bucket.documents == {url: document}
        return
    digest = hashlib.sha256(document).hexdigest()[:16]
    key = f"etcd/userdata/etcd-2@10.0.0.2-{digest}"
    assert aws.client("s3").get_object(Bucket=bucket._name, Key=key)["Body"].read() == document
    trusted = ssl.create_default_context(cafile=aws.settings["AWS_CA_BUNDLE"])
    for name in aws.settings:
        monkeypatch.delenv(name)
    with urllib.request.urlopen(url, context=trusted) as answer:  # noqa: S310 — it is https
        assert answer.read() == document


def test_a_bucket_that_is_not_there_is_one_sentence(aws: Playground) -> None:
    del aws
    with pytest.raises(
        Refused, match=r"cannot write etcd/members/etcd-2@10\.0\.0\.2\.json in the bucket nowhere: "
    ):
        Bucket("nowhere").record_member(WHO, RECORD)
    with pytest.raises(
        Refused, match=r"cannot keep etcd/userdata/etcd-2@10\.0\.0\.2-\w{16} in the bucket nowhere: "
    ):
        Bucket("nowhere").keep(WHO, b"document")


def test_a_machine_that_is_gone_need_not_be_released(aws: Playground) -> None:
    del aws
    machines = Ec2Machines()
    machines.check()
    machines.unprotect("i-0123456789abcdef0")
    with pytest.raises(
        Refused, match=r"cannot protect the machine i-0123456789abcdef0: InvalidInstanceID\.NotFound"
    ):
        machines.protect("i-0123456789abcdef0")


def test_an_ec2_that_cannot_be_reached_is_one_sentence_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "https://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        Refused, match=r"the EC2 API cannot be reached from the function .* ProtectMachines=false"
    ):
        Ec2Machines().check()
