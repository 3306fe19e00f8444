"""Waiting for a state, never for a duration."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(wanted: Callable[[], bool], what: str, patience: float = 15.0) -> None:
    """Return once ``wanted`` holds; an AssertionError that names ``what`` if it does not in time (seconds)."""
    deadline = time.monotonic() + patience
    while not wanted():
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {what}"
        time.sleep(0.02)
