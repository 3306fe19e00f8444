"""A client for each endpoint of a cluster, to write and to read through that one member.

Each endpoint has a channel of its own, so what one member answers is never mixed with another's answer. It
must not choose among endpoints, and it knows nothing of membership: ``etcd_resize.gateway`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import grpc

from etcd_resize import gateway
from etcd_resize.errors import Refused
from etcd_resize.model.urls import is_tls
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

T = TypeVar("T")


class NoAnswerError(Exception):
    """An endpoint refused, was silent, or was not there. The text is etcd's or gRPC's own."""


def first_answer(urls: Iterable[str], call: Callable[[str], T]) -> T:
    """What the first endpoint that answers says. Raises NoAnswerError if none does."""
    said = "there is no endpoint"
    for url in urls:
        try:
            return call(url)
        except NoAnswerError as error:
            said = f"{url}: {error}"
    raise NoAnswerError(said)


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

    def put_all(self, url: str, pairs: Iterable[tuple[bytes, bytes]], timeout: float) -> None:
        """Write some keys in one transaction; etcd takes 128 of them at most unless it was told otherwise."""
        puts = [
            etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=key, value=value)) for key, value in pairs
        ]
        self._call(url, lambda kv: kv.Txn(etcdrpc.TxnRequest(success=puts), timeout))

    def read(self, url: str, first: bytes, end: bytes, timeout: float, limit: int = 0) -> dict[bytes, bytes]:
        r"""The keys from ``first`` up to but without ``end`` in their order, the first ``limit`` if one is set.

        Linearizable. ``end`` may be ``b"\0"``: then there is none.
        """
        request = etcdrpc.RangeRequest(key=first, range_end=end, limit=limit)
        answer = self._call(url, lambda kv: kv.Range(request, timeout))
        return {pair.key: pair.value for pair in answer.kvs}

    def count(self, url: str, first: bytes, end: bytes, timeout: float) -> int:
        """How many keys that member itself holds between ``first`` and ``end``, linearizable."""
        return int(self._counted(url, first, end, timeout).count)

    def revision(self, url: str, timeout: float) -> int:
        """The revision of the keys, linearizable."""
        return int(self._counted(url, b"\0", b"\0", timeout).header.revision)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def _counted(self, url: str, first: bytes, end: bytes, timeout: float) -> Any:
        request = etcdrpc.RangeRequest(key=first, range_end=end, count_only=True)
        return self._call(url, lambda kv: kv.Range(request, timeout))

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
