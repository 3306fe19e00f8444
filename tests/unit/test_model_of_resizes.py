"""Random sequences of resizes, flips, faults and repeated events, on the pure planner and a cluster by etcd's rules.

Hypothesis plays CloudFormation, with its three tries and its forgetting, and fate. No step of ours may leave fewer
voters that are up than the quorum, where there was one before; no machine of a voter may be terminated; and whatever
happened, once all machines are well again a few retries lead to the size that is wanted.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
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
from etcd_resize.model.cluster import quorum
from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from tests.support.events import cluster_properties, event, instance_of, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeGateway, FakeMachines

PARENT = "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd/00000000-0000-0000-0000-000000000001"
TRIES = 3
LARGEST = 5


@dataclass
class Child:
    """One life of a nested stack: a member's identity, what its Create or Update was answered, and its machine."""

    number: int
    identity: Identity
    endpoints: str
    stack_id: str
    answer: dict[str, str] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    """Resources whose Create was not answered: CloudFormation made up an ID."""
    ended: dict[str, bool] = field(default_factory=dict)
    """How the Updates ended that were to make it out of another life, by resource."""
    unknown: set[str] = field(default_factory=set)
    """Resources whose Update was not answered or never sent: CloudFormation knows the elder's ID alone."""

    @property
    def instance(self) -> str:
        return instance_of(self.identity)

    @property
    def member(self) -> dict[str, str]:
        return member_properties(self.identity, self.endpoints)

    @property
    def voter(self) -> dict[str, str]:
        return voter_properties(self.identity, self.answer.get("MemberId", "1"), self.endpoints)


@dataclass
class Attempt:
    """An update of the parent, as far as it has come: ``now`` the members in their order."""

    before: list[Child]
    now: list[Child] = field(default_factory=list)
    changed: list[tuple[Child, Child]] = field(default_factory=list)
    created: list[Child] = field(default_factory=list)

    @property
    def replaced(self) -> list[Child]:
        """The new lives of those whose colour was flipped."""
        return [new for old, new in self.changed if new.identity != old.identity]


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
        self.answered, self.answer = False, dict[str, str]()
        self.clock.ticks.append(self._trouble_comes)
        self._watch_every_change()
        self._update(1)
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
        if size != self.size:
            self._update(size)

    @rule(
        which=st.sets(st.integers(1, LARGEST), min_size=1),
        size=st.none() | st.integers(1, LARGEST),
        fate=st.randoms(use_true_random=False),
    )
    def flip_colours(self, which: set[int], size: int | None, fate: random.Random) -> None:
        """And perhaps change the size in the same update."""
        self._update(size or self.size, which, fate)

    @precondition(lambda self: self._dead)
    @rule(fate=st.randoms(use_true_random=False))
    def flip_the_dead(self, fate: random.Random) -> None:
        self._update(self.size, self._dead, fate)

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
        # one that was dead, and is out before its successor joined, has its machine until the next flip
        way |= {child.instance for child in self.children}
        assert self.ec2.protected <= members | way

    def teardown(self) -> None:
        """Whatever happened: when all is well again, a few retries lead to the size that is wanted."""
        self.boots, self.calls_left, self.trouble = True, None, []
        self.etcd.members = [member for member in self.etcd.members if member.id != self.stranger]
        self.etcd.down = {member.id for member in self.etcd.members if not self._has_machine(member.id)}
        for _ in range(4):
            if out := {child.number for child in self.children if not self._is_member(child)}:
                self.clock.sleep(10)
                self._update(self.size, out, random.Random(0))  # noqa: S311 - what comes first, and no secret
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

    def _update(self, size: int, flipped: Collection[int] = (), fate: random.Random | None = None) -> None:
        """One update of the parent: forward, and clean up; or all the way back, and clean up.

        ``fate`` decides what CloudFormation leaves open: the order of clean-ups, and who is told of the way back.
        """
        attempt = Attempt(self.children)
        if self._forward(attempt, size, flipped):
            if self._guard(attempt.now, attempt.before):
                self.children, self.size = attempt.now, size
                staying = [child.identity for child in attempt.now]
                gone = [child for child in attempt.before if child.identity not in staying]
                self._clean_up([self._deleting(child, TRIES) for child in reversed(gone)], fate)
                return
            if size <= len(attempt.before):
                # a grow that was accepted is a shrink on its way back, and may be refused
                self._guard(attempt.before, attempt.now, must=True)
        for old, new in attempt.changed:
            self._send_back(old, new, told=bool(fate and fate.random() < 0.5))
        doomed = [self._deleting(child, TRIES) for child in attempt.replaced]
        doomed += [self._deleting(child, 1) for child in reversed(attempt.created)]
        self._clean_up(doomed, fate)

    def _forward(self, attempt: Attempt, size: int, flipped: Collection[int]) -> bool:
        """Update the members in their order, create those that are new; False if one of them fails."""
        for child in attempt.before[:size]:
            endpoints = self._chain(attempt)
            if child.number in flipped:
                new = self._new_life(child.number, endpoints, child.stack_id)
            elif endpoints == child.endpoints:
                attempt.now.append(child)
                continue
            else:
                new = replace(child, endpoints=endpoints, ended={})
            attempt.changed.append((child, new))
            if not self._change(child, new):
                return False
            attempt.now.append(new)
        for number in range(len(attempt.before) + 1, size + 1):
            attempt.created.append(self._new_life(number, self._chain(attempt)))
            if not self._create(attempt.created[-1]):
                return False
            attempt.now.append(attempt.created[-1])
        return True

    def _create(self, child: Child) -> bool:
        for resource in (MEMBER, VOTER):
            done = self._send(self._event("Create", resource, child))
            if not self.answered:
                child.unanswered.add(resource)
            if not done:
                return False
            if resource == MEMBER:
                child.answer = self.answer
                self._boot(child)
        return True

    def _change(self, old: Child, new: Child) -> bool:
        """The Updates by which a nested stack becomes another one: of the same member, or of its successor."""
        replaces = new.identity != old.identity
        new.unknown = {MEMBER, VOTER} if replaces else set()
        for resource in (MEMBER, VOTER):
            new.ended[resource] = self._send(self._event("Update", resource, new, old, old))
            if self.answered:
                new.unknown.discard(resource)
            if not new.ended[resource]:
                return False
            if resource == MEMBER and replaces:
                new.answer = self.answer
                self._boot(new)
        return True

    def _send_back(self, old: Child, new: Child, *, told: bool) -> None:
        """The Updates of a rollback. Whether a resource that was replaced is ``told`` of it is not documented."""
        for resource, done in new.ended.items():
            if done and not told:
                continue
            back = self._event("Update", resource, old, new, new if done else old)
            assert any(self._send(back) for _ in range(TRIES)), "a rollback must not be refused"

    def _boot(self, child: Child) -> None:
        if self.boots:
            if not self.etcd.members:
                self._bootstrap(child)
            self.etcd.boot(child.identity.address, child.identity.name)

    def _clean_up(self, doomed: list[Iterator[None]], fate: random.Random | None) -> None:
        """Delete nested stacks: one after the other, or side by side in an order that nobody knows."""
        while doomed:
            one = fate.choice(doomed) if fate else doomed[0]
            if next(one, "over"):
                doomed.remove(one)

    def _deleting(self, child: Child, tries: int) -> Iterator[None]:
        """Delete what CloudFormation knows of a nested stack, with a pause after each step."""
        for _ in range(tries):
            done = True
            if child.answer and not {VOTER} & child.unknown and MEMBER not in child.unanswered:
                done = self._send(self._event("Delete", VOTER, child))
                yield
            if child.instance not in self.ec2.protected:
                self._terminate(child)
                yield
            if MEMBER not in child.unknown:
                done = self._send(self._event("Delete", MEMBER, child)) and done
            if done:
                return
            yield

    def _terminate(self, child: Child) -> None:
        """CloudFormation terminates a machine whatever became of the Delete before it; EC2 may have refused."""
        mine = {member.id for member in self.etcd.members if child.identity.peer_url in member.peer_urls}
        voting = mine & {member.id for member in self.etcd.voters}
        assert not voting, "a voter's machine was given up"
        self.terminated.add(child.instance)
        self.etcd.down |= mine

    def _guard(self, now: list[Child], before: list[Child], *, must: bool = False) -> bool:
        wanted, old = (
            cluster_properties("etcd", [child.identity.address for child in children])
            for children in (now, before)
        )
        sent = event(
            "Update" if before else "Create",
            CLUSTER,
            wanted,
            old=old if before else None,
            physical_id="etcd/cluster",
            stack_id=PARENT,
        )
        done = self._send(sent)
        assert done or not must, "a rollback must not be refused"
        return done

    def _send(self, sent: dict[str, Any]) -> bool:
        """Whether it succeeded; ``answered`` and ``answer`` say how."""
        self.last, self.answered, self.answer = sent, True, {}
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
            self.answer = service.handle(outside, parse(sent), budget=40)
        except EtcdResizeError:
            return False
        except Killed:
            self.answered = False
            return False
        return True

    # --- the world ---

    def _new_life(self, number: int, endpoints: str, stack_id: str = "") -> Child:
        """Of a nested stack that is new, or of one that is there."""
        life = next(self.lives)
        identity = Identity(
            "etcd", f"etcd-{number}", f"10.{life // 62500 % 250}.{life // 250 % 250}.{life % 250 + 1}"
        )
        name = f"etcd-Member{number}-{life:012d}"
        new = f"arn:aws:cloudformation:eu-west-1:000000000000:stack/{name}/{life:032d}"
        return Child(number, identity, endpoints, stack_id or new)

    @staticmethod
    def _chain(attempt: Attempt) -> str:
        return ",".join(client_url(child.identity.address) for child in attempt.now)

    @property
    def _dead(self) -> set[int]:
        """The numbers of the members that are down."""
        urls = {
            url for member in self.etcd.members if member.id in self.etcd.down for url in member.peer_urls
        }
        return {child.number for child in self.children if child.identity.peer_url in urls}

    def _is_member(self, child: Child) -> bool:
        return any(child.identity.peer_url in member.peer_urls for member in self.etcd.members)

    def _bootstrap(self, child: Child) -> None:
        answered = FakeCluster.bootstrapped(
            self.clock, [child.identity.address], f"etcd-{child.stack_id.rsplit('/', 1)[-1][:8]}"
        )
        self.etcd.members, self.etcd.leader = answered.members, answered.leader
        self.etcd.cluster_id, self.etcd.started_at = answered.cluster_id, answered.started_at

    def _event(
        self,
        action: str,
        resource: str,
        child: Child,
        old: Child | None = None,
        physical: Child | None = None,
    ) -> dict[str, Any]:
        """``old``, of an Update: what it was, and ``physical``: as whom CloudFormation knows it."""
        properties = {
            life: (one.member if resource == MEMBER else one.voter) if one else None
            for life, one in (("now", child), ("old", old))
        }
        physical_id = None if action == "Create" else str((physical or child).identity)
        if action != "Create" and resource in child.unanswered:
            physical_id = "etcd-Made-UP1234567890"  # nobody has told CloudFormation a better one
        return event(
            action,
            resource,
            properties["now"] or {},
            physical_id=physical_id,
            old=properties["old"],
            stack_id=child.stack_id,
        )

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
