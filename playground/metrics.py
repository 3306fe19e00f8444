"""A stack's own metrics: ``ClusterHealth`` is asked every few seconds, and what it logs for CloudWatch is kept.

The lines are CloudWatch's embedded metric format as the function wrote them, read off the functions' log of the
playground. Nothing here knows what a metric means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from playground.account import PlaygroundError
from playground.local import Playground
from playground.threads import StoppableThread

SECONDS = 5.0
"""Between two reports; in AWS it is a minute."""
FUNCTION = "ClusterHealth"


class Recorder:
    """Asks from ``with`` on until its end. While there is no stack, or a function is being made, nobody answers."""

    def __init__(self, playground: Playground, stack: str, *, every: float = SECONDS) -> None:
        self._playground = playground
        self._stack = stack
        self._every = every
        self._thread = StoppableThread(self._run, "metrics")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()

    def _run(self) -> None:
        while not self._thread.rest(self._every):
            try:
                self._playground.invoke(self._stack, FUNCTION)
            except (PlaygroundError, ClientError, BotoCoreError):
                continue

    def lines(self) -> list[str]:
        """What the stack's function has logged as metrics, as it came."""
        log = self._playground.directory / "logs/function.log"
        if not log.exists():
            return []
        return list(metric_lines(log.read_text(encoding="utf-8").splitlines(), self._stack))


def metric_lines(log: Iterable[str], stack: str) -> Iterator[str]:
    """The lines of a log that are metrics of that stack."""
    return (line for line in log if (found := _parsed(line)) and found.get("Stack") == stack)


def _parsed(line: str) -> dict[str, Any] | None:
    if '"_aws"' not in line:
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def write(lines: Iterable[str], path: Path) -> None:
    """Keep them, one a line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
