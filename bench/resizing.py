"""One round: a way goes through the sizes under continuous writes, and every write is on the account."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.ways import WAYS, Way, fresh, ready
from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.urls import client_url
from playground import tools
from playground.connections import Connections
from playground.writer import Keys, Mark, Writer

SIZES = (1, 3, 5, 3, 1)
REST_SECONDS = 3.0
"""How long is written before the first step, for the figures at rest."""
SLOW_MS = 100.0
LOOK = 0.05


class Leaders:
    """How long the first member, which stays, knew of no leader; seen every LOOK seconds."""

    def __init__(self, url: str) -> None:
        self.without = 0.0
        self._gateway = EtcdGateway([url])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The seconds without a leader."""
        self._stop.set()
        self._thread.join()
        self._gateway.close()
        return self.without

    def _run(self) -> None:
        before, led = time.monotonic(), True
        while not self._stop.wait(LOOK):
            try:
                led = self._gateway.view().leader is not None
            except (Retryable, Refused):
                led = False
            now = time.monotonic()
            self.without += 0.0 if led else now - before
            before = now


def one_round(name: str, etcd: Path, folder: Path, addresses: list[str]) -> dict[str, Any]:
    """The raw figures of one way: seconds a step, and the writes at rest and meanwhile."""
    way = WAYS[name](etcd, fresh(folder), addresses)
    connections = Connections()
    # the writer knows the members that stay throughout: what it sees is the cluster, not a member that goes
    writer = Writer(connections, lambda: [client_url(addresses[0])], Keys(f"bench-{time.time_ns()}"))
    try:
        ready(way, addresses)
        writer.start()
        time.sleep(REST_SECONDS)
        rest = writer.ledger.mark()
        leaders = Leaders(client_url(addresses[0]))
        steps = [_step(way, size, before, writer, addresses) for before, size in pairwise(SIZES)]
        without = leaders.stop()
        writer.stop()
        done = writer.ledger.figures(rest)
        return {
            "way": name,
            "steps": steps,
            "rest": asdict(writer.ledger.figures(Mark(), rest)),
            "resizing": asdict(done),
            "slow": writer.ledger.slower(SLOW_MS, rest),
            "leaderless_seconds": round(without, 3),
        }
    finally:
        writer.stop()
        connections.close()
        way.stop()


def _step(way: Way, size: int, before: int, writer: Writer, addresses: list[str]) -> dict[str, Any]:
    mark, begun = writer.ledger.mark(), time.monotonic()
    (way.grow if size > before else way.shrink)(size)
    seconds = time.monotonic() - begun
    ready(way, addresses)  # not counted: the next step begins with a cluster that is whole
    figures = asdict(writer.ledger.figures(mark))
    return {"from": before, "to": size, "seconds": round(seconds, 3), "writes": figures}


def whole_stack(folder: Path) -> dict[str, Any]:
    """What ``make demo`` comes to without TLS: sam, CloudFormation and the handler in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "playground.demo",
        "--plain",
        "--tls",
        "off",
        "--result",
        str(folder / "result.json"),
    ]
    subprocess.run(command, cwd=tools.ROOT, stdout=subprocess.DEVNULL, check=True)
    told = json.loads((folder / "result.json").read_text())
    return {"steps": told["steps"], "writes": told["writes"]}
