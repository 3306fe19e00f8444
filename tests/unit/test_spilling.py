"""UserData that does not fit an answer is kept in the bucket and fetched by one that does. Every dialect, on fakes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from etcd_resize import answer, service, userdata
from etcd_resize.errors import REASON_LIMIT, InvalidRequest, Refused
from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url
from etcd_resize.request import MEMBER, parse
from tests.support.events import event, member_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeGateway, FakeMachines

NEWCOMER = Identity("etcd", "etcd-9", "10.0.0.9")
ADDRESSES = [f"10.0.0.{number}" for number in range(1, 7)]
PRESIGNED = 1800
"""Bytes of the longest presigned URL that is to fit: a session token of 1,200 characters is a long one."""


def padding(size: int) -> str:
    """Text that gzip cannot make much shorter than its half."""
    return "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(256))[:size]


BASES: dict[str, Callable[[int], str]] = {
    "cloud-init": lambda size: f"#cloud-config\nmotd: {padding(size)}\n",
    "coreos-cloudinit": lambda size: (
        f"#cloud-config\nwrite_files:\n- path: /etc/motd\n  content: x{padding(size)}\n"
    ),
    "ignition": lambda size: json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "storage": {"files": [{"path": "/etc/motd", "contents": {"source": f"data:,{padding(size)}"}}]},
        }
    ),
}
DIALECTS = pytest.mark.parametrize("dialect", userdata.RENDERERS)


@dataclass
class World:
    """A cluster of ``size`` members, and what is asked of it."""

    size: int = 3
    clock: FakeClock = field(default_factory=FakeClock)
    bucket: FakeBucket = field(default_factory=FakeBucket)

    def __post_init__(self) -> None:
        self.etcd = FakeCluster.bootstrapped(self.clock, ADDRESSES[: self.size])

    def outside(self) -> service.Outside:
        return service.Outside(
            self.etcd.connect, self.bucket, self.bucket, FakeMachines(), self.clock, self.bucket.vault
        )

    def create(self, dialect: str, base: str) -> dict[str, Any]:
        before = ",".join(map(client_url, ADDRESSES[: self.size]))
        changes = {"Dialect": dialect, "BaseUserData": base64.b64encode(base.encode()).decode()}
        return event("Create", MEMBER, member_properties(NEWCOMER, before, Bootstrapped="false", **changes))

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        return service.handle(self.outside(), parse(sent), 60)


def document(answered: dict[str, str]) -> bytes:
    sent = base64.b64decode(answered["UserData"])
    return gzip.decompress(sent) if sent.startswith(b"\x1f\x8b") else sent


def size_of(sent: dict[str, Any], answered: dict[str, str]) -> int:
    physical_id = str(NEWCOMER)
    left = answer.room(physical_id, sent["StackId"], sent["LogicalResourceId"], answered)
    return answer.room(physical_id, sent["StackId"], sent["LogicalResourceId"], {}) - left


@DIALECTS
def test_an_answer_is_filled_to_its_limit_and_what_is_one_over_is_kept_in_the_bucket(dialect: str) -> None:
    """The largest base that still fits, and the next: found by halving, so the limit is hit to a byte or a few."""
    fits, spills = 0, 8192
    while spills - fits > 1:
        middle = (fits + spills) // 2
        world = World()
        answered = world.send(world.create(dialect, BASES[dialect](middle)))
        fits, spills = (fits, middle) if world.bucket.documents else (middle, spills)
    world = World()
    sent = world.create(dialect, BASES[dialect](fits))
    answered = world.send(sent)
    empty = answer.room(str(NEWCOMER), sent["StackId"], sent["LogicalResourceId"], {})
    assert empty - 8 <= size_of(sent, answered) <= empty
    assert padding(fits).encode() in document(answered)
    world = World()
    answered = world.send(world.create(dialect, BASES[dialect](spills)))
    (kept,) = world.bucket.documents.values()
    assert padding(spills).encode() in kept
    assert padding(spills).encode() not in document(answered)


@DIALECTS
def test_the_short_document_names_the_url_and_the_checksum(dialect: str) -> None:
    world = World()
    answered = world.send(world.create(dialect, BASES[dialect](8192)))
    ((url, kept),) = world.bucket.documents.items()
    short = document(answered).decode()
    assert url in short
    assert hashlib.sha256(kept).hexdigest() in short
    assert len(world.etcd.members) == 4


@DIALECTS
def test_the_short_document_fits_beside_seven_members_with_the_longest_url_there_is(dialect: str) -> None:
    world = World(size=6)
    token = base64.b64encode(b"".join(hashlib.sha512(bytes([n])).digest() for n in range(25)))[:PRESIGNED]
    world.bucket.signed_with = token.decode()
    answered = world.send(world.create(dialect, BASES[dialect](8192)))
    assert token.decode() in document(answered).decode()


@DIALECTS
def test_a_create_that_comes_again_is_answered_word_for_word(dialect: str) -> None:
    """A presigned URL is another one each time; the one that was answered first stays."""
    world = World()
    sent = world.create(dialect, BASES[dialect](8192))
    first = world.send(sent)
    assert world.send(sent) == first
    update = {**sent, "RequestType": "Update", "PhysicalResourceId": str(NEWCOMER), "RequestId": "later"}
    assert world.send({**update, "OldResourceProperties": sent["ResourceProperties"]}) == first
    assert len(world.bucket.documents) == 1


def test_a_url_is_asked_for_once_an_event() -> None:
    """What was measured before the learner was added is what is answered."""
    world = World()
    world.send(world.create("cloud-init", BASES["cloud-init"](8192)))
    assert len(world.bucket.documents) == 1


def test_the_same_create_at_the_same_time_answers_with_one_url(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    sent = world.create("cloud-init", BASES["cloud-init"](8192))
    add, answers = FakeGateway.add_learner, []

    def add_and_be_overtaken(self: FakeGateway, peer_url: str) -> None:
        monkeypatch.setattr(FakeGateway, "add_learner", add)
        add(self, peer_url)
        answers.append(world.send(sent))  # the other one comes to its end in between

    monkeypatch.setattr(FakeGateway, "add_learner", add_and_be_overtaken)
    answers.append(world.send(sent))
    assert answers[0] == answers[1]
    assert len(world.bucket.documents) == 2


def test_a_bucket_that_refuses_adds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def refuse(identity: Identity, kept: bytes) -> str:
        raise Refused(f"cannot keep {identity} ({len(kept)} bytes) in the bucket: AccessDenied")

    monkeypatch.setattr(world.bucket, "keep", refuse)
    with pytest.raises(Refused, match="cannot keep etcd/etcd-9"):
        world.send(world.create("cloud-init", BASES["cloud-init"](8192)))
    assert world.etcd.history == []
    assert world.bucket.members == {}


def test_what_does_not_fit_even_so_is_refused_and_adds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("etcd_resize.answer.ANSWER_LIMIT", 1600)
    with pytest.raises(
        InvalidRequest, match=r"the UserData of etcd/etcd-9@10\.0\.0\.9 is too large"
    ) as refused:
        world.send(world.create("cloud-init", BASES["cloud-init"](8192)))
    assert str(refused.value).endswith("shorten the names")
    assert len(str(refused.value)) <= REASON_LIMIT
    assert world.etcd.history == []
    assert world.bucket.members == {}


def test_what_fits_is_not_kept_in_the_bucket() -> None:
    world = World()
    world.send(world.create("cloud-init", "#cloud-config\n{}\n"))
    assert world.bucket.documents == {}
