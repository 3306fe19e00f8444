"""What the rounds come to: medians, ratios, goals, and what a resize costs on paper. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.ways import WAYS

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
        "rest_p99_ms": round(median(one["rest"]["p99_ms"] for one in mine), 2),
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
