"""The journal: what happened in the playground, one JSON object a line, in the order in which it happened.

The local CloudFormation writes it, tests and the demo read it. It holds no decision, and hides secrets.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

MASK = "****"
"""What CloudFormation shows in place of a secret."""
FOLLOW_SECONDS = 0.1
"""How often `follow` looks for new lines."""


class Journal:
    """The file `journal.jsonl` of a playground."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._secrets: set[str] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """Write MASK for these texts from now on, wherever they stand."""
        with self._lock:
            self._secrets.update(filter(None, secrets))

    def write(self, kind: str, **fields: object) -> None:
        """Append one record: `at` (seconds since the epoch), `kind`, then the fields."""
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            record = {"at": round(self._clock(), 4), "kind": kind, **fields}
            line = json.dumps(record, default=str)
            for secret in self._secrets:
                line = line.replace(json.dumps(secret)[1:-1], MASK)
            file.write(f"{line}\n")

    def records(self) -> list[dict[str, Any]]:
        """Every record so far, the oldest first."""
        return self._since(0)[0]

    def follow(self, *, over: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
        """Yield the records from the first one on, and each new one as it comes, until `over` says so."""
        seen = 0
        while True:
            last = over()
            records, seen = self._since(seen)
            yield from records
            if last:
                return
            time.sleep(FOLLOW_SECONDS)

    def _since(self, seen: int) -> tuple[list[dict[str, Any]], int]:
        """The records after the first `seen` bytes, and how many bytes there are up to their end."""
        if not self.path.exists():
            return [], seen
        with self.path.open("rb") as file:
            file.seek(seen)
            complete, newline, _ = file.read().rpartition(b"\n")
        return [json.loads(line) for line in complete.splitlines()], seen + len(complete + newline)
