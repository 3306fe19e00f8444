"""Processes by id and start: a number that the kernel gave away again is never taken for the process that had it."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's own count; None if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal and can go on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
