"""A network switch in user space: a TAP device for each machine, and on each way from one to another what may befall.

A program of its own (``python switch.py``, in a network namespace of its own). Orders come in as JSON lines and are
answered with ``ok``: ``{"port": 11}`` makes the device ``p11`` of the machine whose MAC ends with 11;
``{"from": 11, "to": 12, "loss": 0.1, "delay": 0.2}`` is how that way is from now on. It ends with its standard input.

Why not netem and iptables: many a kernel has no netem, and this needs nothing but ``/dev/net/tun``.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time
from itertools import count

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LONGEST_FRAME = 65536
MAC = "02:00:00:00:00:{:02x}"
"""The MAC of the machine with that number; the switch reads the number off the frame."""


class Switch:
    """Ports by number, and the ways between them."""

    def __init__(self, seed: int) -> None:
        self.ports: dict[int, int] = {}
        self.ways: dict[tuple[int, int], tuple[float, float]] = {}
        self.dice = random.Random(seed)  # noqa: S311 — losses, no secrets
        self.late: list[tuple[float, int, int, bytes]] = []
        self.order = count()
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, 0)

    def run(self) -> None:
        """Until the standard input ends."""
        orders = b""
        while True:
            wait = max(0.0, self.late[0][0] - time.monotonic()) if self.late else None
            for key, _ in self.selector.select(wait):
                if key.data:
                    self._forward(key.data)
                    continue
                read = os.read(key.fd, LONGEST_FRAME)
                if not read:
                    return
                *lines, orders = (orders + read).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
                    print("ok", flush=True)  # noqa: T201 — the answer
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, port, frame = heapq.heappop(self.late)
                self._send(port, frame)

    def _obey(self, order: dict[str, float]) -> None:
        if "port" in order:
            number = int(order["port"])
            port = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(port, TUNSETIFF, struct.pack("16sH", f"p{number}".encode(), IFF_TAP | IFF_NO_PI))
            self.ports[number] = port
            self.selector.register(port, selectors.EVENT_READ, number)
        else:
            self.ways[int(order["from"]), int(order["to"])] = order["loss"], order["delay"]

    def _forward(self, source: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = os.read(self.ports[source], LONGEST_FRAME)
                target = frame[5]
                loss, delay = self.ways.get((source, target), (0.0, 0.0))
                if frame[0] != 2 or target not in self.ports or (loss and self.dice.random() < loss):
                    continue
                if delay:
                    heapq.heappush(self.late, (time.monotonic() + delay, next(self.order), target, frame))
                else:
                    self._send(target, frame)

    def _send(self, port: int, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # its queue is full, or its device is down: a frame is lost
            os.write(self.ports[port], frame)


if __name__ == "__main__":
    Switch(seed=20261124).run()
