"""A stack with TLS from outside: the user's bundle, a renewal under writes, and no key where none belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from etcd_resize.model.identity import Credentials
from etcd_resize.model.machine import REVOKED_KEY
from etcd_resize.model.urls import client_url
from etcd_resize.service.trust import CLIENT_FILES
from playground import papers
from playground.connections import Connections
from playground.local import Playground
from tests.support.addresses import TESTS
from tests.support.containers import beside
from tests.support.desk import Desk
from tests.support.etcd import program
from tests.support.pages import blocks
from tests.support.stacks import World
from tests.support.tls import Issuer

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PAGE = blocks("docs/tls.md")
(BUNDLE,) = PAGE["Your own bundle"]
(JOIN,) = PAGE["A cluster with TLS that others have made"]


def test_certificates_are_renewed_and_no_key_is_seen_anywhere(
    playground: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    world = new_world(playground, "sealed")
    world.resize(1)
    desk, bucket = Desk(world, tmp_path), papers.bucket(playground, "sealed")
    here = {"<SnapshotsBucket>/etcd": f"{bucket}/sealed", "https://10.0.0.5:2379": world.endpoints[0]}
    assert ", sealed-1, " in desk.type(BUNDLE, here)
    bundle = fetched(desk)
    s3 = playground.client("s3")

    def stored(name: str) -> str:
        return str(s3.get_object(Bucket=bucket, Key=f"sealed/{name}")["Body"].read().decode())

    with world.written_to():
        world.resize(2, TlsGeneration="2")
        desk.type([playground.outputs("sealed")["ClientBundleCommand"]])
        renewed = fetched(desk)
        world.resize(1)
    assert serial(renewed) != serial(bundle)
    assert renewed.authority == bundle.authority
    assert [world.view().named("sealed-1") is not None, len(world.view().members)] == [True, 1]
    revoked = set(json.loads(stored("pki/revoked")))
    connections = Connections(lambda: renewed)
    end = REVOKED_KEY.encode() + b"\0"
    told = connections.read(world.endpoints[0], REVOKED_KEY.encode(), end, 5)[REVOKED_KEY.encode()]
    connections.close()
    listed = x509.load_pem_x509_crl(told)
    assert {f"{one.serial_number:x}" for one in listed} == revoked
    assert len(revoked) == 1

    encrypted = s3.head_object(Bucket=bucket, Key="sealed/pki/authority")
    assert encrypted["ServerSideEncryption"] == "aws:kms"

    key = secret_of(json.loads(stored("pki/authority"))["key"])
    others = [secret_of(json.loads(stored("pki/function"))["key"]), secret_of(renewed.key)]
    world.delete()
    seen = everything_that_was_written(playground, world)
    assert all(seen.values()), "nothing to look through"
    for secret in (key, *others):
        assert [place for place, text in seen.items() if secret in text] == []


def test_a_cluster_with_tls_that_others_have_made_is_joined_with_its_authority(
    playground: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    theirs, strangers = Issuer("theirs", tmp_path / "theirs"), Issuer("theirs", tmp_path / "strangers")
    theirs.peers = ""
    bucket = "my-bucket"
    playground.client("s3").create_bucket(Bucket=bucket)
    texts = {"certificate": strangers.authority.certificate, "key": strangers.authority.key}
    playground.client("s3").put_object(Bucket=bucket, Key="wrong.json", Body=json.dumps(texts).encode())
    with beside(playground, TESTS, 1) as (address,):
        (there,) = theirs.cluster_of(program("3.5"), {"theirs-1": address})
        try:
            seed = client_url(address, tls=True)
            wrong = new_world(playground, "guest")
            refused = wrong.deploy(
                1, ExistingTlsBucketKey=f"{bucket}/wrong.json", TimeoutSeconds="5", ExistingEndpoints=seed
            )
            assert refused.status == "ROLLBACK_COMPLETE"
            assert "TLS: the member's certificate is not of the authority that we know" in refused.reason
            wrong.end()
            right = new_world(playground, "fourth")
            right.papers = lambda: theirs.client("somebody")
            desk = Desk(right, tmp_path / "desk")
            (desk.folder / "ca.pem").write_text(theirs.authority.certificate)
            (desk.folder / "ca-key.pem").write_text(theirs.authority.key)
            desk.deploy(JOIN, {"https://10.0.0.5:2379,https://10.0.0.6:2379": seed})
            assert right.names([seed]) == ["fourth-1", "theirs-1"]
            right.delete()
            assert right.names([seed]) == ["theirs-1"]
        finally:
            there.kill()


def fetched(desk: Desk) -> Credentials:
    """The bundle that lies on the desk."""
    folder = desk.folder / "etcd-client"
    assert sorted(path.name for path in folder.iterdir()) == sorted(CLIENT_FILES)
    return Credentials(*((folder / name).read_text() for name in CLIENT_FILES))


def serial(credentials: Credentials) -> int:
    return x509.load_pem_x509_certificate(credentials.certificate.encode()).serial_number


def secret_of(key: str) -> str:
    """A line of a key in PEM that is in no other one: the last but one has nothing of the curve's names in it."""
    return key.strip().splitlines()[-2]


def everything_that_was_written(playground: Playground, world: World) -> dict[str, str]:
    """Logs, events, answers, UserData and stack events, by where they stand; not what lies in the bucket."""
    places = {
        str(path.relative_to(playground.directory)): path.read_text(errors="replace")
        for pattern in (
            "logs/*",
            "journal.jsonl",
            "cloud/*.jsonl",
            "machines/*/user-data",
            "machines/*/etcd.log",
        )
        for path in playground.directory.glob(pattern)
    }
    client = playground.client("cloudformation")
    for stack in client.list_stacks()["StackSummaries"]:
        if stack["StackName"].startswith(world.stack):
            places[stack["StackName"]] = json.dumps(
                [
                    client.describe_stacks(StackName=stack["StackId"])["Stacks"],
                    client.describe_stack_events(StackName=stack["StackId"])["StackEvents"],
                ],
                default=str,
            )
    return places
