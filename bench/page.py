"""The figures on the page: ``python -m bench.page build/bench/result.json`` writes them into ``docs/bench.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import GOALS, missed, named
from playground import tools

PAGE = tools.ROOT / "docs/bench.md"
BEGIN, END = "<!-- figures: written by make bench-page -->", "<!-- end of the figures -->"
COLUMNS = {
    "grow_seconds": "two members more, s",
    "shrink_seconds": "two less, s",
    "failed": "writes failed",
    "slow": "over 100 ms",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "rest_p99_ms": "p99 at rest, ms",
    "longest_gap_ms": "longest gap, ms",
    "leaderless_seconds": "without a leader, s",
}


def lines(result: Mapping[str, Any]) -> list[str]:
    """The tables, in Markdown."""
    made = [
        f"etcd {result['etcd']}, Python {result['python']}, {result['rounds_a_way']} rounds of each way.",
        "",
    ]
    made += ["| figure | measured | goal: at most |", "|---|---|---|"]
    made += [f"| `{name}` | {named(result, name):g} | {most:g} |" for name, most in GOALS.items()]
    made += ["", *(f"Missed: {sentence}." for sentence in missed(result))]
    made += ["", f"| way | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, way in result["ways"].items():
        made.append(f"| {name} | {' | '.join(f'{way[column]:g}' for column in COLUMNS)} |")
    if "whole_stack" in result:
        made += ["", "The whole stack, `sam deploy` to its end:", ""]
        made += ["| from | to | s | writes | failed | longest gap, ms |", "|---" * 6 + "|"]
        for step in result["whole_stack"]["steps"]:
            made.append(
                f"| {step['from']} | {step['to']} | {step['seconds']:.1f} | {step['acked']} | {step['failed']}"
                f" | {step['longest_gap_ms']:.0f} |"
            )
    made += [
        "",
        "Cold, in seconds: " + ", ".join(f"{k} {v:g}" for k, v in result["cold"]["seconds"].items()) + ".",
    ]
    planned = ", ".join(f"{what} {took:g} µs" for what, took in result["planning_us"].items())
    made += [f"One decision in a cluster of seven: {planned}."]
    dollars = result["dollars"]
    made += [
        f"A member that joins costs {dollars['a_member']:.6f} dollars beside its machine ({dollars['prices_of']})."
    ]
    for what, rows in result.get("growth", {}).items():
        heads = list(rows[0])
        made += ["", f"Growth, {what}:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        made += [f"| {' | '.join(f'{row[head]:g}' for head in heads)} |" for row in rows]
    return made


def main(arguments: Sequence[str]) -> int:
    """Write them between the page's two marks."""
    (source,) = arguments
    result = json.loads(Path(source).read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines(result), "", END + after]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
