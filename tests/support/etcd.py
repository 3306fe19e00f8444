"""Real etcd processes on loopback addresses, started from the environment that a machine would give them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from etcd_resize.errors import Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import client_url, peer_url
from playground import tools
from tests.support.waiting import wait_until


def program(version: str) -> Path:
    """The etcd of that version; a machine that could not get it skips the test and says so."""
    try:
        return tools.etcd(version)
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))


class Etcd:
    """One etcd process. Its data and its log lie in ``folder``."""

    def __init__(self, binary: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = environment["ETCD_NAME"]
        self.client_url = environment["ETCD_ADVERTISE_CLIENT_URLS"]
        self._binary, self._folder = binary, folder
        self._environment = {**environment, "ETCD_DATA_DIR": str(folder / f"{self.name}.data")}
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start it, or start it again with the data it has."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(), env={**os.environ, **self._environment}, stdout=log, stderr=log
            )

    def _command(self) -> list[str]:
        """What is run; a machine of another kind runs it elsewhere."""
        return [str(self._binary)]

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)


class HandMade:
    """A cluster that somebody else started: its members bootstrapped together, without us."""

    def __init__(self, binary: Path, folder: Path, members: Mapping[str, str], token: str = "hand") -> None:
        """``members``: names and addresses."""
        initial = tuple((name, peer_url(address)) for name, address in members.items())
        self.members = [
            Etcd(
                binary,
                folder,
                MemberSpec(Identity("hand", name, address), initial, "new", token).environment(),
            )
            for name, address in members.items()
        ]
        self.endpoints = tuple(client_url(address) for address in members.values())

    def wait_healthy(self) -> ClusterView:
        """The view once every member serves."""
        return wait_healthy(self.endpoints, len(self.members))

    def named(self, name: str) -> Etcd:
        """The process of that member."""
        return next(member for member in self.members if member.name == name)

    def stop(self) -> None:
        """End every process."""
        for member in self.members:
            member.kill()


def view(endpoints: Sequence[str]) -> ClusterView:
    """The cluster as it is now."""
    gateway = EtcdGateway(endpoints)
    try:
        return gateway.view()
    finally:
        gateway.close()


def wait_healthy(endpoints: Sequence[str], voters: int) -> ClusterView:
    """The view once so many voters serve, and no other one is listed."""
    seen: list[ClusterView] = []

    def healthy() -> bool:
        try:
            seen.append(view(endpoints))
        except Exception:  # noqa: BLE001 — it is not there yet, whatever it says
            return False
        return len(seen[-1].voters) == voters and all(member.health.serving for member in seen[-1].voters)

    wait_until(healthy, f"{voters} healthy voters behind {', '.join(endpoints)}")
    return seen[-1]


def accepted(change: Callable[[], object]) -> bool:
    """Whether etcd does it now; it may have to wait for a learner that is not in sync, or for a voter that is new."""
    try:
        change()
    except Retryable:
        return False
    return True
