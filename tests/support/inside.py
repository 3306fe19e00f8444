"""A Python process at another address: the function's, or a client's. One call at a time, answered or raised.

``Inside(command)`` starts it; ``call(function, *arguments)`` runs a function of a module there. It ends with its owner.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import etcd_resize  # noqa: F401 — before etcd3 and protobuf, see there
from etcd_resize import planning, service
from etcd_resize.errors import EtcdResizeError
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView
from etcd_resize.request import parse
from playground.connections import Connections
from playground.tools import ROOT
from playground.writer import Figures, Keys, Writer, read_back
from tests.support import etcd
from tests.support.fakes import FakeBucket, FakeMachines
from tests.support.history import NEVER, Recorder, violation

_T = TypeVar("_T")


class Inside:
    """The process, seen from outside."""

    def __init__(self, wrap: Callable[[list[str]], list[str]]) -> None:
        """``wrap``: makes of a command one that runs at the other address."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                wrap([sys.executable, "-m", __name__, str(theirs.fileno())]),
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env={"PYTHONPATH": f"{ROOT}/functions", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        self._connection = Connection(ours.detach())

    def call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """What the function returns there; what it raises is raised here."""
        self._connection.send((function, arguments))
        result, problem = self._connection.recv()
        if problem is not None:
            raise problem
        answer: _T = result
        return answer

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# --- what is called there ----------------------------------------------------------------------------


def handle(
    sent: dict[str, Any], bucket: FakeBucket, machines: FakeMachines, budget: float, patience: float
) -> tuple[dict[str, str] | EtcdResizeError, FakeBucket, FakeMachines]:
    """The service takes an event; what it answers or refuses, and the journal and EC2 after it."""
    planning.HEALTH_PATIENCE = patience
    outside = service.Outside(EtcdGateway, bucket, bucket, machines, time, bucket.vault)
    answer: dict[str, str] | EtcdResizeError
    try:
        answer = service.handle(outside, parse(sent), budget)
    except EtcdResizeError as reason:
        answer = reason
    return answer, bucket, machines


def look(endpoints: Sequence[str]) -> ClusterView:
    """The cluster as it is seen from there."""
    return etcd.view(endpoints)


def lead(endpoints: Sequence[str], name: str) -> None:
    """Hand the leadership to the member of that name; it may have it already."""
    seen = etcd.view(endpoints)
    leader, target = seen.leader, seen.named(name)
    assert leader
    assert target
    if leader.id == target.id:
        return
    gateway = EtcdGateway(endpoints)
    try:
        gateway.move_leader(leader, target)
    finally:
        gateway.close()


_writers: list[tuple[Writer, Connections]] = []


def start_writing(endpoints: Sequence[str]) -> None:
    """Begin to write through all of the endpoints in turn."""
    connections = Connections()
    writer = Writer(connections, lambda: endpoints, Keys(f"apart-{os.getpid()}"))
    writer.start()
    _writers.append((writer, connections))


def acknowledged() -> int:
    """How many writes have been acknowledged so far."""
    return len(_writers[-1][0].ledger.numbers)


def stop_writing(endpoints: Sequence[str]) -> tuple[Figures, list[int]]:
    """What became of the writes, and which of the acknowledged ones are lost."""
    writer, connections = _writers.pop()
    writer.stop()
    lost = read_back(connections, endpoints, writer.keys, writer.ledger.numbers)
    connections.close()
    return writer.ledger.figures(), lost


_recorders: list[tuple[Recorder, Connections]] = []


def start_recording(endpoints: Sequence[str]) -> None:
    """Let several clients read and write registers through all of the endpoints."""
    connections = Connections()
    recorder = Recorder(connections, lambda: endpoints)
    recorder.start()
    _recorders.append((recorder, connections))


def recorded() -> int:
    """How many operations have been answered so far."""
    recorder, _ = _recorders[-1]
    return sum(operation.ended < NEVER for operation in tuple(recorder.history))


def stop_recording() -> tuple[int, int, list[str]]:
    """How many operations were answered, how many were not, and those that no register can have answered so."""
    recorder, connections = _recorders.pop()
    history = recorder.stop()
    connections.close()
    answered = sum(operation.ended < NEVER for operation in history)
    return answered, recorder.errors, [str(operation) for operation in violation(history)]


def _serve(descriptor: int) -> None:
    connection = Connection(descriptor)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        answer: tuple[object, Exception | None]
        try:
            answer = function(*arguments), None
        except Exception as problem:  # noqa: BLE001 — whoever called wants it
            answer = None, problem
        connection.send(answer)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
