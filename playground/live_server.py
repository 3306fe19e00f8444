"""The live page's way to a browser: the page, what it is told as it changes, and the orders that it sends.

A page on loopback is within reach of every page that the browser shows, so its address has a secret in it, and only a
request that names this address as its host is heard.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Protocol

from playground.account import HOST, PlaygroundError
from playground.machines import MachineError
from playground.network import NetworkError

PAGE = Path(__file__).with_name("live.html")
PERIOD_SECONDS = 0.25
"""How often a browser is told, if there is something new."""
SILENCE_SECONDS = 10.0
"""After so long without news a browser gets a comment, which shows whether it is still there."""
LONGEST_ORDER = 1000
"""Bytes of an order."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # the address has the secret in it
    "X-Content-Type-Options": "nosniff",
}


class OrderError(Exception):
    """What the page asked for cannot be done. The message is one plain sentence."""


class Live(Protocol):
    """What the page is about: see ``playground.live``."""

    @property
    def ending(self) -> threading.Event:
        """Set as soon as nobody is to be told any more."""

    def state(self) -> dict[str, Any]:
        """What the page shows now."""

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what the page asks for. Raises OrderError, or what the playground raises."""


class Server(ThreadingHTTPServer):
    """Serves the page to whoever knows its address."""

    block_on_close = False  # a browser that listens is let go, not waited for

    def __init__(self, place: tuple[str, int], live: Live, token: str) -> None:
        super().__init__(place, _Handler)
        self.live, self.token = live, token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that left is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60
    paths: ClassVar[dict[tuple[str, str], str]] = {
        ("GET", ""): "_page",
        ("GET", "events"): "_events",
        ("POST", "orders"): "_order",
    }

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal is for people."""

    def _answer(self) -> None:
        _, token, *rest = [*self.path.split("/"), "", ""]
        wanted = self.paths.get((self.command, rest[0])) if rest[1:] in ([""], ["", ""]) else None
        if not self._is_ours(token):
            self._send(HTTPStatus.FORBIDDEN, b"This is not the address that `up` printed.\n")
        elif wanted is None:
            self._send(HTTPStatus.NOT_FOUND, b"There is nothing here.\n")
        else:
            getattr(self, wanted)()

    def _is_ours(self, token: str) -> bool:
        """Whether the request knows the secret, and means this address: a foreign name may lead here, too."""
        host = f"{HOST}:{self.server.server_port}"
        origin = self.headers.get("Origin")
        return (
            secrets.compare_digest(token.encode(), self.server.token.encode())
            and self.headers.get("Host") == host
            and origin in {None, f"http://{host}"}
        )

    def _page(self) -> None:
        self._send(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")

    def _events(self) -> None:
        """The state, again whenever it has changed, until the browser leaves or everything ends."""
        self._begin(HTTPStatus.OK, "text/event-stream")
        live, last, told = self.server.live, "", time.monotonic()
        while not live.ending.is_set():
            if (now := json.dumps(live.state())) != last:
                self.wfile.write(f"data: {now}\n\n".encode())
                last, told = now, time.monotonic()
            elif time.monotonic() - told > SILENCE_SECONDS:
                self.wfile.write(b":\n\n")
                told = time.monotonic()
            live.ending.wait(PERIOD_SECONDS)

    def _order(self) -> None:
        try:
            self.server.live.obey(self._asked())
        except (OrderError, PlaygroundError, MachineError, NetworkError) as error:
            self._send(HTTPStatus.CONFLICT, str(error).encode())
        else:
            self._send(HTTPStatus.OK, b"")

    def _asked(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_ORDER:
            raise OrderError("An order is a short JSON object.")
        try:
            order = json.loads(self.rfile.read(int(length)))
        except ValueError:
            order = None
        if not isinstance(order, dict):
            raise OrderError("An order is a short JSON object.")
        return order

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self._begin(status, kind, **{"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str, **more: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind} | HEADERS | more).items():
            self.send_header(name, value)
        self.end_headers()
