"""How it grows: with the members, with the database, and what one decision costs."""

from __future__ import annotations

import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from bench.child import child
from bench.ways import fresh
from etcd_resize.model.cluster import ClusterView, Health, Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url, peer_url
from etcd_resize.planning import Progress, plan_join, plan_leave, plan_shrink
from playground.connections import Connections
from tests.support.by_hand import Stack

LARGEST = 7
DATABASES_MB = (10, 100, 1000)
STACKS = (1, 2, 5, 10, 20)
"""So many at once."""
VALUE_BYTES = 1_000_000
PUT_SECONDS = 10.0
REPEATS = 2000


def members(etcd: Path, folder: Path, addresses: list[str]) -> list[dict[str, Any]]:
    """Seconds that each member takes to join and to leave, 1 to LARGEST and back, through the handler."""
    with child("ours", etcd, fresh(folder), addresses) as way:
        joined = [way.go(size)["seconds"] for size in range(2, LARGEST + 1)]
        left = [way.go(size)["seconds"] for size in range(LARGEST - 1, 0, -1)]
    return [
        {"size": size, "joined": join, "left": leave}
        for size, join, leave in zip(range(2, LARGEST + 1), joined, reversed(left), strict=True)
    ]


def databases(etcd: Path, folder: Path, addresses: list[str]) -> list[dict[str, Any]]:
    """Seconds that a second member takes to join a database of so many megabytes, and to leave it again.

    The join is the learner's catch-up; the leave is mostly the snapshot, which lies in memory here.
    """
    found = []
    for size in DATABASES_MB:
        with child("ours", etcd, fresh(folder), addresses) as way, closing(Connections()) as connections:
            for number in range(size * 1_000_000 // VALUE_BYTES):
                value = number.to_bytes(8, "big") * (VALUE_BYTES // 8)
                connections.put(client_url(addresses[0]), b"/bench/%09d" % number, value, PUT_SECONDS)
            joined, left = way.go(2)["seconds"], way.go(1)["seconds"]
        found.append({"megabytes": size, "joined": joined, "left": left})
    return found


def stacks(etcd: Path, folder: Path, network: str) -> list[dict[str, Any]]:
    """Seconds until each of so many clusters has a second member, all resized at the same time.

    The service without crhelper, which keeps one event in a process; on Lambda each event has a process of its own.
    """
    found = []
    for many in STACKS:
        made = [
            Stack(etcd, fresh(folder / str(number)), [f"{network}.{number}.{last}" for last in (11, 12)])
            for number in range(1, many + 1)
        ]
        try:
            for stack in made:
                stack.grow(1)
            with ThreadPoolExecutor(many) as pool:
                seconds = sorted(pool.map(lambda stack: _timed(lambda: stack.grow(2)), made))
        finally:
            for stack in made:
                stack.stop()
        found.append({"stacks": many, "median": median(seconds), "slowest": seconds[-1]})
    return found


def planning_microseconds() -> dict[str, float]:
    """What one decision costs in a cluster of seven."""
    view = ClusterView(1, tuple(_member(number) for number in range(1, LARGEST + 1)), has_quorum=True)
    newcomer = Identity("etcd", "etcd-8", "10.0.0.8")
    last = Identity("etcd", f"etcd-{LARGEST}", f"10.0.0.{LARGEST}")
    staying = [peer_url(f"10.0.0.{number}") for number in range(1, LARGEST)]
    progress = Progress()
    plans = {
        "join": lambda: plan_join(newcomer, view, progress, claimed=False),
        "leave": lambda: plan_leave(last, view, progress, member_id=LARGEST, staying=staying),
        "shrink": lambda: plan_shrink(view, progress, leaving=[last.peer_url]),
    }
    return {
        name: round(timeit.timeit(plan, number=REPEATS) / REPEATS * 1e6, 1) for name, plan in plans.items()
    }


def _member(number: int) -> Member:
    address = f"10.0.0.{number}"
    health = Health(serving=True, reachable=True, leader=1, applied=9, version="3.5.16")
    return Member(number, f"etcd-{number}", (peer_url(address),), (client_url(address),), health=health)


def _timed(act: Any) -> float:
    begun = time.monotonic()
    act()
    return round(time.monotonic() - begun, 3)
