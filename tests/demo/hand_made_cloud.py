"""A cloud for the demo without CloudFormation: it changes the membership itself, by etcd's own calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from etcd_resize.errors import Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from tests.support.etcd import Etcd
from tests.support.waiting import wait_until

T = TypeVar("T")
PATIENCE = 15.0


@dataclass(frozen=True)
class Deployment:
    ok: bool
    reason: str = ""
    seconds: float = 0.5
    output: str = "Deploying\n\nError: the change set cannot be made\n\nSee a web page\n"


@dataclass(frozen=True)
class Machine:
    instance: str
    name: str
    state: str = "running"
    protected: bool = False


@dataclass
class Journal:
    written: list[Mapping[str, Any]] = field(default_factory=list)

    def records(self) -> list[Mapping[str, Any]]:
        return list(self.written)


def insist(call: Callable[[], T]) -> T:
    """Repeat what etcd refuses for now."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Retryable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass
class HandMadeCloud:
    """What the demo needs of a playground. ``fails`` maps a size to the reason why its deployment fails."""

    binary: Path
    folder: Path
    addresses: list[str]
    fails: Mapping[int, str] = field(default_factory=dict)
    leave_behind: bool = False
    before_answer: Callable[[HandMadeCloud], None] = lambda _: None
    journal: Journal = field(default_factory=Journal)
    deployed: list[Mapping[str, str]] = field(default_factory=list)
    processes: dict[Identity, Etcd] = field(default_factory=dict)
    seen: dict[str, Machine] = field(default_factory=dict)
    built: int = 0
    handed_over: list[str] = field(default_factory=list)

    def build(self) -> None:
        self.built += 1

    def parameters(self) -> dict[str, str]:
        return {"VpcId": "vpc-1"}

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> Deployment:
        assert stack == "etcd"
        self.deployed.append(dict(parameters))
        size = int(parameters["ClusterSize"])
        if size in self.fails:
            return Deployment(ok=False, reason=self.fails[size])
        if "Members" in parameters:
            self._replace_the_dead()
        while len(self.running) < size:
            self._grow()
        while len(self.running) > size:
            self._shrink()
        self.before_answer(self)
        return Deployment(ok=True)

    def delete(self, stack: str) -> Deployment:
        for identity in self.running:
            self._machine(identity, "stop")
        self.stop()
        return Deployment(ok=True)

    @property
    def running(self) -> list[Identity]:
        """Whose etcd was started and not ended, the oldest first."""
        return list(self.processes)

    def machines(self) -> list[Machine]:
        return list(self.seen.values())

    def kill_member(self, name: str) -> None:
        next(process for identity, process in self.processes.items() if identity.name == name).kill()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        self.processes.clear()

    def _grow(self) -> None:
        number = len(self.running)
        self._join(Identity("etcd", f"etcd-{number + 1}", self.addresses[number]))

    def _replace_the_dead(self) -> None:
        """As a flip does it: the dead one is removed, another one of its name joins from an address that is new."""
        (dead,) = [identity for identity, process in self.processes.items() if not process.running]
        del self.processes[dead]
        self._change(lambda etcd, view: etcd.remove(self._listed(view, dead)))
        self._join(Identity("etcd", dead.name, self.addresses[-1]), request="Update")
        self._machine(dead, "stop")

    def _join(self, identity: Identity, request: str = "Create") -> None:
        founds = not self.running
        peers = tuple((one.name, one.peer_url) for one in (*self.running, identity))
        if not founds:
            self._change(lambda etcd, _: etcd.add_learner(identity.peer_url))
        spec = MemberSpec(identity, peers, "new" if founds else "existing", "etcd")
        self.processes[identity] = Etcd(self.binary, self.folder / identity.address, spec.environment())
        self._machine(identity, "start")
        self._event(request, identity)
        if not founds:
            self._change(lambda etcd, view: etcd.promote(self._listed(view, identity)))

    def _shrink(self) -> None:
        identity = self.running[-1]

        def lead_elsewhere(etcd: EtcdGateway, view: ClusterView) -> None:
            target = self._listed(view, self.running[0])
            if view.leader and view.leader != target:
                etcd.move_leader(view.leader, target)
                self.handed_over.append(view.leader.name)

        self._change(lead_elsewhere)
        self._change(lambda etcd, view: etcd.remove(self._listed(view, identity)))
        process = self.processes.pop(identity)
        wait_until(lambda: not process.running, f"{identity.name} ends after its removal")
        self._event("Delete", identity)
        self._machine(identity, "stop")

    def _change(self, change: Callable[[EtcdGateway, ClusterView], None]) -> None:
        etcd = EtcdGateway([identity.client_url for identity in self.running])
        try:
            insist(lambda: change(etcd, etcd.view()))
        finally:
            etcd.close()

    @staticmethod
    def _listed(view: ClusterView, identity: Identity) -> Member:
        member = view.at(identity.peer_url)
        assert member is not None
        return member

    def _machine(self, member: Identity, what: str) -> None:
        instance = f"i-{member.address}"
        self.journal.written.append(
            {
                "at": time.time(),
                "kind": "machine",
                "what": what,
                "instance": instance,
                "address": member.address,
                "name": member.name,
                "image": "ami-1",
            }
        )
        if what == "start":
            self.seen[instance] = Machine(instance, member.name, protected=self.leave_behind)
        elif not self.leave_behind:
            del self.seen[instance]

    def _event(self, request: str, member: Identity) -> None:
        event = {
            "at": time.time(),
            "kind": "event",
            "request": request,
            "resource": "Custom::EtcdMember",
            "stack": "etcd",
            "logical": "Member",
            "physical": str(member),
        }
        self.journal.written.append({**event, "properties": {"Name": member.name}})
        answer = {"kind": "answer", "status": "SUCCESS", "reason": "", "seconds": 0.1, "data": {}}
        self.journal.written.append({**event, **answer, "at": time.time()})
