"""Lose a whole cluster, and have every key again from its last snapshot: ``python -m playground.restore_demo``.

A real ``sam deploy`` makes a cluster of five; it is filled, a snapshot is taken as an operator would, all machines are
killed, and a second stack starts from the snapshot and grows to five. Written down is what it holds against what the
first one held. This module is the command: how it is done is in ``restore_run``, what it came to in ``restore_report``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from playground import commands, tools
from playground.local import Playground
from playground.restore_report import problems, result, summary
from playground.restore_run import RestoreDemo
from playground.view import choose


@dataclass(frozen=True, kw_only=True)
class Options(commands.Options):
    """What the command line says."""

    result: Path = tools.ROOT / "build/restore-demo/result.json"
    keys: int = 1_000_000
    plain: bool = False


def options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    default = Options()
    parser = commands.parser(
        "playground.restore_demo",
        "Fill a cluster, kill it, and start a new stack from its last snapshot.",
        succeeds="every key is there again",
        default=default,
    )
    parser.add_argument("--plain", action="store_true", help="write lines, draw nothing")
    parser.add_argument("--keys", type=amount, default=default.keys, help="how many keys")
    return Options(**vars(parser.parse_args(arguments)))


def amount(text: str) -> int:
    """A number of keys like 1000000 or 1,000,000."""
    number = text.replace(",", "").replace("_", "")
    if not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of keys like 1,000,000")
    return int(number)


def conduct(chosen: Options, console: Console) -> int:
    """Run it on a playground of its own, show it, write it down. Returns the exit status."""
    playground = Playground(chosen.directory, port=chosen.port, etcd=chosen.etcd)
    demo = RestoreDemo(playground, chosen.keys)
    view = choose(demo.frame, console, plain=chosen.plain)
    view.start()
    try:
        with playground:
            outcome = demo.run()
    finally:
        view.stop()
    chosen.result.parent.mkdir(parents=True, exist_ok=True)
    chosen.result.write_text(json.dumps(result(outcome), indent=2) + "\n")
    console.print(summary(outcome))
    console.print(f"Written: {chosen.result}")
    return 1 if problems(outcome) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Ctrl-C and SIGTERM end everything that was started."""
    return commands.conducted(partial(conduct, options(arguments)))


if __name__ == "__main__":
    sys.exit(main())
