"""Control groups of version 2: what holds the processes of a container together, to freeze or to kill them at once."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

GONE_SECONDS = 5.0
"""How long killed processes may take to leave."""
POLL_SECONDS = 0.01


class ControlGroupError(Exception):
    """A control group does not do what was asked. The message says why."""


def own() -> Path:
    """This process's control group in the unified hierarchy, wherever that is mounted. Raises ControlGroupError."""
    groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    found = [line.removeprefix("0::") for line in groups if line.startswith("0::")]
    if not (roots := _mounted(" - cgroup2 ")) or not found:
        raise ControlGroupError("Container machines need control groups of version 2 (cgroup2), mounted.")
    return roots[0] / found[0].lstrip("/")


def freeze(group: Path, *, frozen: bool) -> None:
    """Let all processes of a group stand still, or go on. A group that is gone has none."""
    with contextlib.suppress(FileNotFoundError):
        (group / "cgroup.freeze").write_text("1" if frozen else "0", encoding="utf-8")


def is_frozen(group: Path) -> bool:
    """Whether the processes of a group stand still."""
    try:
        return (group / "cgroup.freeze").read_text(encoding="utf-8").strip() == "1"
    except OSError:
        return False


def end(group: Path) -> None:
    """Kill every process of a group and of those in it, and remove them. A group that is gone is fine."""
    if not group.exists():
        return
    (group / "cgroup.kill").write_text("1", encoding="utf-8")
    deadline = time.monotonic() + GONE_SECONDS
    while "populated 1" in (group / "cgroup.events").read_text(encoding="utf-8"):
        if time.monotonic() > deadline:
            raise ControlGroupError(f"Processes in {group} do not end.")
        time.sleep(POLL_SECONDS)
    (root,) = [root for root in _mounted(" - cgroup2 ") if group.is_relative_to(root)][:1]
    # where version 1 is mounted too, systemd-nspawn makes the same folders in systemd's hierarchy
    for hierarchy in (root, *_mounted("name=systemd")):
        for folder, _, _ in os.walk(hierarchy / group.relative_to(root), topdown=False):
            Path(folder).rmdir()


def _mounted(mark: str) -> list[Path]:
    """Where hierarchies are mounted whose line in mountinfo has that in it."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[4]) for line in lines if mark in line]
