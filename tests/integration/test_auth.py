"""etcd's own auth: the function asks as a user, over plaintext, and says in one sentence what etcd wants of it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etcd_resize.errors import Refused
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Identity, User
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import client_url, peer_url
from tests.support.etcd import Etcd, HandMade, accepted, program
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

PASSWORD = 'n0-One:may_$ee"this"'  # noqa: S105 — what must never be in a log
ROOT = User("root", PASSWORD)
RESIZER = User("resizer", PASSWORD)


class Cluster:
    """One member, ``m1``, and what its administrator does to it."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        self.addresses, self._etcd, self._folder = addresses, etcd, folder
        self.hand_made = HandMade(etcd, folder, {"m1": addresses[0]})
        self.hand_made.wait_healthy()
        self._newcomers: list[Etcd] = []

    def etcdctl(self, *words: str, root: bool = True, told: str = "") -> None:
        """As root, if auth is enabled. ``told``: what is typed into it."""
        command = [str(self._etcd.with_name("etcdctl")), f"--endpoints={self.hand_made.endpoints[0]}"]
        environment = {"ETCDCTL_API": "3", **({"ETCDCTL_USER": f"root:{PASSWORD}"} if root else {})}
        subprocess.run(
            [*command, *words], check=True, env=environment, capture_output=True, input=told, text=True
        )

    def enable(self) -> None:
        """As docs/etcd-auth.md has it, with another user who may only read."""
        self.etcdctl("user", "add", "resizer", "--interactive=false", root=False, told=PASSWORD)
        for words in (
            ("user", "grant-role", "resizer", "root"),
            ("user", "add", f"root:{PASSWORD}"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "reader"),
            ("role", "grant-permission", "--prefix=true", "reader", "read", ""),
            ("user", "add", "reader:reading"),
            ("user", "grant-role", "reader", "reader"),
            ("auth", "enable"),
        ):
            self.etcdctl(*words, root=False)

    def boot(self, name: str, address: str) -> Etcd:
        """The machine of a newcomer that is registered already."""
        initial = (("m1", peer_url(self.addresses[0])), (name, peer_url(address)))
        spec = MemberSpec(Identity("hand", name, address), initial, "existing", "hand")
        self._newcomers.append(Etcd(self._etcd, self._folder, spec.environment()))
        return self._newcomers[-1]

    def gateway(self, user: User | None) -> closing[EtcdGateway]:
        """As that user."""
        return closing(EtcdGateway([client_url(address) for address in self.addresses[:2]], user=user))

    def stop(self) -> None:
        """End what was started."""
        self.hand_made.stop()
        for newcomer in self._newcomers:
            newcomer.kill()


@pytest.fixture(params=["3.4", "3.5"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, addresses: list[str]) -> Iterator[Cluster]:
    made = Cluster(program(request.param), tmp_path, addresses)
    yield made
    made.stop()


def named(gateway: EtcdGateway, name: str) -> Member:
    found = gateway.view().named(name)
    assert found, f"{name} is not listed"
    return found


def test_a_member_comes_and_goes_where_auth_is_enabled(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cluster.enable()
    with cluster.gateway(RESIZER) as gateway:
        assert gateway.view().has_quorum
        gateway.add_learner(peer_url(cluster.addresses[1]))
        machine = cluster.boot("m2", cluster.addresses[1])
        # a learner takes no token, and its status asks for none
        wait_until(
            lambda: any(learner.health.serving for learner in gateway.view().learners), "the learner serves"
        )
        wait_until(lambda: accepted(lambda: gateway.promote(named(gateway, "m2"))), "it is promoted")
        wait_until(lambda: len([m for m in gateway.view().voters if m.health.serving]) == 2, "it serves")
        view = gateway.view()
        leader = view.leader
        assert leader
        other = next(member for member in view.voters if member != leader)
        gateway.move_leader(leader, other)
        assert len(b"".join(gateway.snapshot(named(gateway, "m1")))) > 1000
        wait_until(lambda: accepted(lambda: gateway.remove(named(gateway, "m2"))), "it is removed")
        wait_until(lambda: not machine.running, "it ends by itself")
        assert [member.name for member in gateway.view().members] == ["m1"]
    assert PASSWORD not in caplog.text


def test_who_has_a_user_needs_none_where_auth_is_not_enabled_and_may_enable_it_at_any_time(
    cluster: Cluster,
) -> None:
    with cluster.gateway(ROOT) as gateway:
        assert gateway.view().has_quorum
        cluster.enable()
        assert gateway.view().has_quorum
        gateway.add_learner(peer_url(cluster.addresses[1]))


def test_without_a_user_the_sentence_says_what_to_give(cluster: Cluster) -> None:
    cluster.enable()
    with cluster.gateway(None) as gateway, pytest.raises(Refused) as caught:
        gateway.view()
    assert str(caught.value) == (
        "etcd asks for a user and a password (auth is enabled): give EtcdUser and EtcdPasswordSecret"
    )


@pytest.mark.parametrize("wrong", [User("root", "another"), User("nobody", PASSWORD), User("root", "")])
def test_a_wrong_password_is_one_sentence_without_it(cluster: Cluster, wrong: User) -> None:
    cluster.enable()
    with cluster.gateway(wrong) as gateway, pytest.raises(Refused) as caught:
        gateway.view()
    assert str(caught.value) == (
        f"etcd does not take the user {wrong.name} with this password: mend EtcdUser, or the secret that"
        " EtcdPasswordSecret names, and deploy again"
    )


def test_a_user_who_is_not_root_is_refused_before_anything_is_changed(cluster: Cluster) -> None:
    cluster.enable()
    with cluster.gateway(User("reader", "reading")) as gateway:
        view = gateway.view()
        with pytest.raises(
            Refused, match="permission denied: EtcdUser must name a user with etcd's role root"
        ):
            gateway.add_learner(peer_url(cluster.addresses[1]))
        with pytest.raises(
            Refused, match="permission denied: EtcdUser must name a user with etcd's role root"
        ):
            b"".join(gateway.snapshot(view.voters[0]))
        cluster.etcdctl("user", "revoke-role", "reader", "reader")
        with pytest.raises(Refused, match="etcd does not let reader read"):
            gateway.view()
        assert [member.name for member in view.members] == ["m1"]


def test_a_token_that_etcd_has_forgotten_is_asked_for_again(cluster: Cluster) -> None:
    cluster.enable()
    with cluster.gateway(ROOT) as gateway:
        assert gateway.view().has_quorum
        cluster.etcdctl("user", "passwd", "root", "--interactive=false", told=f"{PASSWORD}\n")
        assert gateway.view().has_quorum


def test_without_a_quorum_the_status_is_still_seen(cluster: Cluster) -> None:
    cluster.enable()
    with cluster.gateway(ROOT) as gateway:
        assert gateway.view().has_quorum
        gateway.add_learner(peer_url(cluster.addresses[1]))
        machine = cluster.boot("m2", cluster.addresses[1])
        wait_until(lambda: bool(gateway.view().named("m2")), "the learner has started")
        wait_until(lambda: accepted(lambda: gateway.promote(named(gateway, "m2"))), "it is promoted")
        machine.kill()
        wait_until(lambda: not gateway.view().has_quorum, "the quorum is gone")
    with cluster.gateway(ROOT) as fresh:  # it has no token, and gets none
        view = fresh.view()
        assert not view.has_quorum
        assert named(fresh, "m1").health.reachable
