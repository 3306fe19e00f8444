"""Ways to resize one and the same cluster: the floor, by hand with etcdctl, and ours.

Each starts its etcd processes the same way, by the environment of a ``MemberSpec``; they differ in who changes the
membership. Nothing here measures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from etcd_resize import handler
from etcd_resize.errors import Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.handler import LOCAL
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import client_url
from playground.faults.mailbox import Mailbox, self_signed
from tests.support.by_hand import Stack
from tests.support.etcd import Etcd, wait_healthy
from tests.support.events import FUNCTION

PATIENCE = 30.0
LOOK = 0.01
"""Seconds between two tries of what etcd refuses for now."""
BUDGET_SECONDS = 60.0
"""What an event gets of Lambda's time."""


class Way(Protocol):
    """One way. ``size`` members run; ``grow`` and ``shrink`` change that to another size."""

    @property
    def size(self) -> int:
        """How many members there are."""

    def grow(self, size: int) -> None:
        """Add members, one at a time, until there are ``size``."""

    def shrink(self, size: int) -> None:
        """Remove members, the last first, until there are ``size``."""

    def stop(self) -> None:
        """End every process."""


def insist(change: Callable[[], object]) -> None:
    """Repeat what etcd refuses for now, for PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            change()
        except Retryable:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK)
        else:
            return


class _Processes:
    """Members as processes, and where they are."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        self.etcd, self.folder = etcd, folder
        self.identities = [
            Identity("etcd", f"etcd-{number + 1}", address) for number, address in enumerate(addresses)
        ]
        self.machines: list[Etcd] = []
        self._boot()

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.machines)

    @property
    def urls(self) -> list[str]:
        """Where they are reached."""
        return [identity.client_url for identity in self.identities[: self.size]]

    def grow(self, size: int) -> None:
        """Add members, one at a time, until there are ``size``."""
        while self.size < size:
            self._join(self.identities[self.size])

    def shrink(self, size: int) -> None:
        """Remove members, the last first, until there are ``size``."""
        while self.size > size:
            self._leave(self.identities[self.size - 1])
            self.machines.pop().kill()

    def stop(self) -> None:
        """End every process."""
        for machine in self.machines:
            machine.kill()

    def _join(self, identity: Identity) -> None:
        raise NotImplementedError

    def _leave(self, identity: Identity) -> None:
        raise NotImplementedError

    def _boot(self) -> None:
        peers = tuple((one.name, one.peer_url) for one in self.identities[: self.size + 1])
        state = "existing" if self.machines else "new"
        spec = MemberSpec(self.identities[self.size], peers, state, "etcd")
        self.machines.append(Etcd(self.etcd, self.folder, spec.environment()))


def _listed(etcd: EtcdGateway, peer: str) -> Member:
    member = etcd.view().at(peer)
    if member is None:
        raise Retryable(f"{peer} is not listed yet")
    return member


class Floor(_Processes):
    """A bare script straight over gRPC: nothing is asked that etcd need not be asked."""

    def _join(self, identity: Identity) -> None:
        with closing(EtcdGateway(self.urls)) as etcd:
            insist(etcd.view)  # it tells the gateway who votes
            insist(lambda: etcd.add_learner(identity.peer_url))
            self._boot()
            insist(lambda: etcd.promote(_listed(etcd, identity.peer_url)))

    def _leave(self, identity: Identity) -> None:
        with closing(EtcdGateway(self.urls)) as etcd:
            leaving, view = _listed(etcd, identity.peer_url), etcd.view()
            if view.leader == leaving:
                etcd.move_leader(leaving, next(one for one in view.voters if one != leaving))
            insist(lambda: etcd.remove(leaving))


class ByHand(_Processes):
    """The procedure with etcdctl, scripted: add, environment, start, wait for it; remove, stop."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str], *, learners: bool) -> None:
        super().__init__(etcd, folder, addresses)
        self.learners = learners

    def _join(self, identity: Identity) -> None:
        learner = ["--learner"] * self.learners
        add = ("member", "add", identity.name, f"--peer-urls={identity.peer_url}", *learner)
        insist(lambda: self._etcdctl(*add))
        self._boot()
        if self.learners:
            insist(lambda: self._etcdctl("member", "promote", self._id(identity)))
        insist(lambda: self._etcdctl("endpoint", "health"))

    def _leave(self, identity: Identity) -> None:
        insist(lambda: self._etcdctl("member", "remove", self._id(identity)))

    def _id(self, identity: Identity) -> str:
        listed = json.loads(self._etcdctl("member", "list", "--write-out=json"))["members"]
        found = (one["ID"] for one in listed if identity.peer_url in one["peerURLs"])
        return f"{next(found):x}"

    def _etcdctl(self, *arguments: str) -> str:
        """What it printed; Retryable if it failed. The first member is asked: it is never the one that leaves."""
        command = [str(self.etcd.parent / "etcdctl"), f"--endpoints={self.urls[0]}", *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise Retryable(ended.stderr.strip()[-200:])
        return ended.stdout


class Context:
    """Lambda's context of one event."""

    aws_request_id = "bench"
    invoked_function_arn = FUNCTION

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """What is left of its time."""
        return int((self._end - time.monotonic()) * 1000)


class Ours(Stack):
    """The real handler with the real crhelper, fed with the events that CloudFormation would send.

    What it answers goes through HTTPS, and the machines boot from the UserData in it. The bucket and EC2's protection
    are in memory: they are no part of what etcd costs.
    """

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        super().__init__(etcd, folder, addresses)
        os.environ[LOCAL] = "1"
        trusted = self_signed(folder)
        os.environ["SSL_CERT_FILE"] = str(trusted)
        self._mailbox = Mailbox(trusted)
        self._mailbox.__enter__()
        self.grow(1)

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.machines)

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        """What the answer to the event has in its Data; Retryable with its reason if it failed."""
        url, answered = self._mailbox.address()
        with mock.patch.object(handler, "outside", return_value=self.outside):
            handler.handler({**sent, "ResponseURL": url}, Context(BUDGET_SECONDS))
        answer = answered(BUDGET_SECONDS)
        if answer.get("Status") != "SUCCESS":
            raise Retryable(str(answer.get("Reason")))
        return dict(answer["Data"])

    def stop(self) -> None:
        """End every process, and take no more answers."""
        super().stop()
        self._mailbox.__exit__()


def ready(way: Way, addresses: list[str]) -> None:
    """Wait until every member serves."""
    wait_healthy([client_url(address) for address in addresses[: way.size]], way.size)


WAYS: dict[str, Callable[[Path, Path, list[str]], Way]] = {
    "floor": Floor,
    "etcdctl, voters": lambda etcd, folder, addresses: ByHand(etcd, folder, addresses, learners=False),
    "etcdctl, learners": lambda etcd, folder, addresses: ByHand(etcd, folder, addresses, learners=True),
    "ours": Ours,
}


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
