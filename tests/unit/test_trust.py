"""Certificates in the service: when they are made, who is shown what, and what is refused. On stand-ins."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from etcd_resize import pki, service
from etcd_resize.errors import EtcdResizeError, InvalidRequest, Refused
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import BUNDLE_FILES, REVOKED_KEY
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from etcd_resize.service.trust import CLIENT_FILES
from tests.support.events import WITH_TLS, cluster_properties, event, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines

FIRST, SECOND = "10.0.0.1", "10.0.0.2"


@dataclass
class Stack:
    """The events of a stack with TLS."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(now=1_795_000_000.0))
    bucket: FakeBucket = field(default_factory=FakeBucket)
    machines: FakeMachines = field(default_factory=FakeMachines)

    def __post_init__(self) -> None:
        self.etcd = FakeCluster(self.clock)

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        outside = service.Outside(
            self.etcd.connect, self.bucket, self.bucket, self.machines, self.clock, self.bucket.vault
        )
        return service.handle(outside, parse(sent), 60)

    def member(self, action: str, number: int, **changes: str) -> dict[str, Any]:
        identity = Identity("etcd", f"etcd-{number}", f"10.0.0.{number}", tls=True)
        before = ",".join(client_url(f"10.0.0.{one}", tls=True) for one in range(1, number))
        properties = member_properties(identity, before, **{**WITH_TLS, **changes})
        physical_id = None if action == "Create" else str(identity)
        return event(action, MEMBER, properties, physical_id=physical_id, old=properties)

    def bootstrapped(self) -> dict[str, str]:
        """etcd-1 runs, and the stack was created to its end."""
        answered = self.send(self.member("Create", 1))
        known = self.bucket.clusters["etcd"]
        self.bucket.clusters["etcd"] = replace(known, established=True)
        self.etcd = FakeCluster.bootstrapped(self.clock, [FIRST], name="etcd-", tls=True)
        self.etcd.cluster_id = known.cluster_id
        return answered

    @property
    def kept(self) -> dict[str, bytes]:
        return self.bucket.vault.kept

    def stored(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.kept[f"etcd/{name}"])
        return read


def document(answered: dict[str, str]) -> str:
    data = base64.b64decode(answered["UserData"])
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()


def test_the_first_member_brings_the_authority_and_its_machine_a_bundle_of_its_own() -> None:
    stack = Stack()
    answered = stack.send(stack.member("Create", 1))
    assert answered["PeerURL"] == "https://10.0.0.1:2380"
    (url, bundle), *others = stack.bucket.vault.lent.items()
    assert others == []
    told = document(answered)
    assert url in told
    assert hashlib.sha256(bundle).hexdigest() in told
    files = json.loads(bundle)
    assert set(files) == set(BUNDLE_FILES)
    assert files["ca.pem"] == stack.stored("pki/authority")["certificate"]
    record = stack.bucket.members["etcd/etcd-1@10.0.0.1"]
    assert record.expires == pytest.approx(stack.clock.now + pki.CERTIFICATE_DAYS * 86400, abs=1)


def test_no_key_is_in_an_answer_or_in_the_journal() -> None:
    stack = Stack()
    answered = stack.send(stack.member("Create", 1))
    private = [
        text for text in (document(answered), repr(answered), repr(stack.bucket.members)) if "PRIVATE" in text
    ]
    assert private == []


def test_the_authority_of_a_cluster_is_made_once() -> None:
    stack = Stack()
    stack.send(stack.member("Create", 1))
    before = stack.kept["etcd/pki/authority"]
    stack.send(stack.member("Create", 1))
    assert stack.kept["etcd/pki/authority"] == before


def test_the_answer_with_the_url_is_not_echoed_and_others_are() -> None:
    stack = Stack()
    assert parse(stack.member("Create", 1)).secret
    assert not parse(stack.member("Create", 1, Tls="off")).secret
    guard = cluster_properties("etcd", [FIRST], Endpoints="https://10.0.0.1:2379", **WITH_TLS)
    assert not parse(event("Create", CLUSTER, guard)).secret


def test_the_function_shows_a_certificate_of_the_authority_and_the_user_gets_a_bundle() -> None:
    stack = Stack()
    stack.bootstrapped()
    stack.send(stack.member("Create", 2))
    shown = stack.etcd.shown[-1]
    assert shown
    assert shown.authority == stack.stored("pki/authority")["certificate"]
    assert {f"etcd/client/{name}" for name in CLIENT_FILES} <= set(stack.kept)
    assert stack.kept["etcd/client/client-key.pem"].decode() != shown.key


def test_another_generation_renews_what_the_function_and_the_user_show() -> None:
    stack = Stack()
    stack.bootstrapped()
    guard = cluster_properties("etcd", [FIRST], Endpoints=client_url(FIRST, tls=True), **WITH_TLS)
    stack.send(event("Create", CLUSTER, guard))
    first, bundle = stack.etcd.shown[-1], stack.kept["etcd/client/client.pem"]
    stack.send(event("Update", CLUSTER, guard, old=guard, physical_id="etcd/cluster"))
    assert (stack.etcd.shown[-1], stack.kept["etcd/client/client.pem"]) == (first, bundle)
    renewed = guard | {"TlsGeneration": "2"}
    stack.send(event("Update", CLUSTER, renewed, old=guard, physical_id="etcd/cluster"))
    assert stack.stored("pki/function")["generation"] == 2
    assert stack.kept["etcd/client/client.pem"] != bundle


def test_another_generation_alone_renews_them_without_a_look_at_etcd() -> None:
    stack = Stack()
    stack.bootstrapped()
    guard = cluster_properties("etcd", [FIRST], Endpoints=client_url(FIRST, tls=True), **WITH_TLS)
    answered = stack.send(event("Create", CLUSTER, guard))
    shown = stack.kept["etcd/client/client.pem"]
    stack.etcd.down = {member.id for member in stack.etcd.members}
    renewed = guard | {"TlsGeneration": "2"}
    sent = event("Update", CLUSTER, renewed, physical_id="etcd/cluster", old=guard)
    assert stack.send(sent) == answered | {"Outdated": "etcd-1 (TlsGeneration)"}
    assert stack.stored("pki/function")["generation"] == 2
    assert stack.kept["etcd/client/client.pem"] != shown


def test_who_has_left_is_on_the_list_that_the_machines_take() -> None:
    stack = Stack()
    stack.bootstrapped()
    answered = stack.send(stack.member("Create", 2))
    serial = stack.bucket.members["etcd/etcd-2@10.0.0.2"].serial
    stack.send(stack.member("Delete", 2))
    assert set(stack.stored("pki/revoked")) == {serial}
    assert "X509 CRL" in stack.etcd.published[REVOKED_KEY]
    assert answered["MemberId"]
    stack.clock.sleep(pki.CERTIFICATE_DAYS * 86400 + 10)
    stack.send(stack.member("Create", 3, Endpoints=client_url(FIRST, tls=True)))
    stack.send(stack.member("Delete", 3, Endpoints=client_url(FIRST, tls=True)))
    assert serial not in stack.stored("pki/revoked"), "it is over by itself"


def test_tls_cannot_be_switched_under_a_member_that_is_there() -> None:
    stack = Stack()
    stack.send(stack.member("Create", 1))
    with pytest.raises(
        Refused, match=r"^Tls cannot be changed under a cluster that is there: etcd-1 serves https://"
    ):
        stack.send(stack.member("Update", 1, Tls="off"))


def test_without_an_authority_nobody_joins_and_the_sentence_says_where_it_was_looked_for() -> None:
    stack = Stack()
    with pytest.raises(
        Refused, match=r"^there is no authority at etcd/pki/authority: put that of the cluster"
    ):
        stack.send(stack.member("Create", 2))
    joining = {"Bootstrapped": "false", "ExistingTlsBucketKey": "theirs/etcd/authority.json"}
    with pytest.raises(Refused, match=r"^there is no authority at theirs/etcd/authority.json: put that"):
        stack.send(stack.member("Create", 2, **joining))
    stack.kept["theirs/etcd/authority.json"] = b"{}"
    with pytest.raises(
        Refused, match=r"^the authority at theirs/\S+ cannot be used: it is no JSON with the texts"
    ):
        stack.send(stack.member("Create", 2, **joining))


def test_members_of_an_adopted_authority_demand_no_common_name_of_their_peers() -> None:
    stack = Stack()
    stack.bootstrapped()
    stack.kept["theirs/authority"] = stack.kept["etcd/pki/authority"]
    adopted = {"Bootstrapped": "false", "ExistingTlsBucketKey": "theirs/authority"}
    assert "ETCD_PEER_CERT_ALLOWED_CN" in document(stack.send(stack.member("Create", 2)))
    stack.send(stack.member("Delete", 2))
    stack.clock.sleep(1)
    assert "ETCD_PEER_CERT_ALLOWED_CN" not in document(stack.send(stack.member("Create", 2, **adopted)))


@pytest.mark.parametrize("dialect", ["ignition", "coreos-cloudinit"])
def test_a_dialect_that_brings_no_certificates_is_refused_before_anything_is_changed(dialect: str) -> None:
    stack = Stack()
    stack.bootstrapped()
    with pytest.raises(
        InvalidRequest, match=r"cannot fetch certificates: set Tls=off, or take the dialect cloud-init"
    ):
        stack.send(stack.member("Create", 2, Dialect=dialect))
    assert len(stack.etcd.members) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Tls": "yes"}, "Tls 'yes' is neither on nor off"),
        ({"TlsGeneration": "0"}, "TlsGeneration '0' is not a whole number from 1 to 9999"),
        ({"ExistingTlsBucketKey": "no-slash"}, "'no-slash' is not an object in a bucket, bucket/key"),
        ({"Endpoints": "http://10.0.0.9:2379"}, "Endpoints has 'http://10.0.0.9:2379' while Tls is on: set Tls=off"),
        ({"Tls": "off"}, "Endpoints has 'https://10.0.0.1:2379' while Tls is off: set Tls=on"),
        ({"ExistingTlsBucketKey": "theirs/key"}, "'theirs/key' is for ExistingEndpoints: a new cluster has a new"),
    ],
)  # fmt: skip
def test_wrong_properties_end_in_one_sentence(changes: dict[str, str], reason: str) -> None:
    stack = Stack()
    with pytest.raises(InvalidRequest) as said:
        stack.send(stack.member("Create", 2, **changes))
    assert reason in str(said.value)


def test_a_bucket_that_refuses_the_keys_is_one_sentence() -> None:
    stack = Stack()
    stack.bucket.vault.broken = "cannot write etcd/pki/authority in the bucket b: AccessDenied"
    with pytest.raises(EtcdResizeError, match="AccessDenied"):
        stack.send(stack.member("Create", 1))
    assert stack.bucket.members == {}


def test_a_voters_leave_revokes_it_too() -> None:
    stack = Stack()
    stack.bootstrapped()
    answered = stack.send(stack.member("Create", 2))
    stack.etcd.boot(SECOND, "etcd-2")
    identity = Identity("etcd", "etcd-2", SECOND, tls=True)
    voter = voter_properties(identity, answered["MemberId"], client_url(FIRST, tls=True), **WITH_TLS)
    stack.send(event("Create", VOTER, voter))
    serial = stack.bucket.members["etcd/etcd-2@10.0.0.2"].serial
    stack.clock.sleep(10)
    stack.send(event("Delete", VOTER, voter, physical_id=str(identity)))
    assert set(stack.stored("pki/revoked")) == {serial}
