"""The three resources on real etcd: the service, the real gateway, machines that boot from the UserData."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etcd_resize.errors import Refused
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import hex_id
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER
from tests.support.by_hand import Stack
from tests.support.etcd import view
from tests.support.events import cluster_properties, event, instance_of

pytestmark = pytest.mark.integration


@pytest.fixture
def stack(etcd: Path, tmp_path: Path, addresses: list[str]) -> Iterator[Stack]:
    made = Stack(etcd, tmp_path, addresses)
    yield made
    made.stop()


def test_grows_from_one_to_three_and_shrinks_to_one(stack: Stack) -> None:
    stack.grow(1)
    stack.grow(3)
    assert stack.names(3) == ["etcd-1", "etcd-2", "etcd-3"]
    assert stack.ec2.protected == {instance_of(stack.identity(number)) for number in (1, 2, 3)}

    stack.shrink(1)
    assert stack.names(1) == ["etcd-1"]
    assert stack.ec2.protected == {instance_of(stack.identity(1))}
    assert len(stack.bucket.snapshots) == 3  # the guard's, and one before each removal


def test_the_ids_of_a_bootstrapped_cluster_are_known_before_it_boots(stack: Stack) -> None:
    stack.grow(1)
    seen = view([client_url(stack.addresses[0])])
    assert hex_id(seen.voters[0].id) == stack.answers[0]["MemberId"]
    assert seen.cluster_id == stack.bucket.clusters["etcd"].cluster_id


def test_a_removed_member_exits_by_itself_and_the_leader_moved_before(stack: Stack) -> None:
    stack.grow(3)
    seen = view([client_url(stack.addresses[0])])
    third = seen.named("etcd-3")
    assert third
    assert seen.leader
    gateway = EtcdGateway([client_url(stack.addresses[0])])
    if seen.leader != third:
        gateway.view()
        gateway.move_leader(seen.leader, third)
    gateway.close()

    stack.guard(2)
    after = view([client_url(stack.addresses[0])])
    assert after.leader
    assert after.leader.name != "etcd-3"
    stack.delete_voter(3)
    assert stack.machines[2].process.wait(timeout=5) == 0


def test_a_machine_that_never_boots_costs_nothing(stack: Stack) -> None:
    stack.grow(1)
    stack.create_member(2)
    with pytest.raises(Refused, match="the machine of etcd-2 has not started etcd"):
        stack.create_voter(2, TimeoutSeconds="5")
    assert view([client_url(stack.addresses[0])]).has_quorum
    assert stack.ec2.protected == {instance_of(stack.identity(1))}

    stack.delete_voter(2)
    stack.delete_member(2)
    seen = view([client_url(stack.addresses[0])])
    assert [member.name for member in seen.members] == ["etcd-1"]


def test_a_shrink_is_vetoed_while_a_member_that_stays_is_down(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etcd_resize.planning.HEALTH_PATIENCE", 1.0)
    stack.grow(3)
    stack.machines[1].kill()
    with pytest.raises(Refused, match=r"etcd-2 \([0-9a-f]+\) does not serve"):
        stack.guard(2)
    assert len(view([client_url(stack.addresses[0])]).members) == 3
    stack.machines[1].start()
    assert stack.names(3) == ["etcd-1", "etcd-2", "etcd-3"]
    stack.shrink(2)
    assert stack.names(2) == ["etcd-1", "etcd-2"]


def test_the_last_member_goes_with_its_stack_and_leaves_a_snapshot(stack: Stack) -> None:
    stack.grow(3)
    properties = cluster_properties("etcd", stack.addresses[:3])
    stack.send(event("Delete", CLUSTER, properties, physical_id="etcd/cluster"))
    assert len(stack.bucket.snapshots) == 1
    for number in (3, 2, 1):
        stack.delete_voter(number)
        stack.machines[number - 1].kill()
        stack.delete_member(number)
    assert stack.ec2.protected == set()


def test_a_dead_cluster_goes_with_its_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcd_resize.service.event.GOODBYE_SECONDS", 0.5)
    stack.grow(3)
    for machine in stack.machines:
        machine.kill()
    properties = cluster_properties("etcd", stack.addresses[:3])
    stack.send(event("Delete", CLUSTER, properties, physical_id="etcd/cluster"))
    for number in (3, 2, 1):
        stack.delete_voter(number)
        stack.delete_member(number)
    assert stack.ec2.protected == set()
