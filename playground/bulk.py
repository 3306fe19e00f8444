"""Many keys at once: written in transactions over several connections, and read back, all of them, as one sum.

It tells how far it is, and that from any thread. It must not know where the endpoints come from.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from playground.connections import first_answer
from playground.writer import Keys

TRANSACTION = 100
"""Keys in one transaction; etcd takes 128 (https://etcd.io/docs/v3.5/op-guide/configuration/, ``max-txn-ops``)."""
WRITERS = 10
"""Transactions that are under way at the same time."""
PAGE = 10_000
"""Keys in one answer: below gRPC's 4 MiB for a message, with values as short as ``Keys`` makes them. etcd counts all
keys behind a page for each one, so many small pages of a large store take minutes."""
PATIENCE_SECONDS = 30.0
"""How long one endpoint may take for one answer."""
ALL = b"\0"
"""As the first key and as the end of a range: etcd's own name for every key that there is."""


class Stores(Protocol):
    """What is needed of a connection. Times in seconds; anything but an answer raises ``NoAnswerError``."""

    def put_all(self, url: str, pairs: Iterable[tuple[bytes, bytes]], timeout: float) -> None:
        """Write some keys, all or none."""

    def read(self, url: str, first: bytes, end: bytes, timeout: float, limit: int = 0) -> dict[bytes, bytes]:
        """The first ``limit`` keys from ``first`` up to but without ``end``, in order."""


class Load:
    """Writes the keys of some numbers. ``written`` and ``slowest_ms`` (of a transaction) may be asked meanwhile."""

    def __init__(self, keys: Keys) -> None:
        self.written = 0
        self.slowest_ms = 0.0
        self._keys = keys
        self._lock = threading.Lock()

    def write(self, stores: Stores, urls: Sequence[str], numbers: range) -> None:
        """Write them all, in turn through all ``urls``. Raises NoAnswerError if no endpoint took a transaction."""
        left = deque(batches(numbers))
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="load") as pool:
            try:
                ended = [pool.submit(self._work, stores, urls, left) for _ in range(WRITERS)]
                for worker in as_completed(ended):
                    worker.result()
            finally:  # the first that fails ends them all
                left.clear()

    def _work(self, stores: Stores, urls: Sequence[str], left: deque[range]) -> None:
        while True:
            try:
                numbers = left.popleft()
            except IndexError:
                return
            self._put(stores, urls, numbers)

    def _put(self, stores: Stores, urls: Sequence[str], numbers: range) -> None:
        pairs = [(self._keys.key(number), self._keys.value(number)) for number in numbers]
        turn = numbers.start // TRANSACTION % len(urls)
        begun = time.monotonic()
        first_answer([*urls[turn:], *urls[:turn]], lambda url: stores.put_all(url, pairs, PATIENCE_SECONDS))
        took = (time.monotonic() - begun) * 1000
        with self._lock:
            self.written += len(pairs)
            self.slowest_ms = max(self.slowest_ms, took)


def batches(numbers: range) -> list[range]:
    """The numbers, as many in each range as one transaction has."""
    return [numbers[first : first + TRANSACTION] for first in range(0, len(numbers), TRANSACTION)]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a cluster holds: how many keys, the bytes of keys and values, and one sha256 over them all, in order."""

    keys: int
    bytes: int
    sha256: str


def contents(pairs: Iterable[tuple[bytes, bytes]]) -> Contents:
    """The sum of pairs of keys and values. Two are alike only if every key and every value is. PURE."""
    digest, keys, size = hashlib.sha256(), 0, 0
    for key, value in pairs:
        # with its length before each, so that no byte can pass from one to the next unnoticed
        digest.update(b"%d:%d:%b%b" % (len(key), len(value), key, value))
        keys, size = keys + 1, size + len(key) + len(value)
    return Contents(keys, size, digest.hexdigest())


def everything(
    stores: Stores,
    urls: Sequence[str],
    *,
    but: Iterable[bytes] = (),
    tell: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[bytes, bytes]]:
    """Every key there is and its value, in order, read page by page; the keys ``but`` are left out.

    ``tell`` hears after each page how many were read. Raises NoAnswerError if no endpoint has given a page.
    """
    left_out, first, read = frozenset(but), ALL, 0
    while page := _page(stores, urls, first):
        read += len(page)
        tell(read)
        yield from ((key, value) for key, value in page.items() if key not in left_out)
        first = max(page) + b"\0"


def _page(stores: Stores, urls: Sequence[str], first: bytes) -> dict[bytes, bytes]:
    return first_answer(urls, lambda url: stores.read(url, first, ALL, PATIENCE_SECONDS, PAGE))
