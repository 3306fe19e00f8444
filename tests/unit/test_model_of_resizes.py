"""Random sequences of resizes, faults and repeated events, on the pure planner and a cluster by etcd's rules.

Hypothesis plays CloudFormation, with its three tries and its forgetting, and fate. No step of ours may leave fewer
voters that are up than the quorum, where there was one before; no machine of a voter may be terminated; and whatever
happened, once all machines are well again a few retries lead to the size that is wanted.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from etcd_resize import service
from etcd_resize.errors import EtcdResizeError
from etcd_resize.model import Identity, client_url, quorum
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from tests.support.events import cluster_properties, event, instance_of, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeGateway, FakeMachines

PARENT = "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd/00000000-0000-0000-0000-000000000001"
TRIES = 3
LARGEST = 5


@dataclass
class Child:
    """One nested stack: a member's identity, what its Create was answered, and its machine."""

    number: int
    identity: Identity
    endpoints: str
    stack_id: str
    answer: dict[str, str] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)

    @property
    def instance(self) -> str:
        return instance_of(self.identity)

    @property
    def member(self) -> dict[str, str]:
        return member_properties(self.identity, self.endpoints)

    @property
    def voter(self) -> dict[str, str]:
        return voter_properties(self.identity, self.answer.get("MemberId", "1"), self.endpoints)


class Killed(BaseException):
    """The function was killed: nothing catches it, nothing is answered."""


class CloudFormation(RuleBasedStateMachine):
    """The stack ``etcd``, which bootstrapped its cluster with one member."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.bucket, self.ec2 = FakeClock(), FakeBucket(), FakeMachines()
        self.etcd = FakeCluster(self.clock)
        self.children: list[Child] = []
        self.size = 0
        self.last: dict[str, Any] | None = None
        self.terminated: set[str] = set()
        self.boots = True
        self.stranger = 0
        self.lives = itertools.count(1)
        self.trouble: list[tuple[float, Callable[[], None]]] = []
        self.calls_left: int | None = None
        self.kill_before = self.newcomer_dies_too = False
        self.clock.ticks.append(self._trouble_comes)
        self._watch_every_change()
        self._grow(1)
        assert self.size == 1

    # --- what fate does ---

    @rule(which=st.integers(0, LARGEST - 1))
    def a_machine_dies(self, which: int) -> None:
        if members := [member for member in self.etcd.members if member.started]:
            self.etcd.down.add(members[which % len(members)].id)

    @rule()
    def a_machine_comes_back(self) -> None:
        if back := [member.id for member in self.etcd.members if self._has_machine(member.id)]:
            self.etcd.down.discard(min(set(back) & self.etcd.down, default=0))

    @rule(after=st.integers(0, 40), length=st.integers(1, 60), which=st.integers(0, LARGEST - 1))
    def a_machine_will_die_in_the_midst_of_what_comes(self, after: int, length: int, which: int) -> None:
        begin = self.clock.now + after
        self.trouble.append((begin, lambda: self.a_machine_dies(which)))
        self.trouble.append((begin + length, self.a_machine_comes_back))

    @rule(after=st.integers(0, 8), before=st.booleans(), newcomer_too=st.booleans())
    def the_function_will_be_killed_at_a_change(self, after: int, before: bool, newcomer_too: bool) -> None:  # noqa: FBT001
        self.calls_left, self.kill_before, self.newcomer_dies_too = after, before, newcomer_too

    @rule()
    def time_passes(self) -> None:
        self.clock.sleep(6)

    @rule(boots=st.booleans())
    def the_image_changes(self, boots: bool) -> None:  # noqa: FBT001 — hypothesis names it
        self.boots = boots

    @precondition(lambda self: not self.stranger)
    @rule()
    def somebody_adds_a_learner(self) -> None:
        gateway = FakeGateway(self.etcd, tuple(self._everywhere()))
        try:
            gateway.add_learner("http://10.9.9.9:2380")
        except EtcdResizeError:
            return
        self.stranger = self.etcd.members[-1].id

    @precondition(lambda self: self.stranger)
    @rule()
    def somebody_removes_that_learner(self) -> None:
        self.etcd.members = [member for member in self.etcd.members if member.id != self.stranger]
        self.stranger = 0

    @precondition(lambda self: self.last)
    @rule()
    def the_last_event_comes_twice(self) -> None:
        assert self.last
        self._send(self.last)

    # --- what the user does ---

    @rule(size=st.integers(1, LARGEST))
    def resize(self, size: int) -> None:
        if size > self.size:
            self._grow(size)
        elif size < self.size:
            self._shrink(size)

    # --- what must hold ---

    @invariant()
    def no_machine_of_a_voter_is_terminated(self) -> None:
        voters = {
            instance_of(self._identity(member.name, member.peer_urls[0])) for member in self.etcd.voters
        }
        assert not voters & self.terminated

    @invariant()
    def no_machine_is_protected_without_a_member_or_a_way_to_it(self) -> None:
        members = {
            instance_of(self._identity(member.name, member.peer_urls[0])) for member in self.etcd.members
        }
        # a Delete that was killed, or that no quorum answered, leaves its machine protected: the journal still knows
        # it, so the next guard finds it; that none stays, the end of each sequence asserts
        way = {record.instance for record in self.bucket.members.values() if record.state != "left"}
        assert self.ec2.protected <= members | way

    def teardown(self) -> None:
        """Whatever happened: when all is well again, a few retries lead to the size that is wanted."""
        self.boots, self.calls_left, self.trouble = True, None, []
        self.etcd.members = [member for member in self.etcd.members if member.id != self.stranger]
        self.etcd.down = {member.id for member in self.etcd.members if not self._has_machine(member.id)}
        for wanted in (3, 2):
            for _ in range(4):
                self.clock.sleep(10)
                self.resize(wanted)
            assert self.size == wanted
            assert sorted(member.name for member in self.etcd.members) == [
                f"etcd-{number}" for number in range(1, wanted + 1)
            ]
            assert self.ec2.protected == {child.instance for child in self.children}

    # --- CloudFormation ---

    def _grow(self, size: int) -> None:
        before, made = self.size, []
        for number in range(self.size + 1, size + 1):
            child = self._new_child(number)
            made.append(child)
            if not self._create(child):
                break
        else:
            self.children += made
            if self._guard("Update" if before else "Create", size, before):
                self.size = size
                return
            self.children = self.children[:before]
        for child in reversed(made):
            self._delete(child, tries=1)

    def _create(self, child: Child) -> bool:
        if not self._send(self._event("Create", MEMBER, child)):
            return False
        if self.boots:
            if not self.etcd.members:
                self._bootstrap(child)
            self.etcd.boot(child.identity.address, child.identity.name)
        return self._send(self._event("Create", VOTER, child))

    def _shrink(self, size: int) -> None:
        if not self._guard("Update", size, self.size):
            self._guard("Update", self.size, size, must=True)
            return
        leaving, self.children, self.size = self.children[size:], self.children[:size], size
        for child in reversed(leaving):
            self._delete(child, tries=TRIES)

    def _delete(self, child: Child, tries: int) -> None:
        for _ in range(tries):
            booted = child.answer and not child.unanswered & {MEMBER}
            voter = self._send(self._event("Delete", VOTER, child)) if booted else True
            if child.instance not in self.ec2.protected:
                self._terminate(child)
            if self._send(self._event("Delete", MEMBER, child)) and voter:
                return

    def _terminate(self, child: Child) -> None:
        """CloudFormation terminates a machine whatever became of the Delete before it; EC2 may have refused."""
        mine = {member.id for member in self.etcd.members if child.identity.peer_url in member.peer_urls}
        voting = mine & {member.id for member in self.etcd.voters}
        assert not voting, "a voter's machine was given up"
        self.terminated.add(child.instance)
        self.etcd.down |= mine

    def _guard(self, action: str, size: int, before: int, *, must: bool = False) -> bool:
        addresses = [child.identity.address for child in self.children]
        wanted = cluster_properties("etcd", addresses[:size])
        old = cluster_properties("etcd", addresses[:before]) if before else None
        sent = event(action, CLUSTER, wanted, old=old, physical_id="etcd/cluster", stack_id=PARENT)
        done = self._send(sent)
        assert done or not must, "a rollback must not be refused"
        return done

    def _send(self, sent: dict[str, Any]) -> bool:
        self.last = sent
        self._trouble_comes()
        outside = service.Outside(
            self.etcd.connect,
            self._mortal(self.bucket, "record_member", "record_cluster"),
            self._mortal(self.bucket, "store"),
            self._mortal(self.ec2, "protect", "unprotect"),
            self.clock,
            self.bucket.vault,
        )
        try:
            answer = service.handle(outside, parse(sent), budget=40)
        except EtcdResizeError:
            return False
        except Killed:
            for child in [*self.children, *self._in_the_making]:
                if child.stack_id == sent["StackId"] and sent["RequestType"] == "Create":
                    child.unanswered.add(sent["ResourceType"])
            return False
        for child in self.children[-1:] + self._in_the_making:
            if sent["StackId"] == child.stack_id and sent["RequestType"] == "Create" and "MemberId" in answer:
                child.answer = answer
        return True

    # --- the world ---

    @property
    def _in_the_making(self) -> list[Child]:
        return [self._newest] if hasattr(self, "_newest") else []

    def _new_child(self, number: int) -> Child:
        life = next(self.lives)
        identity = Identity(
            "etcd", f"etcd-{number}", f"10.{life // 62500 % 250}.{life // 250 % 250}.{life % 250 + 1}"
        )
        name = f"etcd-Member{number}-{life:012d}"
        stack_id = f"arn:aws:cloudformation:eu-west-1:000000000000:stack/{name}/{life:032d}"
        before = [*self.children, *self._chain(number)]
        endpoints = ",".join(dict.fromkeys(client_url(child.identity.address) for child in before))
        self._newest = Child(number, identity, endpoints, stack_id)
        self._made = [*self._chain(number), self._newest]
        return self._newest

    def _chain(self, number: int) -> list[Child]:
        made: list[Child] = getattr(self, "_made", [])
        return [child for child in made if len(self.children) < child.number < number]

    def _bootstrap(self, child: Child) -> None:
        answered = FakeCluster.bootstrapped(
            self.clock, [child.identity.address], f"etcd-{child.stack_id.rsplit('/', 1)[-1][:8]}"
        )
        self.etcd.members, self.etcd.leader = answered.members, answered.leader
        self.etcd.cluster_id, self.etcd.started_at = answered.cluster_id, answered.started_at

    def _event(self, action: str, resource: str, child: Child) -> dict[str, Any]:
        properties = child.member if resource == MEMBER else child.voter
        physical_id = None if action == "Create" else str(child.identity)
        if action != "Create" and resource in child.unanswered:
            physical_id = "etcd-Made-UP1234567890"  # nobody has told CloudFormation a better one
        return event(action, resource, properties, physical_id=physical_id, stack_id=child.stack_id)

    def _identity(self, name: str, url: str) -> Identity:
        return Identity("etcd", name, urlsplit(url).hostname or "")

    def _has_machine(self, member_id: int) -> bool:
        (member,) = [member for member in self.etcd.members if member.id == member_id]
        return member.started and instance_of(self._identity("", member.peer_urls[0])) not in self.terminated

    def _everywhere(self) -> list[str]:
        return [url for member in self.etcd.members for url in member.client_urls]

    def _watch_every_change(self) -> None:
        """A step of ours must not take a quorum away that was there before it."""
        connect = self.etcd.connect

        def watched(endpoints: Any, credentials: Any, user: Any) -> Any:
            gateway = connect(endpoints, credentials, user)
            for name in ("add_learner", "promote", "remove"):
                setattr(gateway, name, self._keeping_the_quorum(getattr(gateway, name)))
            return self._mortal(gateway, "add_learner", "promote", "remove", "move_leader")

        self.etcd.connect = watched  # type: ignore[method-assign, assignment]

    def _mortal(self, hand: Any, *changes: str) -> Any:
        """The same, but that the function may be killed right before or right after one of its changes."""
        mortal = copy.copy(hand)
        for name in changes:
            setattr(mortal, name, self._killing(getattr(hand, name)))
        return mortal

    def _killing(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any) -> Any:
            if self.calls_left is None:
                return change(*arguments)
            self.calls_left -= 1
            if self.calls_left >= 0:
                return change(*arguments)
            self.calls_left = None
            if not self.kill_before:
                change(*arguments)
            if self.newcomer_dies_too:
                self.etcd.down |= {member.id for member in self.etcd.members[-1:] if member.started}
            raise Killed

        return changed

    def _trouble_comes(self) -> None:
        due = [event for event in self.trouble if event[0] <= self.clock.now]
        self.trouble = [event for event in self.trouble if event[0] > self.clock.now]
        for _, happens in due:
            happens()

    def _keeping_the_quorum(self, change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any) -> None:
            had = self.etcd.has_quorum
            change(*arguments)
            if had:
                assert len(self.etcd.up) >= quorum(len(self.etcd.voters)), f"{change} took the quorum away"

        return changed


SEQUENCES = settings(
    max_examples=2000,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(900)
def test_two_thousand_random_sequences() -> None:
    run_state_machine_as_test(CloudFormation, settings=SEQUENCES)


@pytest.fixture(autouse=True)
def _quick() -> Any:
    """The fake's time passes only while somebody sleeps; bigger steps of it are quicker and no different."""
    with patch("etcd_resize.service.pursuit.POLL_SECONDS", 1.0):
        yield
