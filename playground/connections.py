"""A client for each endpoint of a cluster, to write and to read through that one member.

Each endpoint has a channel of its own, so what one member answers is never mixed with another's answer. It
must not choose among endpoints, and it knows nothing of membership: ``etcd_resize.gateway`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc

from etcd_resize import gateway
from etcd_resize.errors import Refused
from etcd_resize.model import is_tls
from playground.papers import Papers, none

from etcd3 import etcdrpc  # isort: skip # etcd_resize makes it loadable

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A member that comes back, or a new one at an old address, must be found within a write's patience.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also what one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class NoAnswerError(Exception):
    """An endpoint refused, was silent, or was not there. The text is etcd's or gRPC's own."""


class Connections:
    """Calls to single endpoints. Every call takes a timeout in seconds and raises ``NoAnswerError``."""

    def __init__(self, papers: Papers = none) -> None:
        """``papers``: what is shown to members with TLS."""
        self._papers = papers
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
        """Write one key."""
        self._call(url, lambda kv: kv.Put(etcdrpc.PutRequest(key=key, value=value), timeout))

    def read(self, url: str, first: bytes, end: bytes, timeout: float) -> dict[bytes, bytes]:
        """The keys from ``first`` up to but without ``end``, linearizable."""
        answer = self._call(url, lambda kv: kv.Range(etcdrpc.RangeRequest(key=first, range_end=end), timeout))
        return {pair.key: pair.value for pair in answer.kvs}

    def count(self, url: str, first: bytes, end: bytes, timeout: float) -> int:
        """How many keys that member itself holds between ``first`` and ``end``, linearizable."""
        request = etcdrpc.RangeRequest(key=first, range_end=end, count_only=True)
        return int(self._call(url, lambda kv: kv.Range(request, timeout)).count)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def _call(self, url: str, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self._client(url).kvstub)
        except grpc.RpcError as error:
            raise NoAnswerError(f"{error.code().name}: {error.details()}") from error
        except Refused as error:
            raise NoAnswerError(str(error)) from error

    def _client(self, url: str) -> Any:
        with self._lock:
            if url not in self._clients:
                papers = self._papers() if is_tls(url) else None
                self._clients[url] = gateway.client(url, papers, CHANNEL_OPTIONS)
            return self._clients[url]
