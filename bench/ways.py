"""Ways to resize one and the same cluster: the floor, by hand with etcdctl, and ours.

Each starts its etcd processes the same way, by the environment of a ``MemberSpec``; they differ in who changes the
membership. Nothing here measures.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from etcd_resize.errors import Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model import Identity, Member, MemberSpec, client_url
from tests.support.by_hand import Stack
from tests.support.etcd import Etcd, wait_healthy

HOST = "127.0.0.1"
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
        return len(self.machines)

    @property
    def urls(self) -> list[str]:
        return [identity.client_url for identity in self.identities[: self.size]]

    @property
    def next(self) -> Identity:
        return self.identities[self.size]

    def stop(self) -> None:
        for machine in self.machines:
            machine.kill()

    def _boot(self) -> None:
        peers = tuple((one.name, one.peer_url) for one in self.identities[: self.size + 1])
        state = "existing" if self.machines else "new"
        spec = MemberSpec(self.next, peers, state, "etcd")
        self.machines.append(Etcd(self.etcd, self.folder, spec.environment()))


class Floor(_Processes):
    """A bare script straight over gRPC: nothing is asked that etcd need not be asked."""

    def grow(self, size: int) -> None:
        etcd = EtcdGateway(self.urls)
        try:
            while self.size < size:
                peer = self.next.peer_url
                insist(etcd.view)
                insist(lambda: etcd.add_learner(peer))
                self._boot()
                insist(lambda: etcd.promote(_listed(etcd, peer)))
        finally:
            etcd.close()

    def shrink(self, size: int) -> None:
        etcd = EtcdGateway(self.urls)
        try:
            while self.size > size:
                peer = self.identities[self.size - 1].peer_url
                leaving, view = _listed(etcd, peer), etcd.view()
                if view.leader == leaving:
                    etcd.move_leader(leaving, next(one for one in view.voters if one != leaving))
                insist(lambda: etcd.remove(_listed(etcd, peer)))
                self.machines.pop().kill()
        finally:
            etcd.close()


def _listed(etcd: EtcdGateway, peer: str) -> Member:
    member = etcd.view().at(peer)
    if member is None:
        raise Retryable(f"{peer} is not listed yet")
    return member


class ByHand(_Processes):
    """The procedure with etcdctl, scripted: add, environment, start, wait for it; remove, stop."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str], *, learners: bool) -> None:
        super().__init__(etcd, folder, addresses)
        self.learners = learners

    def grow(self, size: int) -> None:
        while self.size < size:
            identity = self.next
            arguments = [identity.name, f"--peer-urls={identity.peer_url}"]
            insist(lambda: self._etcdctl("member", "add", *arguments, *["--learner"] * self.learners))
            self._boot()
            if self.learners:
                insist(lambda: self._etcdctl("member", "promote", self._id(identity)))
            insist(lambda: self._etcdctl("endpoint", "health"))

    def shrink(self, size: int) -> None:
        while self.size > size:
            identity = self.identities[self.size - 1]
            insist(lambda: self._etcdctl("member", "remove", self._id(identity)))
            self.machines.pop().kill()

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


class Answers:
    """Where CloudFormation takes answers: an HTTPS server on loopback with a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.taken: list[dict[str, Any]] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                answers.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the terminal is for the figures."""

        self.certificate = _certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://{HOST}:{self._server.server_port}/answer"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _certificate(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "answers.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"]
    command += ["-keyout", str(made.with_suffix(".key")), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made


class Context:
    """Lambda's context of one event."""

    aws_request_id = "bench"

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
        os.environ.setdefault("AWS_REGION", "eu-west-1")
        from etcd_resize import handler  # noqa: PLC0415 - crhelper makes clients for a region when it is imported

        self._handler = handler
        self._replies = Answers(folder)
        os.environ["SSL_CERT_FILE"] = str(self._replies.certificate)
        self.grow(1)

    @property
    def size(self) -> int:
        return len(self.machines)

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        self._handler.outside = lambda: self.outside
        self._handler.handler({**sent, "ResponseURL": self._replies.url}, Context(BUDGET_SECONDS))
        reply = self._replies.taken.pop()
        if reply["Status"] != "SUCCESS":
            raise Retryable(reply["Reason"])
        return dict(reply["Data"])

    def stop(self) -> None:
        super().stop()
        self._replies.stop()


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
