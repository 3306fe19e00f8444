"""What the demo found: the summary for people, the result for programs, and the verdict.

Pure functions of what was measured, and one that writes files. It must not look at a cluster or a stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from etcd_resize.model.cluster import ClusterView
from playground import page
from playground.observer import NOTHING, in_order, is_whole
from playground.steps import Step
from playground.timeline import Sighting, spans
from playground.view import members_words
from playground.writer import Figures

WIDTH = 110
"""Columns of the summary when it is written to a file."""

NO_WRITES = Figures()


@dataclass(frozen=True, slots=True)
class StepDone:
    """How a step ended. ``seconds`` is the deployment's time; ``figures`` are the writes meanwhile."""

    step: Step
    ok: bool
    seconds: float
    seen: ClusterView = NOTHING
    figures: Figures = NO_WRITES
    reason: str = ""
    at: float = 0.0
    """When it began, in seconds since the run did."""

    def line(self) -> str:
        """The step in one line, for the live view."""
        if not self.ok:
            return f"{self.step.title}: failed after {self.seconds:.1f} s: {self.reason}"
        if not self.step.after:
            return f"{self.step.title}: {self.seconds:.1f} s"
        writes = f"{self.figures.acked:,} writes, slowest {self.figures.max_ms:.0f} ms"
        return f"{self.step.title}: {self.seconds:.1f} s, {writes}"


@dataclass(frozen=True, slots=True)
class MachineLeft:
    """A machine that is there after the end; ``state`` is such as ``running``."""

    name: str
    state: str
    protected: bool


@dataclass(slots=True)
class Outcome:
    """All that the demo measured. ``lost`` is None when the keys could not be read back."""

    started: float
    demo: str = "resize"
    steps: list[StepDone] = field(default_factory=list)
    planned: int = 0
    figures: Figures = NO_WRITES
    failures: tuple[str, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    lost: tuple[str, ...] | None = None
    unreadable: str = ""
    missing: list[str] = field(default_factory=list)
    machines: tuple[MachineLeft, ...] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    etcd: str = ""
    python: str = ""
    sightings: list[Sighting] = field(default_factory=list)
    slowest: list[tuple[float, float]] = field(default_factory=list)
    """The slowest write of each short stretch: seconds since ``started``, and milliseconds."""


def problems(outcome: Outcome) -> list[str]:
    """Everything that went wrong, one plain sentence each. Empty: the demo succeeded."""
    return [
        *_step_problems(outcome),
        *_write_problems(outcome),
        *outcome.missing,
        *(f"The machine {left.name} is still there ({left.state})." for left in outcome.machines),
        *(f"The machine {left.name} is still protected." for left in outcome.machines if left.protected),
    ]


def _step_problems(outcome: Outcome) -> Iterable[str]:
    for done in outcome.steps:
        if not done.ok:
            yield f"The step '{done.step.title}' failed: {done.reason or 'no reason was given'}"
        elif done.step.after and not is_whole(done.seen, done.step.after):
            yield (
                f"After the step '{done.step.title}' there should be {done.step.after} healthy voters, "
                f"but this was seen: {members_words(done.seen) or 'no member'}."
            )
        elif done.step.after and not done.figures.acked:
            yield f"No write was acknowledged during the step '{done.step.title}'."
    for before, done in pairwise(outcome.steps):
        if done.step.upgrades and done.ok and done.seen.version == before.seen.version:
            yield f"After the step '{done.step.title}' etcd is {done.seen.version or 'unknown'}, as before it."
    left_out = outcome.planned - len(outcome.steps)
    if left_out > 0:
        yield f"{left_out} of {outcome.planned} steps were not made."


def _write_problems(outcome: Outcome) -> Iterable[str]:
    if outcome.figures.failed:
        first = outcome.failures[0] if outcome.failures else ""
        yield f"{outcome.figures.failed} writes were acknowledged by no endpoint in time, the first: {first}"
    if not outcome.figures.acked:
        yield "No write was acknowledged at all."
    elif outcome.lost is None:
        yield f"The acknowledged keys could not be read back: {outcome.unreadable or 'not tried'}"
    elif outcome.lost:
        yield f"{len(outcome.lost)} acknowledged keys are lost, the first: {outcome.lost[0]}"


def leader_name(cluster: ClusterView) -> str:
    """Who leads, or an empty text."""
    return cluster.leader.name if cluster.leader else ""


def exit_status(outcome: Outcome) -> int:
    """0 if nothing went wrong, 1 otherwise."""
    return 1 if problems(outcome) else 0


def result(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON will have it: times of a step in seconds, times of writes in milliseconds.

    ``events`` carry their time in seconds since ``started``, which is in seconds since the epoch.
    """
    figures = {
        name: round(number, 3) if isinstance(number, float) else number
        for name, number in asdict(outcome.figures).items()
    }
    return {
        "ok": not problems(outcome),
        "problems": problems(outcome),
        "demo": outcome.demo,
        "started": round(outcome.started, 3),
        "etcd": outcome.etcd,
        "etcd_before": next(iter(_versions(outcome.steps)), ""),
        "python": outcome.python,
        "steps": [_row(done) for done in outcome.steps],
        "writes": {
            **figures,
            "lost": None if outcome.lost is None else len(outcome.lost),
            "errors": dict(outcome.errors),
        },
        "events": outcome.events,
        "members": spans(outcome.sightings, outcome.events, _end(outcome)),
        "latency": [[round(at, 3), round(milliseconds, 3)] for at, milliseconds in outcome.slowest],
    }


def _end(outcome: Outcome) -> float:
    """When the last thing happened, in seconds since the run began."""
    return max(
        (
            *(done.at + done.seconds for done in outcome.steps),
            *(event["at"] for event in outcome.events),
            *(sighting.at for sighting in outcome.sightings),
        ),
        default=0.0,
    )


def _row(done: StepDone) -> dict[str, Any]:
    return {
        "what": done.step.title,
        "from": done.step.before,
        "to": done.step.after,
        "at": round(done.at, 3),
        "ok": done.ok,
        "seconds": round(done.seconds, 3),
        "members": [member.name for member in in_order(done.seen)],
        "leader": leader_name(done.seen),
        "etcd": done.seen.version,
        "acked": done.figures.acked,
        "failed": done.figures.failed,
        "retried": done.figures.retried,
        "p99_ms": round(done.figures.p99_ms, 3),
        "max_ms": round(done.figures.max_ms, 3),
        "longest_gap_ms": round(done.figures.longest_gap_ms, 3),
    }


EVENT_KEYS = (
    *("kind", "request", "what", "resource", "stack", "logical", "physical"),
    *("status", "reason", "seconds", "instance", "address", "name"),
)
"""What of a journal record goes into the result: the properties stay out, they repeat the template."""


def events(records: Iterable[Mapping[str, Any]], started: float) -> list[dict[str, Any]]:
    """The custom resource events, their answers and what machines did since ``started``, in order."""
    wanted = [
        record
        for record in records
        if record.get("kind") in ("event", "answer", "machine") and record["at"] >= started
    ]
    return [
        {"at": round(record["at"] - started, 3), **{key: record[key] for key in EVENT_KEYS if key in record}}
        for record in sorted(wanted, key=lambda record: float(record["at"]))
    ]


def summary(outcome: Outcome) -> RenderableType:
    """The table of the steps, the account of the writes, and the verdict."""
    parts: list[RenderableType] = [_steps_table(outcome.steps), Text(_writes_words(outcome))]
    found = problems(outcome)
    parts += [Text(sentence, style="red") for sentence in found]
    if not found:
        parts.append(Text("Nothing failed, and nothing was lost.", style="bold green"))
    return Group(*parts)


def _steps_table(steps: Sequence[StepDone]) -> Table:
    table = Table(title=f"etcd {' → '.join(_versions(steps))}".strip(), title_justify="left")
    for column in ("from", "to", "seconds", "writes", "retried", "slowest ms", "gap ms", "members"):
        table.add_column(column, justify="right")
    table.add_column("leader")
    for done in steps:
        figures, seen = done.figures, done.seen
        table.add_row(
            str(done.step.before),
            str(done.step.after),
            f"{done.seconds:.1f}" if done.ok else "failed",
            f"{figures.acked:,}",
            str(figures.retried),
            f"{figures.max_ms:.0f}",
            f"{figures.longest_gap_ms:.0f}",
            str(len(seen.members)),
            leader_name(seen) or "-",
        )
    return table


def _versions(steps: Iterable[StepDone]) -> list[str]:
    """The versions of the cluster, each once, in the order in which they were seen."""
    return list(dict.fromkeys(done.seen.version for done in steps if done.seen.version))


def _writes_words(outcome: Outcome) -> str:
    figures = outcome.figures
    lost = "not read back" if outcome.lost is None else f"{len(outcome.lost)} lost"
    return (
        f"writes: {figures.acked:,} acknowledged, {figures.failed} failed, {lost}, "
        f"{figures.retried} retried; p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms, "
        f"slowest {figures.max_ms:.0f} ms, longest gap {figures.longest_gap_ms:.0f} ms"
    )


def write(outcome: Outcome, path: Path, last: RenderableType = "") -> Path:
    """Write the result as JSON to ``path`` and, as text beside it, the ``last`` picture with the summary.

    ``report.html`` beside it is the same for a browser. Returns the text's path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found = result(outcome)
    path.write_text(json.dumps(found, indent=2) + "\n")
    path.with_name("report.html").write_text(page.render(found))
    picture = path.with_name("summary.txt")
    with picture.open("w") as file:
        Console(file=file, width=WIDTH, color_system=None).print(last, summary(outcome))
    return picture
