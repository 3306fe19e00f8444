"""Machines in network namespaces of their own, joined by a switch of ours: partitions, one-way loss, delay, loss.

Every namespace, device and address exists for one test: the host's own network is neither touched nor reached. Names
carry the process id of the test run; what a run that was killed has left behind is removed by the next one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Self

import pytest

from tests.support.switch import MAC

NETWORK = "10.99.0"
FIRST, LAST = 11, 19
"""The machines' last numbers; the function and the client have their own."""
FUNCTION, CLIENT = f"{NETWORK}.101", f"{NETWORK}.102"
_PREFIX = "etcd-resize"


class Network:
    """The machines of one test, by address. ``with Network() as network:``."""

    def __init__(self) -> None:
        _require()
        self._names: dict[str, str] = {}
        self._switch: subprocess.Popen[str] | None = None
        self.addresses = [f"{NETWORK}.{number}" for number in range(FIRST, LAST + 1)]

    def __enter__(self) -> Self:
        _sweep()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        switch = self._namespace("switch")
        self._switch = subprocess.Popen(
            inside(switch, [sys.executable, str(Path(__file__).with_name("switch.py"))]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        everybody = [*self.addresses, FUNCTION, CLIENT]
        for address in everybody:
            name, number = self._namespace(_number(address)), _number(address)
            self._order({"port": number})
            ip("-n", switch, "link", "set", f"p{number}", "netns", name)
            neighbours = "\n".join(
                f"neigh replace {other} lladdr {MAC.format(_number(other))} dev p{number} nud permanent"
                for other in everybody
                if other != address
            )
            orders = (
                f"link set lo up\nlink set p{number} address {MAC.format(number)}\n"
                f"addr add {address}/24 dev p{number}\nlink set p{number} up\n{neighbours}\n"
            )
            ip("-n", name, "-batch", "-", orders=orders)

    def stop(self) -> None:
        """End the switch, remove the namespaces; processes inside them must have been ended before."""
        if self._switch:
            self._switch.communicate()
        for name in self._names.values():
            ip("netns", "del", name)
        self._names = {}

    def command(self, address: str, command: list[str]) -> list[str]:
        """The command, to be run at that address. Its process ID is the command's own."""
        return inside(self._names[str(_number(address))], command)

    # --- faults: each way between two machines is a way of its own ---

    def cut_off(self, address: str) -> None:
        """Nothing reaches the machine any more, nothing of it reaches another."""
        self._ways(self._both(address), loss=1.0)

    def deafen(self, address: str) -> None:
        """The machine speaks, but hears nobody."""
        self._ways([(other, address) for other in self._others(address)], loss=1.0)

    def silence(self, address: str) -> None:
        """The machine hears, but nobody hears it."""
        self._ways([(address, other) for other in self._others(address)], loss=1.0)

    def part(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Those here and those there do not reach each other; everybody else reaches both."""
        pairs = list(product(one, other))
        self._ways([*pairs, *((there, here) for here, there in pairs)], loss=1.0)

    def everywhere(self, *, loss: float = 0.0, delay: float = 0.0) -> None:
        """On every way: the share of packets that are lost, and seconds for which each is on its way."""
        for address in self._everybody():
            self._ways([(address, other) for other in self._others(address)], loss=loss, delay=delay)

    def heal(self) -> None:
        """All is well again."""
        self.everywhere()

    def _both(self, address: str) -> list[tuple[str, str]]:
        others = self._others(address)
        return [(address, other) for other in others] + [(other, address) for other in others]

    def _everybody(self) -> list[str]:
        return [*self.addresses, FUNCTION, CLIENT]

    def _others(self, address: str) -> list[str]:
        return [other for other in self._everybody() if other != address]

    def _ways(self, ways: Iterable[tuple[str, str]], *, loss: float, delay: float = 0.0) -> None:
        for one, other in ways:
            self._order({"from": _number(one), "to": _number(other), "loss": loss, "delay": delay})

    def _order(self, order: dict[str, float]) -> None:
        assert self._switch
        assert self._switch.stdin
        assert self._switch.stdout
        self._switch.stdin.write(json.dumps(order) + "\n")
        self._switch.stdin.flush()
        assert self._switch.stdout.readline() == "ok\n", "the switch has ended"

    def _namespace(self, label: object) -> str:
        name = f"{_PREFIX}-{os.getpid()}-{label}"
        ip("netns", "add", name)
        self._names[str(label)] = name
        return name


def inside(namespace: str, command: list[str]) -> list[str]:
    """The command, to be run in that namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def ip(*arguments: str, orders: str | None = None) -> str:
    """Run ``ip``; an error says what it said."""
    done = subprocess.run(
        ["ip", *arguments], input=orders, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _require() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if not shutil.which("ip"):
        pytest.skip("network namespaces need `ip` (the package iproute2)")
    if not Path("/dev/net/tun").exists():
        pytest.skip("there is no /dev/net/tun to make devices with")
    name = f"{_PREFIX}-{os.getpid()}-probe"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"network namespaces are not to be had here: {tried.stderr.strip()}")
    ip("netns", "del", name)


def _sweep() -> None:
    for line in ip("netns", "list").splitlines():
        found = re.match(rf"({_PREFIX}-(\d+)-\w+)\b", line)
        if found and not Path(f"/proc/{found[2]}").exists():
            ip("netns", "del", found[1])


def _number(address: str) -> int:
    return int(address.rpartition(".")[2])
