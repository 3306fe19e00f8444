"""Random resizes, deaths and repeated events on real etcd: a smaller run of ``test_model_of_resizes``.

CloudFormation is played by hand, with its roll-backs, its three tries and its forgetting. Whatever happened: once all
machines run, a few retries lead to the size that is wanted, and every acknowledged write is there.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etcd_resize import service
from etcd_resize.errors import EtcdResizeError
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from playground.connections import Connections
from playground.writer import Keys, Writer, read_back
from tests.support.by_hand import environment
from tests.support.etcd import Etcd, program, view
from tests.support.events import cluster_properties, event, instance_of, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeMachines

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PARENT = "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd/00000000-0000-0000-0000-000000000001"
LARGEST, STEPS, TRIES = 3, 6, 3
MADE_UP = "etcd-Made-UP1234567890"


@dataclass
class Child:
    """A nested stack: a member, what its Create was answered, and its machine once it is there."""

    identity: Identity
    endpoints: str
    stack_id: str
    answer: dict[str, str] = field(default_factory=dict)
    machine: Etcd | None = None


class CloudFormation:
    """The stack ``etcd`` of one member, and all that happens to it."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str], dice: random.Random) -> None:
        self.etcd, self.folder, self.dice = etcd, folder, dice
        self.addresses = iter(addresses)
        self.lives = itertools.count(1)
        self.bucket, self.ec2 = FakeBucket(), FakeMachines()
        bucket = self.bucket
        self.outside = service.Outside(EtcdGateway, bucket, bucket, self.ec2, time, bucket.vault)
        self.children: list[Child] = []
        self.kept: list[Child] = []
        self.last: dict[str, Any] | None = None
        self.story: list[str] = []
        self.terminating = threading.Lock()
        assert self.resize(1)

    # --- what happens ---

    def step(self) -> None:
        """One thing of those that can happen."""
        another = self.dice.choice([size for size in range(1, LARGEST + 1) if size != len(self.children)])
        things: list[tuple[int, Callable[[], object]]] = [
            (3, lambda: self.resize(another)),
            (2, lambda: self.resize_while_a_machine_is_gone(another)),
            (2, self.a_machine_dies),
            (1, self.a_machine_comes_back),
            (1, self.the_last_event_comes_twice),
            (1, self.a_delete_for_what_never_was),
        ]
        weights, choices = zip(*things, strict=True)
        self.dice.choices(choices, weights)[0]()

    def resize(self, size: int) -> bool:
        """``sam deploy``: whether the stack has that size now."""
        self.story.append(f"resize from {len(self.children)} to {size}")
        if size >= len(self.children):
            return self._grow(size)
        return self._shrink(size)

    def resize_while_a_machine_is_gone(self, size: int) -> None:
        """It dies some time after the resize has begun, and comes back some time later."""
        child, begin, length = self.dice.choice(self.children), self.dice.random(), 2 * self.dice.random()
        over = threading.Event()

        def fate() -> None:
            over.wait(begin)
            machine = child.machine
            if machine is None or not machine.running:
                return
            self.story.append(f"{child.identity.name} dies in the midst")
            machine.kill()
            over.wait(length)
            with self.terminating:
                if child.machine is machine:
                    self.story.append(f"{child.identity.name} is back")
                    machine.start()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(fate)
            self.resize(size)
            over.set()
            done.result()

    def a_machine_dies(self) -> None:
        if running := [child for child in self.children if child.machine and child.machine.running]:
            child = self.dice.choice(running)
            self.story.append(f"{child.identity.name} dies")
            assert child.machine
            child.machine.kill()

    def a_machine_comes_back(self) -> None:
        for child in [*self.children, *self.kept]:
            if child.machine and not child.machine.running:
                self.story.append(f"{child.identity.name} comes back")
                child.machine.start()
                return

    def the_last_event_comes_twice(self) -> None:
        assert self.last
        self._send(self.last)

    def a_delete_for_what_never_was(self) -> None:
        """As after a Create that never answered: an ID of CloudFormation's own making, properties of a member."""
        child = self.dice.choice(self.children)
        before = {member.id for member in self._members()}
        stranger = child.stack_id.replace("/etcd-", "/other-")
        for resource in (VOTER, MEMBER):
            sent = self._event("Delete", resource, child)
            assert self._send({**sent, "PhysicalResourceId": MADE_UP, "StackId": stranger})
        after = {member.id for member in self._members()}
        assert not before or not after or before == after

    def end(self) -> None:
        """All machines are started; a few retries must lead to each size."""
        for child in self.children:
            if child.machine and not child.machine.running:
                child.machine.start()
        for wanted in (LARGEST, 1):
            assert any(self.resize(wanted) for _ in range(4)), f"{wanted} is not reached"
            names = sorted(member.name for member in self._members())
            assert names == [f"etcd-{number}" for number in range(1, wanted + 1)]
            assert self.ec2.protected == {instance_of(child.identity) for child in self.children}
        assert not any(member.is_learner for member in self._members())

    def stop(self) -> None:
        for child in [*self.children, *self.kept]:
            if child.machine:
                child.machine.kill()

    # --- CloudFormation's part ---

    def _grow(self, size: int) -> bool:
        before = list(self.children)
        for number in range(len(before) + 1, size + 1):
            child = self._new_child(number)
            self.children.append(child)
            if not self._create(child):
                break
        else:
            if self._guard("Update" if before else "Create", size, before):
                return True
        for child in reversed(self.children[len(before) :]):
            self._delete(child)
        self.children = before
        return False

    def _create(self, child: Child) -> bool:
        if not self._send(self._event("Create", MEMBER, child)):
            return False
        child.machine = Etcd(self.etcd, self.folder / child.identity.address, environment(child.answer))
        return self._send(self._event("Create", VOTER, child))

    def _shrink(self, size: int) -> bool:
        before = list(self.children)
        if not self._guard("Update", size, before):
            assert self._guard("Update", len(before), before[:size]), "a rollback must not be refused"
            return False
        self.children = before[:size]
        for child in reversed(before[size:]):
            self._delete(child, TRIES)
        return True

    def _delete(self, child: Child, tries: int = 1) -> None:
        for _ in range(tries):
            voter = not child.answer or self._send(self._event("Delete", VOTER, child))
            if instance_of(child.identity) not in self.ec2.protected:
                self._terminate(child)
            if self._send(self._event("Delete", MEMBER, child)) and voter:
                return
        self.story.append(f"{child.identity.name} is forgotten")
        if child.machine:
            self.kept.append(child)

    def _terminate(self, child: Child) -> None:
        with self.terminating:
            if child.machine:
                child.machine.kill()
                child.machine = None

    def _guard(self, action: str, size: int, before: list[Child]) -> bool:
        everybody = max(self.children, before, key=len)
        wanted = cluster_properties("etcd", [child.identity.address for child in everybody[:size]])
        old = cluster_properties("etcd", [child.identity.address for child in before]) if before else None
        sent = event(action, CLUSTER, wanted, old=old, physical_id="etcd/cluster", stack_id=PARENT)
        return self._send(sent)

    def _send(self, sent: dict[str, Any]) -> bool:
        self.last = sent
        told = (
            f"{sent['RequestType']} {sent['LogicalResourceId']} {sent['ResourceProperties'].get('Name', '')}"
        )
        try:
            answer = service.handle(self.outside, parse(sent), budget=8)
        except EtcdResizeError as reason:
            self.story.append(f"{told}: {reason}")
            return False
        self.story.append(told)
        for child in self.children:
            if sent["StackId"] == child.stack_id and sent["RequestType"] == "Create" and "MemberId" in answer:
                child.answer = answer
        return True

    def _new_child(self, number: int) -> Child:
        life = next(self.lives)
        identity = Identity("etcd", f"etcd-{number}", next(self.addresses))
        name = f"etcd-Member{number}-{life:012d}"
        stack_id = f"arn:aws:cloudformation:eu-west-1:000000000000:stack/{name}/{life:032d}"
        return Child(identity, ",".join(self.endpoints()), stack_id)

    def _event(self, action: str, resource: str, child: Child) -> dict[str, Any]:
        identity, endpoints = child.identity, child.endpoints
        properties = (
            member_properties(identity, endpoints)
            if resource == MEMBER
            else voter_properties(identity, child.answer.get("MemberId", "1"), endpoints)
        )
        physical_id = None if action == "Create" else str(identity)
        return event(action, resource, properties, physical_id=physical_id, stack_id=child.stack_id)

    # --- what can be seen ---

    def endpoints(self) -> list[str]:
        """The client URLs of the members there should be."""
        return [client_url(child.identity.address) for child in self.children]

    def _members(self) -> tuple[Member, ...]:
        """What is listed; nothing without a quorum, when a member that was started again answers to nobody."""
        try:
            return view(self.endpoints()).members
        except EtcdResizeError:
            return ()


@pytest.fixture
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CloudFormation]:
    monkeypatch.setattr("etcd_resize.planning.HEALTH_PATIENCE", 2.0)
    seed: int = request.param
    subnet = request.getfixturevalue("addresses")[0].rpartition(".")[0]
    addresses = [f"{subnet}.{last}" for last in range(11, 250)]
    made = CloudFormation(program("3.4" if seed % 2 else "3.5"), tmp_path, addresses, random.Random(seed))  # noqa: S311
    yield made
    made.stop()


@pytest.mark.parametrize("cloud", [2, 7, 8], indirect=True, ids=lambda seed: f"seed {seed}")
def test_whatever_happens_a_few_retries_lead_to_the_size(cloud: CloudFormation) -> None:
    connections = Connections()
    writer = Writer(connections, cloud.endpoints, Keys("random"))
    writer.start()
    try:
        for _ in range(STEPS):
            cloud.step()
        cloud.end()
    finally:
        writer.stop()
        print("\n".join(cloud.story))  # noqa: T201 — shown with -s and when the test fails
    assert len(writer.ledger.numbers) > 50
    assert read_back(connections, cloud.endpoints(), writer.keys, writer.ledger.numbers) == []
    connections.close()
