"""What the demo of a restore found: the result for programs, the summary for people, and the verdict.

Pure functions of what was seen. It must not look at a cluster or a stack.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from playground.bulk import Contents


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run that came to its end, and how many seconds it took."""

    title: str
    seconds: float

    def line(self) -> str:
        """It in one line, for the live view."""
        return f"{self.title}: {self.seconds:.1f} s"


@dataclass(slots=True)
class Outcome:
    """All that was seen. What a run did not come to is None, and ``stopped`` says why it did not.

    ``keys`` and ``late`` were acknowledged before and behind the snapshot. ``last`` is the revision when the machines
    were killed, ``restored`` the one behind the restore. ``survivors`` of the first cluster answered after its
    machines had been killed. ``held`` counts the keys in each new member's own store. ``missing`` keys are absent, or
    there with another value.
    """

    keys: int = 0
    late: int = 0
    snapshot: str = ""
    database_bytes: int | None = None
    last: int | None = None
    restored: int | None = None
    before: Contents | None = None
    after: Contents | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    missing: int | None = None
    survivors: int = 0
    phases: list[Phase] = field(default_factory=list)
    stopped: str = ""
    etcd: str = ""


def problems(outcome: Outcome) -> list[str]:
    """Everything that is not as it must be, one sentence each. Empty: all was restored."""
    if outcome.stopped:
        return [outcome.stopped]
    found = []
    if outcome.missing is None or outcome.before is None or outcome.after is None:
        found.append("The run did not come to its end.")
    elif outcome.missing:
        found.append(f"{outcome.missing:,} of {outcome.keys:,} keys are missing or have another value.")
    if outcome.before != outcome.after:
        found.append(f"The keys before and after differ: {outcome.before} and {outcome.after}.")
    if outcome.survivors:
        found.append(f"{outcome.survivors} members of the first cluster answered when all had been killed.")
    found += [
        f"The member at {url} holds {count:,} keys of {outcome.keys:,}."
        for url, count in outcome.held.items()
        if count != outcome.keys
    ]
    if outcome.last is not None and outcome.restored is not None and outcome.restored <= outcome.last:
        found.append(
            f"The revision is {outcome.restored} after the restore and was {outcome.last} before: whoever watches"
            " must be started anew. etcd's tool adds to it from some release of 3.5 on."
        )
    return found


def result(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON will have it: sizes in bytes, times in seconds."""
    found = problems(outcome)
    return {
        "ok": not found,
        "problems": found,
        "etcd": outcome.etcd,
        "python": platform.python_version(),
        "keys": outcome.keys,
        "missing": outcome.missing,
        "database_bytes": outcome.database_bytes,
        "snapshot": outcome.snapshot,
        "revision": {
            "snapshot": revision_of(outcome.snapshot),
            "before": outcome.last,
            "after": outcome.restored,
        },
        "before": asdict(outcome.before) if outcome.before else None,
        "after": asdict(outcome.after) if outcome.after else None,
        "keys_behind_the_snapshot": outcome.late,
        "held": dict(outcome.held),
        "phases": [{"title": phase.title, "seconds": round(phase.seconds, 1)} for phase in outcome.phases],
        "seconds": round(sum(phase.seconds for phase in outcome.phases), 1),
    }


def summary(outcome: Outcome) -> RenderableType:
    """The phases, the figures and the verdict."""
    table = Table(title=f"etcd {outcome.etcd}".strip(), title_justify="left")
    table.add_column("phase")
    table.add_column("seconds", justify="right")
    for phase in outcome.phases:
        table.add_row(phase.title, f"{phase.seconds:.1f}")
    megabytes = (outcome.database_bytes or 0) / 1_000_000
    parts: list[RenderableType] = [
        table,
        Text(f"snapshot: {megabytes:,.1f} MB, revision {revision_of(outcome.snapshot)}"),
        Text(f"revision: {outcome.last} when all machines were killed, {outcome.restored} after the restore"),
        Text(f"before: {_told(outcome.before)}"),
        Text(f"after:  {_told(outcome.after)}"),
    ]
    found = problems(outcome)
    parts += [Text(sentence, style="red") for sentence in found]
    if not found:
        parts.append(Text(f"All {outcome.keys:,} keys of the snapshot are there.", style="bold green"))
    return Group(*parts)


def revision_of(snapshot: str) -> int | None:
    """The revision in a snapshot's name, which is like ``…/<time>-r<revision>-<member>.db``."""
    found = re.search(r"-r(\d+)-[^/]*$", snapshot)
    return int(found[1]) if found else None


def _told(held: Contents | None) -> str:
    return f"{held.keys:,} keys, {held.bytes:,} bytes, sha256 {held.sha256[:16]}…" if held else "not read"
