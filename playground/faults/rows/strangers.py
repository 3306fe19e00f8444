"""Somebody else is at the cluster at the same time, between the function's look and its change."""

from __future__ import annotations

import contextlib
import time

from etcd_resize import gateway
from etcd_resize.errors import Retryable

from etcd3 import etcdrpc  # isort: skip # etcd_resize makes it loadable
from playground.faults.cloud import wait_until
from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

FOREIGN = "http://127.0.0.254:2380"
"""The peer URL of somebody else's learner, which never starts."""
AWHILE = 3.0


def adds_a_learner(world: World, _: Mailbox) -> None:
    """Somebody adds a learner of their own just before ours, and leaves it there."""
    with world.stopped_at("before-add", 2), world.gateway() as etcd:
        etcd.view()
        etcd.add_learner(FOREIGN)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    world.expect_sentence("is a learner still, and etcd takes one at a time")
    world.expect(world.view().at(FOREIGN), "the stranger's learner was taken away")
    _remove(world, FOREIGN)


def adds_and_removes(world: World, _: Mailbox) -> None:
    """The same, and they take it away again soon."""
    with world.stopped_at("before-add", 2):
        with world.gateway() as etcd:
            etcd.view()
            etcd.add_learner(FOREIGN)
        world.order("go-on")
        time.sleep(AWHILE)
        _remove(world, FOREIGN)
    world.expect_status("UPDATE_COMPLETE")


def removes_the_learner(world: World, _: Mailbox) -> None:
    """Somebody removes our learner just before it is promoted."""
    with world.stopped_at("before-promote", 2):
        _remove(world, _peer_url(world, 2))
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    world.expect_sentence("is not a member any more: somebody removed it")


def promotes_the_learner(world: World, _: Mailbox) -> None:
    """Somebody promotes our learner just before we do."""
    with world.stopped_at("before-promote", 2), world.gateway() as etcd:
        member = etcd.view().named(f"{world.stack}-2")
        if member:
            etcd.promote(member)
    world.expect_status("UPDATE_COMPLETE")


def removes_the_member(world: World, _: Mailbox) -> None:
    """Somebody removes the member that is about to leave."""
    with world.stopped_at("before-remove", 1):
        _remove(world, _peer_url(world, 2))
    world.expect_status("UPDATE_COMPLETE")


def moves_the_leadership(world: World, _: Mailbox) -> None:
    """Somebody gives the leadership back to the member that is about to leave."""
    world.lead(2)
    with world.stopped_at("before-remove", 1):
        world.lead(2)
    world.expect_status("UPDATE_COMPLETE")


def enables_auth(world: World, _: Mailbox) -> None:
    """Somebody enables authentication just before our change."""
    with world.stopped_at("before-add", 2):
        world.etcdctl("user", "add", "root:secret")
        world.etcdctl("user", "grant-role", "root", "root")
        world.etcdctl("auth", "enable")
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    world.expect_sentence("EtcdUser")
    world.etcdctl("--user", "root:secret", "auth", "disable")
    world.etcdctl("user", "delete", "root")


def raises_nospace(world: World, _: Mailbox) -> None:
    """The database is full: etcd raises NOSPACE before the resize."""
    with gateway.client(world.endpoints[0], world.papers(), timeout=5) as client:
        alarm = {"memberID": world.member(1).id, "alarm": etcdrpc.NOSPACE}
        client.maintenancestub.Alarm(etcdrpc.AlarmRequest(action=etcdrpc.AlarmRequest.ACTIVATE, **alarm), 5)
        world.resize(2)
        world.expect_status("UPDATE_ROLLBACK_COMPLETE")
        world.expect_sentence("alarm NOSPACE on")
        client.maintenancestub.Alarm(etcdrpc.AlarmRequest(action=etcdrpc.AlarmRequest.DEACTIVATE, **alarm), 5)


def _peer_url(world: World, number: int) -> str:
    return world.member(number).peer_urls[0]


def _remove(world: World, peer_url: str) -> None:
    """What `etcdctl member remove` does, until etcd takes it."""

    def gone() -> bool:
        with world.gateway() as etcd:
            member = etcd.view().at(peer_url)
            if member:
                with contextlib.suppress(Retryable):
                    etcd.remove(member)
        return world.view().at(peer_url) is None

    wait_until(gone, f"somebody else removes {peer_url}", 20)


def _row(name: str, after: str, size: int, again: int, run: object, *, outage: bool = False) -> Fault:
    return Fault(name, "strangers", name, after, size, again, run, outage=outage)  # type: ignore[arg-type]


FAULTS = (
    _row("somebody adds a learner", "refused; the stranger's learner is left alone", 1, 2, adds_a_learner),
    _row("somebody adds a learner and takes it away", "the update completes", 1, 1, adds_and_removes),
    _row("somebody removes our learner", "rolled back with the sentence", 1, 2, removes_the_learner),
    _row("somebody promotes our learner", "the update completes", 1, 1, promotes_the_learner),
    _row("somebody removes the member that leaves", "the update completes", 2, 2, removes_the_member),
    _row("somebody moves the leadership back", "the update completes", 2, 2, moves_the_leadership),
    _row("somebody enables auth", "refused, nothing is left behind", 1, 2, enables_auth, outage=True),
    _row("etcd is full", "refused with the alarm", 1, 2, raises_nospace, outage=True),
)
