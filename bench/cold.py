"""What a cold start costs: imports, the first answer, memory, and the size of what is uploaded. Fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.ways import fresh
from playground import tools
from playground.faults.mailbox import Mailbox, self_signed
from tests.support.events import FUNCTION, STACK

PROCESSES = 9
"""Of each kind, in turn."""

LAYER = "PackagesArm64"
"""What the function needs for every event, for the architecture that is the default."""

_TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"
IMPORTS = {
    "bare": "import etcd_resize, boto3, crhelper, yaml, etcd3",  # etcd_resize lets protobuf load etcd3's code
    "handler": "import etcd_resize.handler",
}
_FIRST = """
import sys, time
begun = time.perf_counter()
from etcd_resize.handler import handler
class Context:
    aws_request_id = "bench"
    invoked_function_arn = sys.argv[2]
    get_remaining_time_in_millis = staticmethod(lambda: 60_000)
handler({"RequestType": "Create", "ResourceType": "Custom::EtcdMember", "ServiceToken": sys.argv[2],
         "ResourceProperties": {"ServiceToken": sys.argv[2]}, "StackId": sys.argv[3], "RequestId": "request",
         "LogicalResourceId": "Member", "ResponseURL": sys.argv[1]}, Context)
print(time.perf_counter() - begun)
"""
_WHOLE = """
import logging, resource, sys
from pathlib import Path
from bench.ways import Ours
way = Ours(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","))
try:
    way.grow(3)
    way.shrink(1)
finally:
    way.stop()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(etcd: Path, folder: Path, addresses: list[str]) -> dict[str, Any]:
    """Seconds and megabytes, medians of PROCESSES; ``peak_mb`` of a process that took a resize 1, 3, 1."""
    raw: dict[str, list[float]] = {name: [] for name in (*IMPORTS, "first_answer")}
    trusted = self_signed(fresh(folder))
    with Mailbox(trusted) as mailbox:
        for _ in range(PROCESSES):
            for name, statement in IMPORTS.items():
                raw[name].append(_run(_TIMED.format(statement)))
            url, answered = mailbox.address()
            taken = _run(_FIRST, url, FUNCTION, STACK, SSL_CERT_FILE=str(trusted), ANSWERS_ON_LOOPBACK="1")
            if answered(0).get("Status") != "FAILED":
                raise RuntimeError("the first answer never came")
            raw["first_answer"].append(taken)
    with tempfile.TemporaryDirectory() as data:
        peak = _run(_WHOLE, str(etcd), data, ",".join(addresses))
    times = {name: round(median(seconds), 4) for name, seconds in raw.items()}
    return {
        "seconds": times,
        "import_to_bare": round(times["handler"] / times["bare"], 3),
        "first_answer_to_bare": round(times["first_answer"] / times["bare"], 3),
        "peak_mb": round(peak, 1),
        **sizes(tools.ROOT / ".aws-sam/build"),
        "raw": raw,
    }


def sizes(built: Path) -> dict[str, float | None]:
    """Megabytes of what ``sam build`` made, not compressed: each folder, and LAYER by name; None if it was not run."""
    folders = sorted(path for path in built.iterdir() if path.is_dir()) if built.exists() else []
    found = {f"{path.name}_mb": _megabytes(path) for path in folders}
    return {"layer_mb": found.get(f"{LAYER}_mb"), **found}


def _megabytes(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 2)


def _run(script: str, *arguments: str, **environment: str) -> float:
    """The last line that a fresh Python prints."""
    # crhelper makes clients for a region; a .pyc is there in the layer too
    given = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "PYTHONPATH": str(tools.ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **given, **environment},
        cwd=tools.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ended.stdout.split()[-1])
