"""One round: a way goes through the sizes under continuous writes, and every write is on the account.

The writer has this process for itself; the way, and all that it starts, is a process beside it, as the function is on
AWS. What a way computes costs the writer the processor at most, never its own clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.child import child
from bench.ways import fresh
from etcd_resize.model.urls import client_url
from playground import tools
from playground.connections import Connections
from playground.writer import Keys, Ledger, Mark, Writer

SIZES = (1, 3, 5, 3, 1)
REST_SECONDS = 3.0
"""How long is written before the first step and after each, for the figures at rest: a write in a cluster of five
takes longer than in one of one, whether it is being resized or not."""
SLOW_MS = 100.0


def one_round(name: str, etcd: Path, folder: Path, addresses: list[str]) -> dict[str, Any]:
    """The raw figures of one way: seconds a step, and the writes at rest and meanwhile."""
    connections = Connections()
    # the writer knows the members that stay throughout: what it sees is the cluster, not a member that goes
    writer = Writer(connections, lambda: [client_url(addresses[0])], Keys(f"bench-{time.time_ns()}"))
    ledger, steps = writer.ledger, list[dict[str, Any]]()
    resting, resizing = list[tuple[Mark, Mark]](), list[tuple[Mark, Mark]]()
    try:
        with child(name, etcd, fresh(folder), addresses) as way:
            writer.start()
            resting.append(_rest(ledger))
            for before, size in pairwise(SIZES):
                begun = ledger.mark()
                took = way.go(size)
                resizing.append((begun, ledger.mark()))
                resting.append(_rest(ledger))
                writes = {
                    "writes": asdict(ledger.figures(*resizing[-1])),
                    "rest": asdict(ledger.figures(*resting[-1])),
                }
                steps.append({"from": before, "to": size, **took, **writes})
            writer.stop()
    finally:
        writer.stop()
        connections.close()
    return {
        "way": name,
        "steps": steps,
        "rest": asdict(ledger.together(resting)),
        "resizing": asdict(ledger.together(resizing)),
        "slow": sum(ledger.slower(SLOW_MS, *stretch) for stretch in resizing),
        "leaderless_seconds": round(sum(step["leaderless_seconds"] for step in steps), 3),
    }


def _rest(ledger: Ledger) -> tuple[Mark, Mark]:
    begun = ledger.mark()
    time.sleep(REST_SECONDS)
    return begun, ledger.mark()


def whole_stack(folder: Path) -> dict[str, Any]:
    """What ``make demo`` comes to without TLS: sam, CloudFormation and the handler in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "playground.demo",
        "--plain",
        "--tls",
        "off",
        "--result",
        str(folder / "result.json"),
    ]
    subprocess.run(command, cwd=tools.ROOT, stdout=subprocess.DEVNULL, check=True)
    told = json.loads((folder / "result.json").read_text())
    return {"steps": told["steps"], "writes": told["writes"]}
