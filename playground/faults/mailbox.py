"""Where the function puts its answers to events that we send ourselves: a small HTTPS server on the loopback interface.

It has the local AWS's own certificate, which the function trusts. It must not decide anything.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

HOST = "127.0.0.1"


def self_signed(folder: Path) -> Path:
    """Make a certificate of HOST in the folder, by openssl, with its key beside it as ``server.key``."""
    made = folder / "server.crt"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"]
    command += ["-keyout", str(made.with_name("server.key")), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made


class Mailbox:
    """Takes the answers. Use it as a context manager."""

    def __init__(self, certificate: Path) -> None:
        """``certificate`` lies beside its key, ``server.key``."""
        answers: dict[str, dict[str, Any]] = {}
        came = threading.Condition()
        self._answers, self._came = answers, came

        class Handler(BaseHTTPRequestHandler):
            """One PUT, one answer."""

            def do_PUT(self) -> None:
                """Keep it."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with came:
                    answers[self.path.partition("?")[0]] = json.loads(body)
                    came.notify_all()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("server.key"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="mailbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def address(self) -> tuple[str, Callable[[float], dict[str, Any]]]:
        """A new URL, and a function that waits so many seconds for what is put there; empty if nothing is."""
        path = f"/{uuid.uuid4()}"

        def answered(seconds: float) -> dict[str, Any]:
            with self._came:
                self._came.wait_for(lambda: path in self._answers, seconds)
                return self._answers.get(path, {})

        return f"https://{HOST}:{self._server.server_address[1]}{path}?Signature=none", answered
