"""The command: ``python -m bench``. Figures into ``build/bench/result.json``, tables into the terminal."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import cold, growth, resizing
from bench.resizing import SIZES, one_round
from bench.ways import WAYS, fresh
from playground import tools

GOALS = {
    "handler_to_floor.grow": 1.10,
    "handler_to_floor.shrink": 1.10,
    "writes_failed": 0,
    "longest_gap_ms": 100.0,
    "p99_resizing_to_rest": 1.5,
    "import_to_bare": 0.75,
    "peak_mb": 128.0,
}
"""What each figure may be at most."""

PRICES_OF = "2026-11, us-east-1, list prices without free tiers"
PRICES = {
    "gb_second_arm64": 0.0000133334,
    "lambda_request": 0.20 / 1e6,
    "s3_put": 0.005 / 1e3,
}
"""Dollars. Lambda's for a second of one GB on arm64 and for an invocation, S3's for a PUT."""
MEMORY_GB = 0.5
"""MemorySize of the function in template.yaml."""
EVENTS_A_MEMBER, PUTS_A_MEMBER = 2, 4
"""Of a member that joins: EtcdMember and EtcdVoter; its records in the journal, a certificate, and a snapshot."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write down, show."""
    chosen = _options(arguments)
    logging.disable(logging.CRITICAL)  # the handler's log of each plan would be among the figures
    etcd, data = tools.etcd(), fresh(tools.ROOT / "build/bench/data")
    addresses = [f"{chosen.network}.0.{number}" for number in range(11, 18)]
    rounds = []
    for number in range(chosen.rounds):
        for way in WAYS:  # side by side: what else the machine does disturbs all of them alike
            print(f"round {number + 1} of {chosen.rounds}: {way}", flush=True)
            rounds.append(one_round(way, etcd, data / "round", addresses))
    print("cold starts", flush=True)
    result: dict[str, Any] = {"python": platform.python_version(), "etcd": etcd.parent.name, "sizes": SIZES}
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
    result["rounds"] = rounds
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
    parser.add_argument("--network", default="127.76", help="first two numbers of the members' addresses")
    parser.add_argument(
        "--result", type=Path, default=tools.ROOT / "build/bench/result.json", help="where the figures go"
    )
    return parser.parse_args(arguments)


# ---- what the rounds come to ----


def figures(rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that have a goal, what each way comes to, and what a resize costs on paper."""
    ways = {name: _of(name, rounds) for name in WAYS}
    ours, floor = ways["ours"], ways["floor"]
    return {
        "handler_to_floor": {
            what: round(ours[f"{what}_seconds"] / floor[f"{what}_seconds"], 3) for what in ("grow", "shrink")
        },
        "writes_failed": ours["failed"],
        "longest_gap_ms": ours["longest_gap_ms"],
        "p99_resizing_to_rest": ours["p99_resizing_to_rest"],
        "import_to_bare": measured["import_to_bare"],
        "peak_mb": measured["peak_mb"],
        "layer_mb": measured["layer_mb"],
        "ways": ways,
        "dollars": dollars(ours["grow_seconds"] / 2),
    }


def _of(name: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of a way's rounds; the worst of what must never be bad."""
    mine = [one for one in rounds if one["way"] == name]
    grown = [step["seconds"] for one in mine for step in one["steps"] if step["to"] > step["from"]]
    shrunk = [step["seconds"] for one in mine for step in one["steps"] if step["to"] < step["from"]]
    ratios = [one["resizing"]["p99_ms"] / max(one["rest"]["p99_ms"], 0.001) for one in mine]
    return {
        "grow_seconds": round(median(grown), 3),
        "grow_spread": [min(grown), max(grown)],
        "shrink_seconds": round(median(shrunk), 3),
        "shrink_spread": [min(shrunk), max(shrunk)],
        "acked": sum(one["resizing"]["acked"] for one in mine),
        "failed": sum(one["resizing"]["failed"] for one in mine),
        "slow": sum(one["slow"] for one in mine),
        "p50_ms": round(median(one["resizing"]["p50_ms"] for one in mine), 2),
        "p99_ms": round(median(one["resizing"]["p99_ms"] for one in mine), 2),
        "longest_gap_ms": round(max(one["resizing"]["longest_gap_ms"] for one in mine), 1),
        "leaderless_seconds": round(max(one["leaderless_seconds"] for one in mine), 2),
        "p99_resizing_to_rest": round(median(ratios), 2),
    }


def dollars(seconds: float) -> dict[str, Any]:
    """What one member that joins costs besides its machine, if the function runs for so many seconds."""
    lambdas = seconds * MEMORY_GB * PRICES["gb_second_arm64"] + EVENTS_A_MEMBER * PRICES["lambda_request"]
    return {
        "prices_of": PRICES_OF,
        "prices": PRICES,
        "a_member": round(lambdas + PUTS_A_MEMBER * PRICES["s3_put"], 7),
    }


def named(result: Mapping[str, Any], name: str) -> float:
    """A figure by a name like ``handler_to_floor.grow``."""
    found: Any = result
    for part in name.split("."):
        found = found[part]
    return float(found)


def missed(result: Mapping[str, Any]) -> list[str]:
    """The goals that were not reached, a sentence each."""
    return [
        f"{name} is {named(result, name):g}, the goal is at most {most:g}"
        for name, most in GOALS.items()
        if named(result, name) > most
    ]


def show(result: Mapping[str, Any], console: Console) -> None:
    """The tables."""
    table = Table(title="two members more, two less, under continuous writes", title_justify="left")
    columns = ["grow_seconds", "shrink_seconds", "failed", "slow", "p50_ms", "p99_ms"]
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
