"""The playground with a way into the function's process and into its machines, by orders in files."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground.account import PlaygroundError
from playground.local import Playground

Record = dict[str, Any]

TIMEOUT_SECONDS = 12
"""TimeoutSeconds of every stack here: what never comes is refused after so long."""
QUICK = {"StabilizationSeconds": "0", "TimeoutSeconds": str(TIMEOUT_SECONDS)}
PATIENCE_SECONDS = 240.0
"""How long a stack may take to come to rest, or anything else that is waited for."""
LOOK_SECONDS = 0.1
INSIDE = Path(__file__).with_name("inside")
CLOCK = Path(__file__).with_name("clock.py")
FIRST = "first"
"""The stack that real sam deploys; the others are made from its template."""

MACHINE = """#!/bin/sh
# Stands for a machine's image: runs etcd, unless an order for the machine says otherwise.
etcd={etcd}
orders={control}/${{ETCD_NAME%-*}}/machines
while read -r name what more; do
    [ "$name" = "$ETCD_NAME" ] || continue
    case $what in
    never) exec sleep 3600 ;;
    late) [ -e "$ETCD_DATA_DIR/member" ] || sleep "$more" ;;
    loop) exec timeout --signal KILL "$more" "$etcd" ;;
    stale) [ -e "$ETCD_DATA_DIR/member" ] || cp -R "$more/member" "$ETCD_DATA_DIR/" ;;
    clock) {python} {clock} $$ "$more" & ;;
    full) exec unshare --mount sh -c 'mount -t tmpfs -o size=2m tmpfs "$ETCD_DATA_DIR" && exec "$0"' "$etcd" ;;
    esac
done <"$orders"
exec "$etcd"
"""


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Wait for a state. Raises PlaygroundError, with `what` was waited for, if it does not come."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise PlaygroundError(f"waited {patience:.0f} s in vain for: {what}")
        time.sleep(LOOK_SECONDS)


class Cloud(Playground):
    """A playground whose functions and machines take orders."""

    def start(self) -> None:
        """See ``Playground.start``."""
        self._reading = threading.Lock()
        self._read = 0
        self._written: list[Record] = []
        super().start()

    def _program(self) -> Path:
        etcd = super()._program()
        image = self.directory / "image/etcd"
        image.parent.mkdir(parents=True, exist_ok=True)
        paths = {"etcd": etcd, "control": self.control, "python": sys.executable, "clock": CLOCK}
        text = MACHINE.format(**{name: shlex.quote(str(path)) for name, path in paths.items()})
        image.write_text(text, encoding="utf-8")
        image.chmod(0o755)
        return image

    def _cloud_environment(self) -> dict[str, str]:
        environment = super()._cloud_environment()
        path = os.pathsep.join((str(INSIDE), environment["PYTHONPATH"]))
        return environment | {"PYTHONPATH": path, "FAULTS_ORDERS": str(self.control)}

    def written(self) -> list[Record]:
        """The journal so far. Only what is new is read: it is asked for ten times a second, and grows long."""
        with self._reading, self.journal.path.open(encoding="utf-8") as file:
            file.seek(self._read)
            complete, end, _ = file.read().rpartition("\n")
            self._read += len((complete + end).encode())
            self._written += [json.loads(line) for line in complete.splitlines()]
            return self._written

    @property
    def control(self) -> Path:
        """Where orders are put."""
        return self.directory / "control"

    def prepare(self) -> str:
        """Build, and deploy once with real sam. Returns the URL of the template that further stacks are made from."""
        self.build()
        (self.control / FIRST).mkdir()
        (self.control / FIRST / "machines").touch()
        done = self.deploy(FIRST, {"ClusterSize": "1", "ClusterName": FIRST, **QUICK})
        if not done.ok:
            raise PlaygroundError(f"the first deploy failed: {done.reason or done.output}")
        client = self.client("cloudformation")
        body = client.get_template(StackName=FIRST, TemplateStage="Original")["TemplateBody"]
        text = body if isinstance(body, str) else json.dumps(body)
        # the playground shows S3's own address to sam; what it takes is its own
        text = text.replace("https://s3.us-east-1.amazonaws.com/", f"{self.endpoint}/")
        s3, bucket, key = self.client("s3"), "faults", "template.json"
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
        return f"{self.endpoint}/{bucket}/{key}"
