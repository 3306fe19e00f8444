"""How a command that starts much ends: in order, whatever ends it, and with one sentence."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from playground import tools
from playground.local import PlaygroundError

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""


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
