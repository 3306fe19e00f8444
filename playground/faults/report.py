"""What the faults came to: a line each as they end, a table for people, `result.json` for programs, the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Row:
    """How one fault ended. ``held`` is None if it was skipped, and ``sentence`` then says why."""

    name: str
    group: str
    cause: str
    after: str
    held: bool | None
    seconds: float = 0.0
    acked: int = 0
    lost: int = 0
    failed: int = 0
    longest_gap_ms: float = 0.0
    end_state: str = ""
    sentence: str = ""
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """held, NOT HELD or skipped."""
        return "skipped" if self.held is None else "held" if self.held else "NOT HELD"


def line(row: Row, number: int, of: int) -> str:
    """One line for the terminal when a fault is over."""
    told = f"[{number:>2}/{of}] {row.verdict:<8} {row.seconds:5.1f} s  {row.name}"
    if row.held is None:
        return f"{told}: {row.sentence}"
    return "\n".join((told, *(f"           {problem}" for problem in row.problems)))


def as_json(rows: Sequence[Row], *, version: str, seconds: float) -> dict[str, Any]:
    """The content of `result.json`."""
    tried = [row for row in rows if row.held is not None]
    return {
        "version": version,
        "seconds": round(seconds, 1),
        "held": sum(row.held is True for row in rows),
        "not_held": sum(row.held is False for row in rows),
        "skipped": sum(row.held is None for row in rows),
        "acked": sum(row.acked for row in tried),
        "lost": sum(row.lost for row in tried),
        "failed": sum(row.failed for row in tried),
        "faults": [asdict(row) for row in rows],
    }


def write(rows: Sequence[Row], file: Path, *, version: str, seconds: float) -> None:
    """Write `result.json`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(rows, version=version, seconds=seconds), indent=1, ensure_ascii=False)
    file.write_text(f"{text}\n", encoding="utf-8")


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for the terminal."""
    drawn = Table(title="Faults", expand=True)
    for name in ("fault", "", "s", "acked", "lost", "failed", "end state"):
        drawn.add_column(name, justify="right" if name in {"s", "acked", "lost", "failed"} else "left")
    styles = {"held": "green", "NOT HELD": "bold red", "skipped": "yellow"}
    for row in rows:
        figures = (f"{row.seconds:.1f}", str(row.acked), str(row.lost), str(row.failed))
        drawn.add_row(
            Text("\n".join((row.name, *row.problems))),
            Text(row.verdict, style=styles[row.verdict]),
            *(figures if row.held is not None else ("",) * 4),
            Text(row.end_state),
        )
    return drawn


def summary(rows: Sequence[Row], seconds: float) -> str:
    """One sentence for all of them."""
    result = as_json(rows, version="", seconds=seconds)
    return (
        f"{result['held']} faults held, {result['not_held']} did not, {result['skipped']} were skipped, in"
        f" {seconds:.0f} s: {result['acked']} writes acknowledged, {result['lost']} lost, {result['failed']} failed."
    )


def exit_status(rows: Sequence[Row]) -> int:
    """0 if everything that was tried held, and something was."""
    return 0 if any(row.held for row in rows) and all(row.held is not False for row in rows) else 1
