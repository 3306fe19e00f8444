"""What commands that start a playground of their own have in common: what they take, and how they end.

They end in order, whatever ends them, and with one sentence.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from playground import tools
from playground.account import PlaygroundError

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What each of them takes."""

    result: Path
    directory: Path = tools.ROOT / ".playground"
    etcd: Path | None = None
    port: int = 4566


def parser(program: str, description: str, *, succeeds: str, default: Options) -> argparse.ArgumentParser:
    """The command line of a ``program`` that takes these options. ``succeeds``: when its exit status is 0."""
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog=f"Exit status: 0 if {succeeds}, 1 otherwise, {INTERRUPTED} after Ctrl-C.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--directory", type=Path, default=default.directory, help="where the playground lives")
    made.add_argument("--result", type=Path, default=default.result, help="where the result goes, as JSON")
    made.add_argument("--etcd", type=Path, help="the etcd to run instead of the one that make tools fetched")
    made.add_argument("--port", type=int, default=default.port, help="port of the local CloudFormation")
    return made


def conducted(run: Callable[[Console], int]) -> int:
    """Run it; the exit status. Ctrl-C and SIGTERM end everything that was started."""
    console = Console()
    signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(signal.SIGTERM, interrupt_once)
    try:
        return run(console)
    except KeyboardInterrupt:
        console.print("Interrupted: everything that was started has been ended.")
        return INTERRUPTED
    except (tools.ToolMissing, PlaygroundError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1


def interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Begin to end everything, and let no second signal come between."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
