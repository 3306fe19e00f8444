"""Small JSON files that one process writes and others read at any time."""

from __future__ import annotations

import json
import threading
from pathlib import Path


def write(path: Path, value: object) -> None:
    """Write ``value`` whole or not at all: neither a reader in between nor a full disk sees half of it."""
    draft = path.with_suffix(f".{threading.get_ident()}")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)
