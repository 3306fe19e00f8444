"""What a test orders from outside while the cloud runs: files in `control/`, or in `control/<stack>/` for one stack.

An order that is not there changes nothing. Orders break the world around a stack; none of them touches a decision.

    hold       lines like `Delete Custom::EtcdVoter`: such events are kept back as long as they stand there
    retries    seconds: the pauses after which Lambda runs an event again whose function died (on AWS 60 and 120)
    copies     one line more, one more copy of each event, at the same time
    time-out   the event that waits now is given up, as if its ServiceTimeout had passed; the file is taken away
"""

from __future__ import annotations

from pathlib import Path

from playground.cloud.stack import Stack


class Orders:
    """The orders for one stack and all that is nested in it."""

    def __init__(self, control: Path, stack: Stack) -> None:
        root = str(stack.record.get("RootId", stack.id)).split("/")[1]
        self._folders = (control, control / root)

    def lines(self, name: str) -> list[str]:
        """The lines of an order; none if it is not there."""
        return [line for file in self._files(name) for line in _read(file).splitlines()]

    def take(self, name: str) -> bool:
        """Whether an order is there; it is taken away, so that it counts once."""
        for file in self._files(name):
            file.unlink(missing_ok=True)
            return True
        return False

    def _files(self, name: str) -> list[Path]:
        return [file for folder in self._folders if (file := folder / name).is_file()]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:  # it was taken away just now
        return ""
