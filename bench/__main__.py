"""The command: ``python -m bench``. Figures into ``build/bench/result.json``, tables into the terminal."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import cold, growth, resizing
from bench.figures import GOALS, figures, missed, named
from bench.resizing import SIZES, one_round
from bench.ways import WAYS, fresh
from playground import tools


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write down, show."""
    chosen = _options(arguments)
    logging.disable(logging.CRITICAL)  # the handler's log of each plan would be among the figures
    etcd, data = tools.etcd(), fresh(chosen.folder / "data")
    addresses = [f"{chosen.network}.0.{number}" for number in range(11, 18)]
    rounds = []
    for number in range(chosen.rounds):
        for way in WAYS:  # side by side: what else the machine does disturbs all of them alike
            print(f"round {number + 1} of {chosen.rounds}: {way}", flush=True)
            rounds.append(one_round(way, etcd, data / "round", addresses))
    print("cold starts", flush=True)
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "etcd": tools.etcd_version(etcd),
        "sizes": SIZES,
    }
    result["cold"] = cold.measure(etcd, data / "cold", addresses)
    result["planning_us"] = growth.planning_microseconds()
    if not chosen.quick:
        print("the whole stack: a demo without TLS", flush=True)
        result["whole_stack"] = resizing.whole_stack(data / "stack")
        print("growth: members, databases, stacks at once", flush=True)
        result["growth"] = {
            "members": growth.members(etcd, data / "members", addresses),
            "databases": growth.databases(etcd, data / "databases", addresses),
            "stacks": growth.stacks(etcd, data / "stacks", chosen.network),
        }
    result |= figures(rounds, result["cold"])
    result |= {"rounds_a_way": chosen.rounds, "rounds": rounds}
    chosen.result.parent.mkdir(parents=True, exist_ok=True)
    chosen.result.write_text(json.dumps(result, indent=1) + "\n")
    fresh(data)
    show(result, Console())
    print(f"Written: {chosen.result}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure a resize on this machine: the floor, by hand with etcdctl, ours; cold starts; growth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each way goes through the sizes")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out the whole stack, and how it grows with members, data and stacks",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=tools.ROOT / "build/bench",
        help="where the members have their data meanwhile; in /dev/shm the disk is no part of it",
    )
    parser.add_argument("--network", default="127.76", help="first two numbers of the members' addresses")
    parser.add_argument(
        "--result", type=Path, default=tools.ROOT / "build/bench/result.json", help="where the figures go"
    )
    return parser.parse_args(arguments)


def show(result: Mapping[str, Any], console: Console) -> None:
    """The tables."""
    table = Table(title="two members more, two less, under continuous writes", title_justify="left")
    columns = ["grow_seconds", "shrink_seconds", "failed", "slow", "p50_ms", "p99_ms", "rest_p99_ms"]
    columns += ["longest_gap_ms", "leaderless_seconds", "p99_resizing_to_rest"]
    table.add_column("way")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, way in result["ways"].items():
        table.add_row(name, *(f"{way[column]:g}" for column in columns))
    console.print(table)
    for step in result.get("whole_stack", {}).get("steps", []):
        console.print(
            f"whole stack {step['from']} → {step['to']}: {step['seconds']:g} s, {step['acked']} writes acknowledged,"
            f" {step['failed']} failed, longest gap {step['longest_gap_ms']:.0f} ms"
        )
    for what, rows in result.get("growth", {}).items():
        console.print(f"{what}: " + "; ".join(", ".join(f"{k} {v}" for k, v in row.items()) for row in rows))
    console.print(f"planning for seven: {result['planning_us']} microseconds")
    goals = Table(title="goals", title_justify="left")
    for column in ("figure", "measured", "at most"):
        goals.add_column(column)
    for name, most in GOALS.items():
        goals.add_row(name, f"{named(result, name):g}", f"{most:g}")
    console.print(goals)
    for sentence in missed(result):
        console.print(sentence, style="yellow")


if __name__ == "__main__":
    sys.exit(main())
