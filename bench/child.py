"""A way in a process of its own, as the function is on AWS, so that it delays nobody's clock. Both ends of the pipe.

The process is ``python -m bench.child <way> <etcd> <folder> <address>...``. It takes a size a line, goes there, and
answers with a line of JSON: ``seconds`` that it took, and ``leaderless_seconds`` since the answer before. The first
answer comes once the cluster of one member serves. At the end of its input it ends its members and itself.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from bench.ways import WAYS, ready
from etcd_resize import gateway
from etcd_resize.model.urls import client_url
from playground import tools
from playground.threads import StoppableThread

from etcd3 import etcdrpc  # isort: skip # etcd_resize makes it loadable

LOOK = 0.05
"""Seconds between two looks for a leader."""
END_SECONDS = 10.0
"""What the process may take to end by itself."""


# --- this end: who measures -------------------------------------------------------------------------


class Child:
    """A way that is elsewhere."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self, size: int) -> dict[str, float]:
        """Let it go to that size, and wait until all members serve; its ``seconds`` and ``leaderless_seconds``."""
        print(size, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, float]:
        """What it says next. Raises RuntimeError if it has ended; why is on the terminal."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("the way's process has ended")
        told: dict[str, float] = json.loads(line)
        return told


@contextmanager
def child(name: str, etcd: Path, folder: Path, addresses: list[str]) -> Iterator[Child]:
    """The way ``name`` with one member that serves. Whatever happens, neither it nor a member is left behind."""
    command = [sys.executable, "-m", "bench.child", name, str(etcd), str(folder), *addresses]
    process = subprocess.Popen(
        command,
        cwd=tools.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, in which its members are found should it die before them
    )
    try:
        started = Child(process)
        started.answer()
        yield started
    finally:
        try:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=END_SECONDS)  # the end of its input is the sign to stop
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- the other end: who is measured -----------------------------------------------------------------


class Leaders:
    """For how long the first member, which stays, knew of no leader; it alone is asked, every LOOK seconds."""

    def __init__(self, url: str) -> None:
        self._client = gateway.client(url, None)
        self._without, self._told = 0.0, 0.0
        self._thread = StoppableThread(self._run, "leaders")
        self._thread.start()

    def without(self) -> float:
        """The seconds without a leader since this was asked last."""
        before, self._told = self._told, self._without
        return self._told - before

    def stop(self) -> None:
        """Look no more."""
        self._thread.stop()
        self._client.close()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._thread.rest(LOOK):
            try:
                led = self._client.maintenancestub.Status(etcdrpc.StatusRequest(), timeout=1).leader != 0
            except grpc.RpcError:
                led = False
            now = time.monotonic()
            self._without += 0.0 if led else now - before
            before = now


def main(arguments: Sequence[str]) -> int:
    """Go where standard input says."""
    name, etcd, folder, *addresses = arguments
    logging.disable(logging.CRITICAL)  # the handler's log of each plan would be among the figures
    way = WAYS[name](Path(etcd), Path(folder), addresses)
    try:
        ready(way, addresses)
        leaders = Leaders(client_url(addresses[0]))  # at rest as well: it is no difference between the two
        _answer(0.0, leaders)
        for line in sys.stdin:
            size, begun = int(line), time.monotonic()
            (way.grow if size > way.size else way.shrink)(size)
            seconds = time.monotonic() - begun
            ready(way, addresses)  # not counted: the next step begins with a cluster that is whole
            _answer(seconds, leaders)
        leaders.stop()
    finally:
        way.stop()
    return 0


def _answer(seconds: float, leaders: Leaders) -> None:
    told = {"seconds": round(seconds, 3), "leaderless_seconds": round(leaders.without(), 3)}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
