"""Resize a real cluster under continuous writes, and show it: ``python -m playground.demo``.

Real ``sam build``, real ``sam deploy`` with nothing but ClusterSize changed, real etcd: 1, 3, 5, 3, 1, then
the stack is deleted. Or, with ``--demo``, a machine dies and its member's colour is flipped, or a whole cluster moves
to another etcd. This module is the command: what a demo does is in ``steps``, how in ``demo_run``, what it came to in
``report``, and what is seen meanwhile in ``view``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from playground import commands, metrics, papers, report, tools
from playground.account import KINDS
from playground.demo_run import STACK, Demo
from playground.local import Playground
from playground.steps import KINDS as DEMOS
from playground.steps import LARGEST
from playground.view import choose, draw


@dataclass(frozen=True, kw_only=True)
class Options(commands.Options):
    """What the command line says."""

    result: Path = tools.ROOT / "build/demo/result.json"
    demo: str = "resize"
    sizes: tuple[int, ...] = DEMOS["resize"].sizes
    machines: str = "process"
    network: str = ""
    leader_leaves: bool = False
    tls: str = "on"
    plain: bool = False


def sizes(text: str) -> tuple[int, ...]:
    """The sizes in a text like ``1,3,5,3,1``."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 1,3,5,3,1") from None
    if not all(1 <= size <= LARGEST for size in found):
        raise argparse.ArgumentTypeError(f"{text!r} has a size that is not between 1 and {LARGEST}")
    return found


def options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line."""
    default = Options()
    parser = commands.parser(
        "playground.demo",
        "Resize a real etcd cluster with real sam deploys while a writer never stops.",
        succeeds="nothing failed and nothing was lost",
        default=default,
    )
    parser.add_argument("--plain", action="store_true", help="write lines, draw nothing")
    parser.add_argument(
        "--demo",
        choices=DEMOS,
        default=default.demo,
        help="resize; replace: a machine dies, its colour is flipped; upgrade: Debian 12 to 13, etcd 3.4 to 3.5",
    )
    usual = ", ".join(f"{','.join(map(str, demo.sizes))} for {name}" for name, demo in DEMOS.items())
    parser.add_argument(
        "--steps",
        dest="sizes",
        type=sizes,
        default=argparse.SUPPRESS,
        help=f"cluster sizes in turn; at the last one a member is replaced, or all are upgraded (default: {usual})",
    )
    parser.add_argument(
        "--machines", choices=KINDS, default=default.machines, help="what a machine is; containers need root"
    )
    networks = ", ".join(f"{network} for {kind}" for kind, network in KINDS.items())
    parser.add_argument(
        "--network", default=default.network, help=f"first two numbers of the addresses: if none, {networks}"
    )
    parser.add_argument(
        "--leader-leaves", action="store_true", help="before each shrink, let a member lead that is to leave"
    )
    parser.add_argument(
        "--tls", choices=("on", "off"), default=default.tls, help="the parameter Tls of the stack"
    )
    chosen = vars(parser.parse_args(arguments))
    if chosen["demo"] == "upgrade" and chosen["etcd"]:
        parser.error("--etcd names one etcd, and an upgrade has two: those of make etcd-versions")
    return Options(**{"sizes": DEMOS[chosen["demo"]].sizes, **chosen})


def conduct(chosen: Options, console: Console) -> int:
    """Run the demo on a playground of its own, show it, report it. Returns the exit status."""
    playground = Playground(
        chosen.directory,
        kind=chosen.machines,
        network=chosen.network,
        port=chosen.port,
        etcd=chosen.etcd,
        by_image=chosen.demo == "upgrade",
    )
    demo = Demo(
        chosen.sizes,
        kind=chosen.demo,
        leader_leaves=chosen.leader_leaves,
        papers=papers.of_stack(playground, STACK) if chosen.tls == "on" else None,
    )
    view = choose(demo.frame, console, plain=chosen.plain)
    playground.provide()  # before anything is drawn: it tells what it builds
    view.start()
    try:
        with playground:
            with metrics.Recorder(playground, STACK) as recorder:
                outcome = demo.run(playground)
            recorded = recorder.lines()
    finally:
        view.stop()
    picture = report.write(outcome, chosen.result, draw(demo.frame()))
    metrics.write(recorded, picture.with_name("metrics.jsonl"))  # for make dashboard-picture
    console.print(report.summary(outcome))
    console.print(f"Written: {chosen.result}, {picture} and {picture.with_name('report.html')}")
    return report.exit_status(outcome)


def main(arguments: Sequence[str] | None = None, *, run: Callable[[Options, Console], int] = conduct) -> int:
    """Run the command. Ctrl-C and SIGTERM end everything that was started."""
    return commands.conducted(partial(run, options(arguments)))


if __name__ == "__main__":
    sys.exit(main())
