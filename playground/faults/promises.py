"""The promises, the faults that test each, and their figures on the page: ``python -m playground.faults.promises``.

It takes the results of whole runs, one an etcd version, and writes the table of ``docs/promises.md`` between its two
marks. So no figure on that page is typed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground import tools
from playground.faults import table

PAGE = tools.ROOT / "docs/promises.md"
BEGIN, END = "<!-- figures: written by make promises -->", "<!-- end of the figures -->"


@dataclass(frozen=True)
class Promise:
    """A sentence for the user, and the faults that test it: names, or what they begin with."""

    sentence: str
    faults: tuple[str, ...]


PROMISES = (
    Promise(
        "A function that is killed at any point of a resize loses nothing; Lambda's retry, or CloudFormation's Delete,"
        " goes on from there",
        ("killed ",),
    ),
    Promise("A lost or a doubled answer costs a rollback at the most", ("answer lost ", "answers twice")),
    Promise(
        "An event that comes twice, one after the other or at once, changes nothing the second time",
        ("events one after", "events at the same time"),
    ),
    Promise("A Delete that meets its own Create leaves no learner", ("Delete while its Create runs",)),
    Promise(
        "Only the stack that made a member removes it",
        ("Delete for what never was", "events of another stack"),
    ),
    Promise(
        "Without a quorum nothing is changed, and the sentence names who is down; when it is back, the resize works",
        ("no quorum before ",),
    ),
    Promise(
        "A quorum that goes in the middle of a resize and comes back is waited for; if it does not come back in time,"
        " the voter's machine is kept and reported, and the next resize cleans up",
        ("quorum lost in the middle of ",),
    ),
    Promise(
        "A stack whose cluster is dead still deletes", ("quorum never back", "nobody answers, stack deleted")
    ),
    Promise(
        "A member that dies while another comes or goes costs no acknowledged write",
        (
            "the leader dies ",
            "another voter dies ",
            "two of five die",
            "the member dies ",
            "the one that is removed ",
        ),
    ),
    Promise(
        "A member that dies at any step of a roll costs no acknowledged write: the roll goes on without the old one, or"
        " goes back to exactly the old members",
        ("roll: ",),
    ),
    Promise(
        "A roll that is called off or fails midway goes back to exactly the old members, and a flip can be flipped"
        " back",
        ("flipped back ",),
    ),
    Promise(
        "A roll of five of which two are cut off goes on when they are back, or goes back to the old members",
        ("a roll of five, ",),
    ),
    Promise(
        "A newcomer that dies costs nothing, unless it dies in the moment of its promotion: then its machine is kept,"
        " even if the function dies with it",
        ("the learner dies ",),
    ),
    Promise("A machine that does not come up, or not for long, is rolled back", ("the machine",)),
    Promise("A clock that is wrong changes nothing", ("a machine's clock", "the function's clock")),
    Promise(
        "What somebody else does to the membership at the same time is seen, and never undone", ("somebody ",)
    ),
    Promise("A full etcd is not resized", ("etcd is full",)),
    Promise(
        "EC2 that refuses, is slow or away costs a rollback, or a machine that is kept and reported",
        ("EC2 ",),
    ),
    Promise("S3 that refuses or is slow costs a rollback", ("S3 ",)),
    Promise(
        "One to seven and back in one update each; a failure at the sixth takes all new ones away again",
        ("one to seven, ",),
    ),
    Promise("Two stacks may join one cluster at the same time", ("two stacks join ",)),
)


def of(promise: Promise, names: Sequence[str]) -> list[str]:
    """The faults of those names that test the promise."""
    return [name for name in names if name.startswith(promise.faults)]


def lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """The table, and before it a line a run."""
    made = [BEGIN, ""]
    made += [
        f"- etcd {run['version']}: {len(run['faults'])} faults in {run['seconds']:.0f} s, {run['held']} held,"
        f" {run['not_held']} did not, {run['skipped']} skipped; {run['acked']:,} writes acknowledged,"
        f" {run['lost']} lost, {run['failed']} failed."
        for run in results
    ]
    made += ["", f"| promise | faults | {' | '.join('etcd ' + run['version'] for run in results)} |"]
    made += ["|---|---|" + "---|" * len(results)]
    for promise in PROMISES:
        named = ", ".join(f"`{prefix.strip()} …`" for prefix in promise.faults)
        figures = " | ".join(_figures(promise, run["faults"]) for run in results)
        made.append(f"| {promise.sentence} | {named} | {figures} |")
    return [*made, "", END]


def _figures(promise: Promise, rows: Sequence[dict[str, Any]]) -> str:
    mine = [row for row in rows if row["name"] in of(promise, [row["name"] for row in rows])]
    tried = [row for row in mine if row["held"] is not None]
    if not tried:
        return "skipped"
    sums = {key: sum(row[key] for row in tried) for key in ("acked", "lost", "failed")}
    held, seconds = sum(row["held"] for row in tried), statistics.median(row["seconds"] for row in tried)
    return (
        f"{held} of {len(mine)} held, {seconds:.0f} s; {sums['acked']:,} acknowledged, {sums['lost']} lost,"
        f" {sums['failed']} failed"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table. Refuses the result of a part of the faults."""
    parser = argparse.ArgumentParser(prog="python -m playground.faults.promises", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="result.json of whole runs")
    results = [json.loads(file.read_text(encoding="utf-8")) for file in parser.parse_args(arguments).results]
    wanted = {fault.name for fault in table.FAULTS}
    if any({row["name"] for row in run["faults"]} != wanted for run in results):
        print("Not a result of the whole table: run make faults.", file=sys.stderr)
        return 1
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + "\n".join(lines(results)) + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
