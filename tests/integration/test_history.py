"""What several clients read and wrote while the cluster was resized and its members were killed: one register."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcd_resize.model.urls import client_url
from playground.connections import Connections
from tests.support.by_hand import Stack
from tests.support.etcd import Etcd, view
from tests.support.history import Recorder, violation
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def stack(etcd: Path, tmp_path: Path, addresses: list[str]) -> Iterator[Stack]:
    made = Stack(etcd, tmp_path, addresses)
    yield made
    made.stop()


@contextmanager
def recorded(stack: Stack) -> Iterator[Recorder]:
    """Clients all the while, through every machine there is; at the end what they were told is checked."""
    connections = Connections()
    recorder = Recorder(connections, lambda: [machine.client_url for machine in stack.machines])
    recorder.start()
    try:
        yield recorder
    finally:
        history = recorder.stop()
        connections.close()
    reads = sum(not operation.write for operation in history)
    print(f"{len(history) - reads} writes, {reads} reads, {recorder.errors} unanswered")  # noqa: T201 — with -s
    assert min(reads, len(history) - reads) > 100
    wrong = violation(history)
    assert not wrong, "no register can have answered so:\n" + "\n".join(map(str, wrong))


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do the work in the background; what it raises is raised at the end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001 — raised below
            raised.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def wait_answered(recorder: Recorder, more: int = 30) -> None:
    """The clients get answers, now."""
    begin = len(recorder.history) - recorder.errors
    wait_until(lambda: len(recorder.history) - recorder.errors >= begin + more, "the clients get answers")


def leader(stack: Stack) -> Etcd:
    """The machine of the member that leads."""
    endpoints = [machine.client_url for machine in stack.machines]
    wait_until(lambda: view(endpoints).leader is not None, "somebody leads")
    seen = view(endpoints).leader
    assert seen
    return next(machine for machine in stack.machines if machine.name == seen.name)


def test_what_clients_are_told_during_resizes_and_deaths(stack: Stack) -> None:
    stack.grow(1)
    with recorded(stack) as recorder:
        stack.grow(2)
        stack.boot(stack.create_member(3))
        with meanwhile(lambda: stack.create_voter(3)):
            follower = next(machine for machine in stack.machines[:2] if machine != leader(stack))
            follower.kill()
            follower.start()
        stack.grow(3)
        wait_answered(recorder)

        dead = leader(stack)
        dead.kill()
        wait_answered(recorder)
        dead.start()
        assert stack.names(3) == ["etcd-1", "etcd-2", "etcd-3"]

        stack.guard(1)
        with meanwhile(lambda: stack.delete_voter(3)):
            dead = leader(stack)
            assert dead.client_url == client_url(stack.addresses[0])
            dead.kill()
            dead.start()
        stack.machines.pop().kill()
        stack.delete_member(3)
        stack.answers.pop()
        wait_answered(recorder)
        stack.shrink(1)
        wait_answered(recorder, 600 - len(recorder.history))
    assert recorder.errors
