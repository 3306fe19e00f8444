"""The network of container machines: a bridge in a network namespace of its own, with one leg in the host's.

    host ── leg ══ [ bridge ] ══ eth0 of machine 1
                       ╚════════ eth0 of machine 2 …

The host and its machines reach each other at their own addresses. What goes from machine to machine never passes the
host's firewall, and no machine reaches anything beyond. Everything that belongs to a network is named after it — its
namespaces, its leg, its control group — so `sweep` ends all of it, whoever made it and however that ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playground import control_groups, records
from playground.processes import start_time

RECORDS = Path("/run/etcd-resize")
"""One file a network: who made it, so that the next one can end what a killed owner left."""
NSPAWN = Path("/run/systemd/nspawn")
"""Where systemd-nspawn leaves an empty folder or two of a machine whose power was cut."""
SCRATCH = (*(f"10.{second}" for second in range(200, 250)), *(f"172.{second}" for second in range(16, 32)))
"""The ranges that `scratch` tries."""


class NetworkError(Exception):
    """The network cannot be made. The message says why, and what to do."""


class Network:
    """The range <prefix>.0.0/16. Use it as a context manager, or call `up` and `down`.

    `folder` is the owner's: one network a folder, and its name is made from it.
    """

    def __init__(self, prefix: str, folder: Path) -> None:
        self.prefix = prefix
        self.name = name_of(folder)
        self.gateway = f"{prefix}.0.1"
        """The host's own address in it."""
        self.control_group = control_groups.own() / self.name

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Make the bridge and the host's leg, after ending what a killed owner left. Raises NetworkError."""
        with _locked():
            _sweep_abandoned()
            sweep(self.name)
            if taken := _taken(self.prefix):
                raise NetworkError(f"The network {self.prefix}.0.0/16 is taken by {taken}: choose another.")
            _record(self.name, self.control_group)
            try:
                self.control_group.mkdir()
                ip("netns", "add", self.name)
                ip("-n", self.name, "link", "add", "bridge", "type", "bridge")
                ip("-n", self.name, "link", "set", "bridge", "up")
                ip("link", "add", self.name, "type", "veth", "peer", "name", "host", "netns", self.name)
                ip("-n", self.name, "link", "set", "host", "master", "bridge", "up")
                ip("address", "add", f"{self.gateway}/16", "dev", self.name)
                ip("link", "set", self.name, "up")
            except (OSError, NetworkError) as error:
                sweep(self.name)
                raise NetworkError(f"This machine cannot have the network: {error}") from error

    def down(self) -> None:
        """End everything in it."""
        sweep(self.name)

    def attach(self, address: str) -> tuple[str, str]:
        """A network namespace with that address, and its port of the bridge, for `switch`."""
        short = "-".join(address.split(".")[2:])
        namespace, port = f"{self.name}-{short}", f"p{short}"
        mac = ":".join(f"{part:02x}" for part in (2, 0, *ipaddress.ip_address(address).packed))
        ip("netns", "add", namespace)
        ip("-n", self.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("-n", self.name, "link", "set", port, "master", "bridge", "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "link", "set", "eth0", "address", mac, "up")
        ip("-n", namespace, "address", "add", f"{address}/16", "dev", "eth0")
        return namespace, f"{self.name} {port}"

    def detach(self, namespace: str) -> None:
        """Take a machine's namespace away, and its port with it."""
        _forget(namespace)


def name_of(folder: Path) -> str:
    """The name of a folder's network."""
    return "etcd-" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Network]:
    """A network in any range that is free here."""
    for prefix in SCRATCH:
        if not _taken(prefix):
            with contextlib.suppress(NetworkError):  # somebody else was quicker
                network = Network(prefix, folder)
                network.up()
                break
    else:
        raise NetworkError("No private network is free on this machine.")
    try:
        yield network
    finally:
        network.down()


def switch(port: str, *, on: bool) -> None:
    """Let a machine's packets pass, or nothing any more."""
    network, device = port.split(" ")
    ip("-n", network, "link", "set", device, "up" if on else "down")


def sweep(name: str) -> None:
    """End what a network consists of: processes, namespaces, devices, control groups. Nothing to end is fine."""
    record = RECORDS / f"{name}.json"
    if not record.exists():  # so whoever never made a network needs no root
        return
    control_groups.end(Path(json.loads(record.read_text(encoding="utf-8"))["control_group"]))
    for namespace in _namespaces():
        if namespace.startswith(f"{name}-"):
            _forget(namespace)
    subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)  # if it is there
    if name in _namespaces():
        ip("netns", "delete", name)
    record.unlink(missing_ok=True)


def ip(*arguments: str) -> str:
    """Run `ip`. Raises NetworkError with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _forget(namespace: str) -> None:
    """Take away what the host keeps of one machine."""
    for kind in ("propagate", "unix-export"):
        shutil.rmtree(NSPAWN / kind / namespace, ignore_errors=True)
    if namespace in _namespaces():
        ip("netns", "delete", namespace)


def _namespaces() -> list[str]:
    return [line.split()[0] for line in ip("netns", "list").splitlines() if line]


def _taken(prefix: str) -> str:
    """The interface whose route overlaps a range; nothing if it is free."""
    wanted = ipaddress.ip_network(f"{prefix}.0.0/16")
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default" and ipaddress.ip_network(route["dst"]).overlaps(wanted):
            return str(route.get("dev", "a route"))
    return ""


def _record(name: str, control_group: Path) -> None:
    record = {
        "pid": os.getpid(),
        "started": start_time(os.getpid()),
        "control_group": str(control_group),
    }
    records.write(RECORDS / f"{name}.json", record)


def _sweep_abandoned() -> None:
    for record in RECORDS.glob("*.json"):
        owner: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if start_time(owner["pid"]) != owner["started"]:
            sweep(record.stem)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """One at a time: whether a range is free is asked and acted upon together."""
    RECORDS.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (RECORDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
