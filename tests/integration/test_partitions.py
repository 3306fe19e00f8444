"""Resizes while the network fails: every machine, the function and the client in network namespaces of their own.

After each fault: every acknowledged write is there, the members are those that are wanted, no learner is left, and
the next resize works.
"""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etcd_resize.errors import EtcdResizeError, Refused
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.urls import client_url
from tests.support import inside
from tests.support.by_hand import Stack, environment
from tests.support.etcd import Etcd, program
from tests.support.events import instance_of
from tests.support.inside import Inside
from tests.support.namespaces import CLIENT, FUNCTION, Network
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
]


class Apart(Stack):
    """A stack whose machines, whose function and whose client are apart."""

    def __init__(self, etcd: Path, folder: Path, network: Network) -> None:
        super().__init__(etcd, folder, network.addresses)
        self.network = network
        self.patience = 30.0
        self.budget = 30.0
        self.function = Inside(lambda command: network.command(FUNCTION, command))
        self.client = Inside(lambda command: network.command(CLIENT, command))
        self.writing = False

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        answer, bucket, ec2 = self.function.call(
            inside.handle, sent, self.bucket, self.ec2, self.budget, self.patience
        )
        self.bucket, self.ec2 = bucket, ec2
        if isinstance(answer, EtcdResizeError):
            raise answer
        return answer

    def boot(self, answer: dict[str, str]) -> None:
        self.machines.append(EtcdApart(self.network, self.etcd, self.folder, environment(answer)))
        if not self.writing:
            self.client.call(inside.start_writing, list(map(client_url, self.addresses[:4])))
            self.writing = True

    def look(self) -> ClusterView:
        """The cluster as the client sees it; the members are asked through the machines there are."""
        return self.client.call(inside.look, [machine.client_url for machine in self.machines])

    def member(self, number: int) -> Member:
        """That member, as the client sees it."""
        found = self.look().named(f"etcd-{number}")
        assert found
        return found

    def leader(self) -> str:
        """The address of the one that leads."""
        wait_until(lambda: self.look().leader is not None, "somebody leads")
        leader = self.look().leader
        assert leader
        return leader.peer_urls[0].removeprefix("http://").removesuffix(":2380")

    def lead(self, number: int) -> str:
        """Hand the leadership to that member; its address."""
        self.client.call(inside.lead, [machine.client_url for machine in self.machines], f"etcd-{number}")
        address = self.addresses[number - 1]
        wait_until(lambda: self.leader() == address, f"etcd-{number} leads")
        return address

    def wait_whole(self, size: int) -> None:
        """So many voters serve, and nobody else is listed."""

        def whole() -> bool:
            try:
                seen = self.look()
            except EtcdResizeError:
                return False
            return len(seen.members) == len(seen.voters) == size and all(
                member.health.serving for member in seen.voters
            )

        wait_until(whole, f"{size} voters serve", patience=30)

    def wait_written(self, more: int = 5) -> None:
        """Writes are acknowledged, now."""
        begin = self.client.call(inside.acknowledged)
        wait_until(
            lambda: self.client.call(inside.acknowledged) >= begin + more,
            "writes are acknowledged",
            patience=30,
        )

    def check(self, size: int) -> None:
        """After a fault: whole, written to, protected as it should be."""
        self.wait_whole(size)
        self.wait_written()
        protected = {instance_of(self.identity(number)) for number in range(1, size + 1)}
        assert self.ec2.protected == protected

    def lost(self) -> list[int]:
        """Which of the acknowledged writes are not there."""
        self.writing = False
        figures, lost = self.client.call(
            inside.stop_writing, [machine.client_url for machine in self.machines]
        )
        print(  # noqa: T201 — shown with -s and when a test fails
            f"{figures.acked} writes acknowledged, {figures.failed} not, {len(lost)} lost, longest gap"
            f" {figures.longest_gap_ms:.0f} ms"
        )
        assert figures.acked > 20
        return lost

    def stop(self) -> None:
        self.function.stop()
        self.client.stop()
        super().stop()


class EtcdApart(Etcd):
    """An etcd process at its own address in its own network namespace."""

    def __init__(self, network: Network, binary: Path, folder: Path, given: dict[str, str]) -> None:
        self._network = network
        self._address = given["ETCD_ADVERTISE_CLIENT_URLS"].removeprefix("http://").removesuffix(":2379")
        super().__init__(binary, folder, given)

    def _command(self) -> list[str]:
        return self._network.command(self._address, super()._command())


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    """etcd 3.5, Debian 13's; what differs between the versions is no matter of the network."""
    with Network() as network:
        made = Apart(program("3.5"), tmp_path, network)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Apart:
    """A stack of three that has ended: its folder, journal and answers are where other tests begin."""
    with Network() as network:
        made = Apart(program("3.5"), tmp_path_factory.mktemp("grown"), network)
        try:
            made.grow(1)
            made.grow(3)
            made.check(3)
        finally:
            made.stop()
    return made


@pytest.fixture
def three(apart: Apart, grown: Apart) -> Apart:
    """A stack of three members, whose machines have just been started again."""
    shutil.copytree(grown.folder, apart.folder, dirs_exist_ok=True)
    apart.bucket, apart.ec2 = copy.deepcopy(grown.bucket), copy.deepcopy(grown.ec2)
    apart.answers = list(grown.answers)
    for answer in apart.answers:
        apart.boot(answer)
    apart.check(3)
    return apart


@contextmanager
def meanwhile(work: Any) -> Iterator[list[BaseException]]:
    """Do the work in the background; at the end it is waited for. What it raised is in the list."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001 — the test looks at it
            raised.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(90)
        assert not thread.is_alive(), "the resize does not end"


def test_the_leader_is_cut_off_during_a_grow(three: Apart) -> None:
    apart = three
    apart.patience = 2.0
    apart.network.cut_off(apart.leader())
    with pytest.raises(Refused, match=r"etcd-\d \([0-9a-f]+\) does not serve: bring it back or remove it"):
        apart.create_member(4)
    apart.delete_member(4)
    apart.wait_written()
    apart.network.heal()
    apart.wait_whole(3)

    apart.patience = 30.0
    apart.boot(apart.create_member(4))
    # an etcd 3.5 that starts and has asked the leader something waits for its answer, however long that is cut off
    wait_until(lambda: apart.look().named("etcd-4") is not None, "etcd-4 starts", patience=30)
    apart.network.cut_off(apart.leader())
    with meanwhile(lambda: apart.create_voter(4)) as raised:
        wait_until(lambda: len(apart.look().voters) == 4, "etcd-4 is promoted without the old leader", 30)
        apart.wait_written()
    assert raised == []
    apart.network.heal()
    apart.grow(4)
    apart.check(4)
    apart.shrink(3)
    apart.check(3)
    assert apart.lost() == []


def test_the_leader_is_cut_off_during_a_shrink(three: Apart) -> None:
    apart = three
    apart.patience = 2.0
    apart.network.cut_off(apart.lead(1))
    apart.wait_written()
    with pytest.raises(Refused, match=r"etcd-1 \([0-9a-f]+\) does not serve"):
        apart.guard(1)
    apart.network.heal()
    apart.check(3)

    # etcd-3 goes first anyway: cut off, it stands in nobody's way
    apart.network.cut_off(apart.lead(3))
    apart.wait_written()
    apart.guard(1)
    apart.network.heal()
    apart.check(3)

    apart.patience = 30.0
    apart.guard(2)
    apart.network.cut_off(
        apart.leader()
    )  # etcd-1 or etcd-2: the guard moved the leadership to one that stays
    with meanwhile(lambda: apart.delete_voter(3)) as raised:
        # without etcd-3 there would be no quorum: it stays until the other is back
        apart.wait_written()
        assert len(apart.look().voters) == 3
        apart.network.heal()
    assert raised == []
    apart.machines.pop().kill()
    apart.delete_member(3)
    apart.answers.pop()
    apart.check(2)
    apart.shrink(1)
    apart.check(1)
    assert apart.lost() == []


def test_a_leader_apart_from_its_peers_tells_its_clients_nothing_old(three: Apart) -> None:
    apart = three
    apart.client.call(inside.start_recording, [machine.client_url for machine in apart.machines])
    apart.patience = 2.0
    old = apart.leader()
    others = [address for address in apart.addresses[:3] if address != old]
    apart.network.part([old], others)
    wait_until(lambda: apart.leader() != old, "another one leads", patience=30)
    number = apart.addresses.index(old) + 1
    with pytest.raises(Refused, match=rf"etcd-{number} \([0-9a-f]+\) does not serve"):
        apart.create_member(4)
    apart.delete_member(4)
    apart.network.heal()
    apart.wait_whole(3)
    apart.patience = 30.0
    apart.shrink(2)
    wait_until(lambda: apart.client.call(inside.recorded) > 200, "the clients get answers", patience=30)
    answered, unanswered, wrong = apart.client.call(inside.stop_recording)
    print(f"{answered} operations answered, {unanswered} not")  # noqa: T201 — with -s
    assert unanswered
    assert not wrong, "no register can have answered so:\n" + "\n".join(wrong)
    apart.check(2)
    assert apart.lost() == []


def test_the_newcomer_is_cut_off_before_it_is_promoted(apart: Apart) -> None:
    apart.grow(1)
    apart.boot(apart.create_member(2))
    apart.network.cut_off(apart.addresses[1])
    with pytest.raises(Refused, match="etcd-2") as refused:
        apart.create_voter(2, TimeoutSeconds="5")
    assert "has not started etcd" in str(refused.value) or "does not serve" in str(refused.value)
    apart.wait_written()
    apart.delete_voter(2)
    apart.machines.pop().kill()
    apart.delete_member(2)
    apart.answers.pop()
    apart.check(1)

    # the next one is cut off as well, but comes back in time
    apart.network.heal()
    clear(apart, 2)
    apart.boot(apart.create_member(2))
    apart.network.cut_off(apart.addresses[1])
    with meanwhile(lambda: apart.create_voter(2)) as raised:
        apart.wait_written()
        assert sorted(member.is_learner for member in apart.look().members) == [False, True]
        apart.network.heal()
        wait_until(lambda: started_again(apart), "etcd-2 starts", patience=20)
    assert raised == []
    apart.grow(2)
    apart.check(2)
    assert apart.lost() == []


def test_the_function_is_cut_off(three: Apart) -> None:
    apart = three
    apart.patience, apart.budget = 2.0, 5.0
    before = apart.look().members
    apart.network.cut_off(FUNCTION)
    with pytest.raises(
        Refused, match=r"no endpoint answers: http://10.99.0.11:2379: (no answer in time|cannot)"
    ):
        apart.create_member(4)
    with pytest.raises(Refused, match="no endpoint answers"):
        apart.guard(1)
    with pytest.raises(Refused, match="no endpoint answers"):
        apart.delete_voter(3)
    assert [member.id for member in apart.look().members] == [member.id for member in before]
    apart.network.heal()
    apart.patience, apart.budget = 30.0, 30.0
    apart.delete_member(4)
    apart.shrink(2)
    apart.check(2)
    assert apart.lost() == []


@pytest.mark.parametrize("fault", ["deafen", "silence"])
def test_one_way_of_a_member_is_lost(three: Apart, fault: str) -> None:
    apart = three
    apart.patience = 2.0
    victim = next(address for address in apart.addresses[:3] if address != apart.leader())
    getattr(apart.network, fault)(victim)
    apart.wait_written()
    number = apart.addresses.index(victim) + 1
    with pytest.raises(Refused, match=rf"etcd-{number} \([0-9a-f]+\) does not serve"):
        apart.create_member(4)
    apart.delete_member(4)
    apart.network.heal()
    apart.wait_whole(3)
    apart.patience = 30.0
    apart.shrink(2)
    apart.check(2)
    assert apart.lost() == []


@pytest.mark.parametrize(
    ("delay", "loss"), [(0.2, 0.0), (0.0, 0.1)], ids=["200 ms of delay", "a tenth of all packets lost"]
)
def test_a_bad_network_everywhere(apart: Apart, delay: float, loss: float) -> None:
    apart.grow(1)
    apart.grow(2)
    apart.network.everywhere(delay=delay, loss=loss)
    apart.grow(3)
    apart.wait_written()
    apart.shrink(2)
    apart.wait_written()
    apart.network.heal()
    apart.check(2)
    assert apart.lost() == []


def started_again(apart: Apart) -> bool:
    """An etcd that finds none of its peers for two seconds exits with status 1 and must be started again."""
    if not apart.machines[1].running:
        apart.machines[1].start()
    return apart.look().named("etcd-2") is not None


def clear(apart: Apart, number: int) -> None:
    """A new machine has an empty disk."""
    for path in sorted((apart.folder / f"etcd-{number}.data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
