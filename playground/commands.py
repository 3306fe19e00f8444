"""What commands that start a playground of their own have in common: where it lies, and how they end.

They end in order, whatever ends them, and with one sentence.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.console import Console

from playground import tools
from playground.local import PlaygroundError

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""


def add_options(parser: argparse.ArgumentParser, *, directory: Path, result: Path, port: int) -> None:
    """What each of them takes, with its defaults."""
    parser.add_argument("--directory", type=Path, default=directory, help="where the playground lives")
    parser.add_argument("--result", type=Path, default=result, help="where the result goes, as JSON")
    parser.add_argument(
        "--etcd", type=Path, help="the etcd to run instead of the one that make tools fetched"
    )
    parser.add_argument("--port", type=int, default=port, help="port of the local CloudFormation")
    parser.add_argument("--plain", action="store_true", help="write lines, draw nothing")


def conducted(run: Callable[[], int], console: Console) -> int:
    """Run it; the exit status. Ctrl-C and SIGTERM end everything that was started."""
    signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(signal.SIGTERM, interrupt_once)
    try:
        return run()
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
