"""How much memory a snapshot takes: a large database of a real etcd goes through the function's own code to a bucket.

    .venv/bin/python -m scripts.snapshot_memory [MIB]

The code runs in a process of its own, whose data the kernel limits to what the function has in Lambda (512 MiB); it
streams from etcd to a stand-in for S3 that takes each part and keeps none. Prints what was seen, as JSON; status 1 if
the snapshot did not get through. Talks to loopback addresses only.
"""

from __future__ import annotations

import http.server
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from etcd_resize.aws import Bucket
from etcd_resize.gateway import EtcdGateway, client
from playground import tools

LIMIT_MIB = 512
"""The function's ``MemorySize`` in template.yaml."""
HOST = "127.98.9.1"
URL = f"http://{HOST}:2379"
VALUE = os.urandom(1 << 20)
START_SECONDS = 20.0


class Parts(http.server.BaseHTTPRequestHandler):
    """S3's side of an upload in parts."""

    protocol_version = "HTTP/1.1"
    sizes: list[int] = []  # noqa: RUF012 - the server makes a handler for each connection

    def do_POST(self) -> None:
        """The begin and the end of an upload."""
        self._take()
        name = "InitiateMultipartUploadResult" if "uploads" in self.path else "CompleteMultipartUploadResult"
        self._answer(f"<{name}><UploadId>1</UploadId><ETag>1</ETag></{name}>".encode())

    def do_PUT(self) -> None:
        """A part."""
        self.sizes.append(self._take())
        self._answer(b"")

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _take(self) -> int:
        taken = 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
                taken += size
            self.rfile.readline()
            return taken
        left = int(self.headers.get("Content-Length", 0))
        while left > taken:
            taken += len(self.rfile.read(min(left - taken, 1 << 20)))
        return taken

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def store() -> None:
    """The child: the function's code, within the limit."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MIB << 20, LIMIT_MIB << 20))
    gateway = EtcdGateway([URL])
    (member,) = gateway.view().voters
    Bucket("snapshots").store("etcd", "now", gateway.snapshot(member))
    gateway.close()
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))


def measure(mebibytes: int, folder: Path) -> dict[str, object]:
    """Fill an etcd with ``mebibytes`` of data and send its snapshot; what was seen."""
    server = http.server.ThreadingHTTPServer((HOST, 0), Parts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with (folder / "etcd.log").open("wb") as log:
        etcd = subprocess.Popen(_etcd(folder / "data"), stdout=log, stderr=log)
    try:
        filling = _connected()
        for number in range(mebibytes):
            filling.put(f"key-{number}", VALUE)
        size = filling.status().db_size
        filling.close()
        began = time.monotonic()
        done = _stored(f"http://{HOST}:{server.server_port}")
        seconds = time.monotonic() - began
    finally:
        etcd.terminate()
        etcd.wait()
        server.shutdown()
    return {
        "stored": done.returncode == 0,
        "database_mib": size >> 20,
        "uploaded_mib": sum(Parts.sizes) >> 20,
        "parts": len(Parts.sizes),
        "largest_part_mib": max(Parts.sizes, default=0) / (1 << 20),
        "resident_mib": int(done.stdout) if done.returncode == 0 else None,
        "limit_mib": LIMIT_MIB,
        "seconds": round(seconds, 1),
        "problem": done.stderr.strip().splitlines()[-1] if done.returncode else "",
    }


def _etcd(data: Path) -> list[str]:
    """The command that runs it."""
    command = [str(tools.etcd()), "--data-dir", str(data), "--quota-backend-bytes", str(8 << 30)]
    for kind, port in (("client", 2379), ("peer", 2380)):
        urls = f"http://{HOST}:{port}"
        command += [f"--listen-{kind}-urls", urls]
        command += [f"--{'initial-' if kind == 'peer' else ''}advertise-{kind}-urls", urls]
    return [*command, "--initial-cluster", f"default=http://{HOST}:2380", "--snapshot-count", "100"]


def _stored(endpoint: str) -> subprocess.CompletedProcess[str]:
    """``store``, in a process of its own, which is measured."""
    variables = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return subprocess.run(
        [sys.executable, "-m", "scripts.snapshot_memory", "--store"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def _connected() -> Any:
    deadline = time.monotonic() + START_SECONDS
    while True:
        etcd = client(URL, None, [("grpc.max_send_message_length", 4 << 20)], timeout=10)
        try:
            etcd.status()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return etcd


if __name__ == "__main__":
    if sys.argv[1:] == ["--store"]:
        store()
        sys.exit()
    with tempfile.TemporaryDirectory(dir="build" if Path("build").is_dir() else None) as scratch:
        seen = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2048, Path(scratch))
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")
    sys.exit(not seen["stored"])
