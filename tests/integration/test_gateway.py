"""The gateway's contract: the same tests for the fake and for real etcd 3.4 and 3.5, so that the fake cannot drift."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import etcd3
import pytest

from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import EtcdGateway, Gateway
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import client_url, peer_url
from tests.support.etcd import Etcd, HandMade, program
from tests.support.fakes import FakeClock, FakeCluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration


class World(Protocol):
    """A cluster ``m1``, ``m2`` … and what can be done to it from outside."""

    addresses: list[str]

    def cluster(self, size: int) -> Gateway:
        """Start a healthy cluster, and look at it through all its members."""

    def kill(self, name: str) -> None:
        """End one member's machine."""

    def boot(self, name: str, address: str, view: ClusterView) -> None:
        """Start the machine of a newcomer that is registered already."""

    def settle(self) -> None:
        """Let a moment pass."""


class FakeWorld:
    """On ``FakeCluster``."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses, self.clock = addresses, FakeClock()

    def cluster(self, size: int) -> Gateway:
        self.etcd = FakeCluster.bootstrapped(self.clock, self.addresses[:size])
        return self.etcd.connect([client_url(address) for address in self.addresses])

    def kill(self, name: str) -> None:
        self.etcd.down |= {member.id for member in self.etcd.members if member.name == name}

    def boot(self, name: str, address: str, view: ClusterView) -> None:
        del view
        self.etcd.boot(address, name)

    def settle(self) -> None:
        self.clock.sleep(0.2)

    def stop(self) -> None:
        """Nothing runs."""


class RealWorld:
    """On real processes."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        self.addresses, self._etcd, self._folder = addresses, etcd, folder
        self._newcomers: list[Etcd] = []

    def cluster(self, size: int) -> Gateway:
        names = {f"m{number}": self.addresses[number - 1] for number in range(1, size + 1)}
        self.hand_made = HandMade(self._etcd, self._folder, names)
        self.hand_made.wait_healthy()
        self._gateway = EtcdGateway([client_url(address) for address in self.addresses[:size]])
        return self._gateway

    def kill(self, name: str) -> None:
        self.hand_made.named(name).kill()

    def boot(self, name: str, address: str, view: ClusterView) -> None:
        initial = tuple((member.name or name, member.peer_urls[0]) for member in view.members)
        spec = MemberSpec(Identity("hand", name, address), initial, "existing", "hand")
        self._newcomers.append(Etcd(self._etcd, self._folder, spec.environment()))

    def settle(self) -> None:
        time.sleep(0.2)

    def stop(self) -> None:
        """End what was started."""
        self._gateway.close()
        self.hand_made.stop()
        for newcomer in self._newcomers:
            newcomer.kill()


@pytest.fixture(params=["fake", "3.4", "3.5"])
def world(request: pytest.FixtureRequest, tmp_path: Path, addresses: list[str]) -> Iterator[World]:
    if request.param == "fake":
        made: FakeWorld | RealWorld = FakeWorld(addresses)
    else:
        made = RealWorld(program(request.param), tmp_path, addresses)
    yield made
    made.stop()


def look(gateway: Gateway, name: str) -> Member:
    found = gateway.view().named(name)
    assert found, f"{name} is not listed"
    return found


def until_taken(world: World, change: object, *arguments: object) -> int:
    """Repeat a change while etcd says "not now"; how often it did."""
    for refusals in range(200):
        try:
            change(*arguments)  # type: ignore[operator]
        except Retryable:
            world.settle()
        else:
            return refusals
    raise AssertionError("etcd never took it")


def test_a_view_names_members_leader_quorum_and_version(world: World) -> None:
    view = world.cluster(3).view()
    assert sorted(member.name for member in view.voters) == ["m1", "m2", "m3"]
    assert all(member.health.serving for member in view.members)
    assert view.leader in view.voters
    assert view.has_quorum
    assert view.version.startswith("3.")
    assert view.alarms == ()


def test_a_learner_costs_a_cluster_of_one_nothing(world: World) -> None:
    gateway = world.cluster(1)
    gateway.view()
    gateway.add_learner(peer_url(world.addresses[1]))
    view = gateway.view()
    assert view.has_quorum
    (learner,) = view.learners
    assert (learner.name, learner.started, learner.health.serving) == ("", False, False)
    with pytest.raises(Retryable, match="in sync"):
        gateway.promote(learner)
    gateway.remove(learner)
    assert gateway.view().learners == ()


def test_only_one_learner_at_a_time_and_no_peer_url_twice(world: World) -> None:
    gateway = world.cluster(1)
    gateway.view()
    gateway.add_learner(peer_url(world.addresses[1]))
    world.settle()
    with pytest.raises(Retryable, match=r"too many learner members|unhealthy"):
        gateway.add_learner(peer_url(world.addresses[2]))
    with pytest.raises(Retryable, match=r"already exist|unhealthy"):
        gateway.add_learner(peer_url(world.addresses[1]))


def test_a_newcomer_starts_is_promoted_and_the_next_one_has_to_wait(world: World) -> None:
    gateway = world.cluster(1)
    gateway.view()
    gateway.add_learner(peer_url(world.addresses[1]))
    world.boot("m2", world.addresses[1], gateway.view())
    wait_until(lambda: look_quietly(gateway, "m2"), "m2 started")
    until_taken(world, gateway.promote, look(gateway, "m2"))
    assert len(gateway.view().voters) == 2
    refusals = until_taken(world, gateway.add_learner, peer_url(world.addresses[2]))
    assert refusals >= 5  # every voter must have been connected for 5 s


def look_quietly(gateway: Gateway, name: str) -> bool:
    try:
        found = gateway.view().named(name)
    except Retryable:
        return False
    return bool(found and found.health.serving)


def test_nobody_is_added_while_a_voter_is_down(world: World) -> None:
    gateway = world.cluster(3)
    world.kill("m3")
    wait_until(lambda: not look(gateway, "m3").health.serving and gateway.view().has_quorum, "m3 down")
    with pytest.raises(Retryable, match="unhealthy cluster"):
        gateway.add_learner(peer_url(world.addresses[4]))


def test_of_three_the_dead_one_may_be_removed_and_no_other(world: World) -> None:
    gateway = world.cluster(3)
    world.kill("m3")
    wait_until(lambda: not look(gateway, "m3").health.serving and gateway.view().has_quorum, "m3 down")
    wait_until(
        lambda: look(gateway, "m1").health.serving and look(gateway, "m2").health.serving, "an election"
    )
    with pytest.raises(Retryable, match="unhealthy cluster"):
        gateway.remove(look(gateway, "m2"))
    until_taken(world, gateway.remove, look(gateway, "m3"))
    assert sorted(member.name for member in gateway.view().members) == ["m1", "m2"]


def test_without_a_quorum_the_members_are_still_seen(world: World) -> None:
    gateway = world.cluster(3)
    world.kill("m2")
    world.kill("m3")
    wait_until(lambda: not gateway.view().has_quorum, "no quorum")
    view = gateway.view()
    assert len(view.members) == 3
    assert not any(member.health.serving for member in view.members)


def test_a_cluster_that_does_not_answer_is_not_there_yet(world: World) -> None:
    gateway = world.cluster(1)
    world.kill("m1")
    with pytest.raises(Retryable, match="no endpoint answers: http://127"):
        gateway.view()


def test_the_leadership_moves_and_only_the_leader_moves_it(world: World) -> None:
    gateway = world.cluster(3)
    view = gateway.view()
    assert view.leader
    target = next(member for member in view.voters if member != view.leader)
    gateway.move_leader(view.leader, target)
    moved = gateway.view().leader
    assert moved
    assert moved.id == target.id
    with pytest.raises(Retryable, match="not leader"):
        gateway.move_leader(view.leader, target)


def test_a_snapshot_comes_in_chunks(world: World) -> None:
    gateway = world.cluster(1)
    (member,) = gateway.view().voters
    assert gateway.revision(member) >= 1
    assert sum(map(len, gateway.snapshot(member))) > 0


def test_a_member_that_is_gone_cannot_be_removed_twice(world: World) -> None:
    gateway = world.cluster(3)
    view = gateway.view()
    gone = next(
        member for member in view.voters if member != view.leader
    )  # the leader's leave is an election
    until_taken(world, gateway.remove, gone)
    with pytest.raises(Retryable, match="member not found"):
        gateway.remove(gone)


def test_a_defragmented_member_serves_again_and_a_dead_one_is_not_there(world: World) -> None:
    gateway = world.cluster(3)
    gateway.defragment(look(gateway, "m2"))
    assert look(gateway, "m2").health.serving
    world.kill("m2")
    with pytest.raises(Retryable, match=r"defragment m2 .* cannot be reached"):
        gateway.defragment(look(gateway, "m2"))


# --- only real etcd ---


@pytest.fixture
def real(etcd: Path, tmp_path: Path, addresses: list[str]) -> Iterator[RealWorld]:
    made = RealWorld(etcd, tmp_path, addresses)
    yield made
    made.stop()


def test_endpoints_of_two_clusters_are_refused(real: RealWorld, etcd: Path, tmp_path: Path) -> None:
    real.cluster(1)
    other = HandMade(etcd, tmp_path / "other", {"x1": real.addresses[5]}, token="other")
    both = EtcdGateway([*real.hand_made.endpoints, *other.endpoints])
    try:
        other.wait_healthy()
        with pytest.raises(Refused, match="the endpoints belong to different clusters"):
            both.view()
    finally:
        both.close()
        other.stop()


def test_an_alarm_is_seen_with_the_name_of_its_member(real: RealWorld) -> None:
    gateway = real.cluster(1)
    host, port = real.addresses[0], 2379
    with etcd3.client(host=host, port=port) as client:
        client.create_alarm(member_id=gateway.view().voters[0].id)
    (alarm,) = gateway.view().alarms
    assert alarm.startswith("NOSPACE on m1 (")


def test_a_member_that_hangs_does_not_hold_the_look_at_the_others(real: RealWorld) -> None:
    gateway = real.cluster(3)
    gateway.view()
    hung = real.hand_made.named("m2")
    hung.pause()
    try:
        wait_until(lambda: look(gateway, "m2").health.problem == "no answer in time", "m2 hangs")
        wait_until(lambda: gateway.view().has_quorum, "the others serve, after an election if m2 led")
    finally:
        hung.resume()


def test_members_that_were_not_given_are_found_through_those_that_were(real: RealWorld) -> None:
    real.cluster(3)
    gateway = EtcdGateway(real.hand_made.endpoints[:1])
    try:
        assert all(member.health.serving for member in gateway.view().members)
        real.kill("m1")
        wait_until(lambda: gateway.view().has_quorum, "the others are asked")
    finally:
        gateway.close()
