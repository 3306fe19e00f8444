"""Machines that boot etcd from a UserData: what they are, where they lie on disk, how they are ended.

A machine is a folder. The local CloudFormation starts and stops machines (`Machines`); any other process reads them
(`read`) and breaks them (`kill`, `pause`, `resume`, `restart`, `cut_off`, `heal`) by process id. A process id counts
only together with the time at which its process started: a number that the kernel gave away again is never signalled.

What a machine is made of, a process or a container, is in `booting`. This module knows nothing of stacks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from playground import control_groups, network, records
from playground.journal import Journal
from playground.processes import is_stopped, start_time


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine as it was when it was looked at."""

    instance: str
    address: str
    name: str
    """Its member's: ETCD_NAME in a process machine's UserData, a container's tag Name; nothing if there is none."""
    pid: int | None
    """The process that is the machine: etcd's, or its systemd-nspawn's. None unless it runs."""
    state: str
    """running, stopped, never-booted or exited."""
    protected: bool
    """Whether EC2 refuses to terminate it."""
    user_data: bytes
    image: str
    started: str = ""
    """When that process started, in the kernel's own count: the guard against a reused process id."""
    folder: Path = Path()
    kind: str = "process"
    """process or container."""
    control_group: str = ""
    """What holds a container's processes; a process machine has none."""
    port: str = ""
    """A container's port of the playground's bridge."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """What EC2 is told about a machine when it is to be started."""

    instance: str
    address: str
    image: str
    user_data: bytes
    name: str
    """The tag Name."""


class MachineError(Exception):
    """A machine cannot do what was asked. The message says why."""


class Bootable(Protocol):
    """One machine of any kind, as `Machines` handles it: the seam for machines that really boot."""

    facts: dict[str, Any]
    """What machine.json says: the fields of `Machine` that lie on disk, and the kind."""
    user_data: bytes

    def boot(self, *, starts: bool = True) -> bool:
        """Come up for the first time. False if there is no etcd to start: then it is never-booted."""

    def reboot(self, user_data: bytes) -> None:
        """Stop, take another UserData, start."""

    def terminate(self) -> None:
        """End for good."""

    def save(self, **changed: object) -> None:
        """Change what machine.json says."""


# ---- for any process: look at machines, break them ----


def read(root: Path) -> list[Machine]:
    """The machines under a folder, in the order of their addresses; terminated ones are left out."""
    found = [_read(folder) for folder in root.glob("i-*")] if root.exists() else []
    machines = [machine for machine in found if machine is not None and machine.state != "terminated"]
    return sorted(machines, key=lambda machine: [int(part) for part in machine.address.split(".")])


def kill(machine: Machine) -> None:
    """The power goes: everything is killed and stays down until `restart`."""
    order(machine.folder, running=False)
    send(machine, signal.SIGKILL)


def pause(machine: Machine) -> None:
    """The machine hangs: it neither answers nor ends."""
    if machine.control_group:
        control_groups.freeze(Path(machine.control_group), frozen=True)
    else:
        send(machine, signal.SIGSTOP)


def resume(machine: Machine) -> None:
    """A paused machine goes on."""
    if machine.control_group:
        control_groups.freeze(Path(machine.control_group), frozen=False)
    else:
        send(machine, signal.SIGCONT)


def is_paused(machine: Machine) -> bool:
    """Whether the machine hangs."""
    if machine.control_group:
        return control_groups.is_frozen(Path(machine.control_group))
    return machine.pid is not None and is_stopped(machine.pid)


def restart(machine: Machine) -> None:
    """Start a machine again on its own data, after shutting it down if it runs."""
    order(machine.folder, running=True)
    send(machine, signal.SIGTERM)
    resume(machine)  # a paused one hears nothing else


def cut_off(machine: Machine) -> None:
    """Nobody reaches the machine any more, and it reaches nobody. Raises MachineError if it is none of that kind."""
    network.switch(_port(machine), on=False)


def heal(machine: Machine) -> None:
    """A machine that was cut off is on the network again."""
    network.switch(_port(machine), on=True)


def end_all(root: Path) -> list[Machine]:
    """Kill every machine under a folder, whoever started it; return those that still ran."""
    left = [machine for machine in read(root) if machine.pid is not None]
    for machine in left:
        order(machine.folder, running=False)
        send(machine, signal.SIGKILL)
    return left


def send(machine: Machine, number: signal.Signals) -> None:
    """Signal the machine's process, unless it is gone."""
    if machine.pid is not None and start_time(machine.pid) == machine.started:
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.kill(machine.pid, number)


def _read(folder: Path) -> Machine | None:
    try:
        facts = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
        user_data = (folder / "user-data").read_bytes()
    except OSError:
        return None  # it is being made
    machine = Machine(**facts, user_data=user_data, folder=folder)
    if machine.pid is not None and start_time(machine.pid) != machine.started:
        return dataclasses.replace(
            machine, pid=None, state="exited" if machine.state == "running" else machine.state
        )
    return machine


def _port(machine: Machine) -> str:
    if not machine.port:
        raise MachineError(
            f"{machine.name} is a process of this machine's own network: only a container is cut off."
        )
    return machine.port


def order(folder: Path, *, running: bool) -> None:
    """Tell the machine's supervisor what is wanted; a new number makes it start the machine once more."""
    records.write(folder / "orders.json", {"running": running, "number": orders(folder)["number"] + 1})


def orders(folder: Path) -> dict[str, Any]:
    """What is wanted of the machine: whether it is to be running, and the number of the order."""
    try:
        wanted: dict[str, Any] = json.loads((folder / "orders.json").read_text(encoding="utf-8"))
    except OSError:
        return {"running": True, "number": 0}
    return wanted


# ---- for the local CloudFormation: start and stop machines ----


class Machines:
    """Every machine of a playground, by instance id, and what the journal says of them."""

    def __init__(
        self,
        root: Path,
        make: Callable[[Path, Launch], Bootable],
        never_boot: Path,
        journal: Journal,
    ) -> None:
        """`make` takes the machine's folder. `never_boot` is a file that keeps machines from booting."""
        self._root = root
        self._make = make
        self._never_boot = never_boot
        self._journal = journal
        self._machines: dict[str, Bootable] = {}

    def start(self, launch: Launch) -> None:
        """Boot a new machine. A UserData that is not understood leaves it never-booted, with the reason in its log."""
        machine = self._make(self._root / launch.instance, launch)
        self._machines[launch.instance] = machine
        booted = machine.boot(starts=not self._never_boot.exists())
        self._note("start" if booted else "never-booted", machine)

    def stop(self, instance: str) -> None:
        """End a machine for good; one that is gone already is fine."""
        machine = self._machines.pop(instance, None)
        if machine:
            machine.terminate()
            self._note("stop", machine)

    def stop_all(self) -> None:
        """End every machine, side by side, as a datacentre that goes dark does."""
        threads = [threading.Thread(target=machine.terminate) for machine in self._machines.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def reboot(self, instance: str, user_data: bytes) -> None:
        """Stop and start a machine whose UserData changed. As with cloud-init, files are written at the first boot."""
        machine = self._machines[instance]
        machine.reboot(user_data)
        self._note("reboot", machine)

    def power(self, instance: str, *, on: bool) -> None:
        """Start a machine that is down, or is about to be, on its own data; or shut it down in order."""
        folder = self._root / instance
        machine = _read(folder)
        if instance not in self._machines or machine is None:
            return
        if not on:
            order(folder, running=False)
            send(machine, signal.SIGTERM)
        elif machine.pid is None or not orders(folder)["running"]:
            order(folder, running=True)

    def protect(self, instance: str, *, protected: bool) -> None:
        """Record whether EC2 may terminate the machine."""
        machine = self._machines.get(instance)
        if machine and machine.facts["protected"] != protected:
            machine.save(protected=protected)
            self._note("protect" if protected else "unprotect", machine)

    def refuse(self, instance: str) -> None:
        """Record that EC2 refused to terminate a protected machine."""
        if machine := self._machines.get(instance):
            self._note("refused", machine)

    def state(self, instance: str) -> str:
        """running, stopped, never-booted, exited, or nothing if there is no such machine."""
        machine = self._machines.get(instance)
        return str(machine.facts["state"]) if machine else ""

    def _note(self, what: str, machine: Bootable) -> None:
        facts = machine.facts
        self._journal.write(
            "machine",
            what=what,
            instance=facts["instance"],
            address=facts["address"],
            name=facts["name"],
            image=facts["image"],
            user_data_sha256=hashlib.sha256(machine.user_data).hexdigest(),
        )
