"""Container machines in tests: whether they are to be had here, and the member that one boots."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.userdata import render
from playground import network, tree
from playground.local import Playground

BOOT_SECONDS = 15.0
"""From switching a machine on to a healthy member, at most, on processors that have nothing else to do."""


def time_to_boot() -> float:
    """The seconds that a boot may take now: as much longer as others share the processors (the load of a minute)."""
    return BOOT_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def require() -> None:
    """Skip the test, with the reason, where there are no containers."""
    if lacking := tree.missing():
        pytest.skip(lacking)


def lonely(address: str, name: str = "lonely") -> bytes:
    """The UserData of the only member of a new cluster, as the function renders it."""
    identity = Identity("alone", name, address)
    spec = MemberSpec(identity, ((name, identity.peer_url),), "new", "alone")
    return render("cloud-init", spec, b"")


def healthy(address: str) -> bool:
    """Whether the member there serves now."""
    try:
        with urllib.request.urlopen(f"http://{address}:2379/health", timeout=1) as answer:
            return bool(json.load(answer)["health"] == "true")
    except OSError:
        return False


@contextmanager
def beside(playground: Playground, prefix: str, count: int) -> Iterator[list[str]]:
    """So many addresses of this host that the playground's machines reach; ``prefix``: of those of processes."""
    if playground.kind == "process":
        yield [f"{prefix}.210.{number}" for number in range(11, 11 + count)]
        return
    addresses = [f"{playground.network}.250.{number}" for number in range(11, 11 + count)]
    device = network.name_of(playground.directory)
    for address in addresses:
        network.ip("address", "add", f"{address}/32", "dev", device)
    try:
        yield addresses
    finally:
        for address in addresses:
            network.ip("address", "delete", f"{address}/32", "dev", device)


def remains(name: str) -> list[str]:
    """What there is on this machine of a network and its containers."""
    named = [line for line in network.ip("netns", "list").splitlines() if line.startswith(name)]
    named += [line for line in network.ip("-oneline", "link").splitlines() if name in line]
    mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    named += [line for line in mounted if name in line]
    for folder in ("/run/etcd-resize", "/run/systemd/nspawn", "/sys/fs/cgroup"):
        named += [str(path) for path in Path(folder).rglob(f"*{name}*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        named += [words] if f"--machine={name}" in words else []
    return named
