"""Lambda's runtime on this machine: its own client, on a Debian 13 with Python 3.13, and the API that feeds it.

``awslambdaric`` is what AWS runs in its images. It asks the Runtime API for events, over HTTP, and tells it what became
of them (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html); that API is the small server here.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from playground import tools, tree
from tests.support.built import Build
from tests.support.events import FUNCTION

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 60.0
"""What the function is told that it has, and what an event may take here."""
IN_A_TREE = """
folder=$1 tree=$2
shift 2
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
for name in /dev /proc; do mount --rbind "$name" "$folder/root$name"; done
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$folder/root$2"; else touch "$folder/root$2"; fi
    mount -o bind,ro "$1" "$folder/root$2"
    shift 2
done
shift
exec chroot "$folder/root" "$@"
"""
"""What lies where in Lambda, on an overlay of the tree: FOLDER TREE [OURS THEIRS]... -- COMMAND. It goes with it."""


class Runtime:
    """The built function on its own runtime. Use it as a context manager; ``invoke`` gives it one event."""

    def __init__(
        self,
        build: Build,
        layers: Sequence[str],
        environment: Mapping[str, str],
        certificate: Path,
        folder: Path,
    ) -> None:
        """``layers``: their logical IDs. ``certificate``: one that the function trusts. ``folder``: an empty one."""
        self._log = folder / "log"
        packages = folder / "opt"
        for layer in layers:
            shutil.copytree(build.layer(layer), packages, dirs_exist_ok=True)
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._ends: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._api = ThreadingHTTPServer((HOST, 0), self._handler())
        self._api.daemon_threads = True
        self._thread = threading.Thread(target=self._api.serve_forever, name="runtime-api", daemon=True)
        told = {
            **environment,
            "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{self._api.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "etcd-etcd-resize",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_CA_BUNDLE": "/certificate.crt",
            "SSL_CERT_FILE": "/certificate.crt",
            "PYTHONPATH": "/var/task:/opt/python:/var/runtime",
        }
        shown = {
            build.function: "/var/task",
            packages: "/opt/python",
            tools.runtime(): "/var/runtime",
            certificate: "/certificate.crt",
        }
        self._command = [
            *("unshare", "--mount", "sh", "-euc", IN_A_TREE, "sh", str(folder), str(tree.find())),
            *(word for ours, theirs in shown.items() for word in (str(ours), theirs)),
            *("--", "env", "--ignore-environment", *(f"{name}={value}" for name, value in told.items())),
            *("/usr/bin/python3.13", "-m", "awslambdaric", "etcd_resize.handler.handler"),
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._events.put(None)
        self._api.shutdown()
        self._api.server_close()
        self._thread.join()

    def invoke(self, event: Mapping[str, Any]) -> tuple[str, Any]:
        """Let the function handle an event: ``response`` and null, or ``error`` and Lambda's account of it."""
        self._events.put(dict(event))
        try:
            return self._ends.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            raise AssertionError(f"the function did not end:\n{self.log()}") from None

    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        events, ends = self._events, self._ends

        class Handler(BaseHTTPRequestHandler):
            """GET the next event; POST what became of it."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Wait for an event."""
                event = events.get()
                if event is None:
                    self.close_connection = True
                    return
                body = json.dumps(event).encode()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", event["RequestId"])
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", FUNCTION)
                self.send_header(
                    "Lambda-Runtime-Deadline-Ms", str(int((time.time() + TIMEOUT_SECONDS) * 1000))
                )
                # the client's C++ part dies of a missing one of these two
                self.send_header(
                    "Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0"
                )
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                """Keep the end of an event, or of the start of the function."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ends.put((self.path.rpartition("/")[2], json.loads(body)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler
