"""Cause every fault of the table and see what holds: ``python -m playground.faults``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from playground import commands, tools
from playground.faults import report, table
from playground.faults.cloud import Cloud
from playground.faults.mailbox import Mailbox
from playground.faults.run import Runner

DEFAULT = commands.Options(
    result=tools.ROOT / "build/faults/result.json", directory=tools.ROOT / ".playground/faults", port=4591
)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = commands.parser(
        "playground.faults",
        "Break an etcd cluster in every way of the table while it is resized, and see what holds.",
        succeeds="every fault that was tried held",
        default=DEFAULT,
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="names, or what they begin with, or groups"
    )
    parser.add_argument("--list", action="store_true", help="list the faults, run nothing")
    parser.add_argument(
        "--side-by-side", type=int, default=2, metavar="N", help="how many stacks at the same time"
    )
    parser.add_argument("--network", default="127.91", help="first two numbers of the addresses")
    return parser.parse_args(arguments)


def conduct(chosen: argparse.Namespace, console: Console) -> int:
    """Run the faults that were chosen on a cloud of their own. Returns the exit status."""
    faults = table.named(chosen.only)
    if not faults:
        console.print(f"No fault is called like that: {', '.join(chosen.only)}. See --list.", style="red")
        return 1
    begun = time.monotonic()
    etcd = chosen.etcd or tools.etcd()
    done = 0

    def tell(row: report.Row) -> None:
        nonlocal done
        done += 1
        style = {True: "", False: "bold red", None: "yellow"}[row.held]
        console.print(
            report.line(row, done, len(faults)), style=style, markup=False, highlight=False, soft_wrap=True
        )

    with Cloud(chosen.directory, network=chosen.network, port=chosen.port, etcd=etcd) as cloud:
        console.print("Building, and one real sam deploy to begin with.")
        template = cloud.prepare()
        with Mailbox(cloud.certificate) as mailbox:
            rows = Runner(cloud, template, mailbox, tell).run(faults, chosen.side_by_side)
    seconds = time.monotonic() - begun
    report.write(rows, chosen.result, version=tools.etcd_version(etcd), seconds=seconds)
    console.print(report.table(rows))
    console.print(report.summary(rows, seconds))
    console.print(f"Written: {chosen.result}")
    return report.exit_status(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Ctrl-C and SIGTERM end everything that was started."""
    chosen = options(arguments)
    if chosen.list:
        console = Console()
        for fault in table.named(chosen.only):
            console.print(
                f"{fault.group:<9} {fault.name}\n{'':10}{fault.cause}: {fault.after}",
                markup=False,
                highlight=False,
            )
        return 0
    return commands.conducted(partial(conduct, chosen))


if __name__ == "__main__":
    sys.exit(main())
