"""Write keys without a pause while the cluster changes, and keep account of every answer.

The account is what the demo is judged by: so a write counts as acknowledged only by an answer of etcd, and
every acknowledged key can be read back. The writer must not know why endpoints come and go.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from typing import Protocol

from playground.connections import NoAnswerError, first_answer
from playground.threads import StoppableThread

BATCH = 1000
"""Keys in one range when reading back: far below gRPC's 4 MiB for a message."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the writer spends its time, all in seconds.

    ``pause`` lies between two writes, ``attempt`` is what one endpoint may take for an answer, ``patience``
    what all of them together may take. An endpoint that failed is tried last for ``rest``. ``breath`` comes
    before the next round when every endpoint has failed.
    """

    pause: float = 0.002
    attempt: float = 1.0
    patience: float = 5.0
    rest: float = 1.0
    breath: float = 0.05


class Puts(Protocol):
    """What the writer needs of a connection: anything but an acknowledgement raises ``NoAnswerError``."""

    def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
        """Write one key through one endpoint."""


class Reads(Protocol):
    """What reading back needs of a connection."""

    def read(self, url: str, first: bytes, end: bytes, timeout: float) -> dict[bytes, bytes]:
        """The keys from ``first`` up to but without ``end``."""

    def count(self, url: str, first: bytes, end: bytes, timeout: float) -> int:
        """How many keys there are from ``first`` up to but without ``end``."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one run, by number. A value follows from its key, so that none need be kept."""

    run: str

    def key(self, number: int) -> bytes:
        """The key with that number; keys sort as their numbers do."""
        return f"/demo/{self.run}/{number:09d}".encode()

    def value(self, number: int) -> bytes:
        """What belongs under that key: 32 characters that no other key has."""
        return hashlib.sha256(self.key(number)).hexdigest()[:32].encode()

    @property
    def range(self) -> tuple[bytes, bytes]:
        """The first key, and the end behind the last one."""
        return self.key(0), f"/demo/{self.run}0".encode()  # "0" is the character after "/"


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the writes of a stretch of time. Times in milliseconds, 0 where there was no write."""

    acked: int = 0
    failed: int = 0
    retried: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    longest_gap_ms: float = 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of the ``ordered`` values do not exceed."""
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[min(max(rank, 1), len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a ledger, to ask for the figures since."""

    acked: int = 0
    failed: int = 0
    retried: int = 0


@dataclass(slots=True)
class Ledger:
    """Every answer so far. One thread writes, any thread asks.

    ``numbers`` are the acknowledged keys; ``errors`` counts what endpoints said instead of acknowledging.
    """

    numbers: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    slowest_ms: float = 0.0
    _seconds: list[float] = field(default_factory=list)
    _moments: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, number: int, begun: float, ended: float, *, retried: bool) -> None:
        """A write that took from ``begun`` to ``ended`` (seconds of a monotonic clock) was acknowledged."""
        with self._lock:
            self.numbers.append(number)
            self._seconds.append(ended - begun)
            self._moments.append(ended)
            self.retried += retried
            self.slowest_ms = max(self.slowest_ms, (ended - begun) * 1000)

    def refuse(self, url: str, reason: str) -> None:
        """One endpoint did not acknowledge one attempt."""
        with self._lock:
            self.errors[f"{url}: {reason}"] += 1

    def fail(self, key: bytes, reason: str) -> None:
        """No endpoint acknowledged this write in time."""
        with self._lock:
            self.failures.append(f"{key.decode()}: {reason}")

    def mark(self) -> Mark:
        """Where the account stands now."""
        with self._lock:
            return Mark(len(self.numbers), len(self.failures), self.retried)

    def figures(self, since: Mark = Mark(), until: Mark | None = None) -> Figures:
        """What happened from ``since`` (or the beginning) until ``until`` (or now)."""
        return self.together([(since, until or self.mark())])

    def together(self, stretches: Sequence[tuple[Mark, Mark]]) -> Figures:
        """What happened in all of these stretches, and not between them."""
        seconds: list[float] = []
        gap = 0.0
        with self._lock:
            for since, until in stretches:
                seconds += self._seconds[since.acked : until.acked]
                # The gap that a stretch begins with counts to it, so one moment more.
                moments = self._moments[max(since.acked - 1, 0) : until.acked]
                gap = max([gap, *(later - earlier for earlier, later in pairwise(moments))])
        seconds.sort()
        return Figures(
            acked=len(seconds),
            failed=sum(until.failed - since.failed for since, until in stretches),
            retried=sum(until.retried - since.retried for since, until in stretches),
            p50_ms=percentile(seconds, 0.50) * 1000,
            p99_ms=percentile(seconds, 0.99) * 1000,
            max_ms=(seconds[-1] if seconds else 0.0) * 1000,
            longest_gap_ms=gap * 1000,
        )

    def slower(self, milliseconds: float, since: Mark, until: Mark) -> int:
        """How many writes from ``since`` until ``until`` took longer."""
        with self._lock:
            return sum(seconds * 1000 > milliseconds for seconds in self._seconds[since.acked : until.acked])

    def slowest(self, since: float, width: float) -> list[tuple[float, float]]:
        """The slowest write of each stretch of ``width`` seconds.

        Each with the seconds after ``since`` (of the monotonic clock) at which it was acknowledged, and with the
        milliseconds it took.
        """
        with self._lock:
            found: dict[int, tuple[float, float]] = {}
            for moment, seconds in zip(self._moments, self._seconds, strict=True):
                stretch, here = int((moment - since) // width), (moment - since, seconds * 1000)
                found[stretch] = max(found.get(stretch, here), here, key=lambda write: write[1])
        return [found[stretch] for stretch in sorted(found)]


class Writer:
    """Writes from a thread of its own, one key after the other, in turn through all ``endpoints``.

    It begins with the first endpoint that there is. A write that did not get an answer is tried again under
    the same key with the same value, so it does no harm if it was applied all the same.
    """

    def __init__(
        self,
        puts: Puts,
        endpoints: Callable[[], Sequence[str]],
        keys: Keys,
        *,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = Ledger()
        self.keys = keys
        self._puts = puts
        self._endpoints = endpoints
        self._timing = timing
        self._clock = clock
        self._turn = 0
        self._resting: dict[str, float] = {}
        self._thread = StoppableThread(self._run, "writer")

    def start(self) -> None:
        """Begin as soon as there is an endpoint."""
        self._thread.start()

    def stop(self) -> None:
        """Let the write that is under way come to its end, and write no more."""
        self._thread.stop()

    def write(self, number: int) -> None:
        """One write with all its attempts, entered into the ledger."""
        key, value = self.keys.key(number), self.keys.value(number)
        begun = self._clock()
        deadline = begun + self._timing.patience
        last = "there is no endpoint"
        for attempt, url in enumerate(self._candidates(deadline)):
            try:
                self._puts.put(url, key, value, min(self._timing.attempt, deadline - self._clock()))
            except NoAnswerError as error:
                last = f"{url}: {error}"
                self.ledger.refuse(url, str(error))
                self._resting[url] = self._clock() + self._timing.rest
            else:
                self.ledger.acknowledge(number, begun, self._clock(), retried=attempt > 0)
                return
        self.ledger.fail(key, last)

    def _candidates(self, deadline: float) -> Iterator[str]:
        """What to try until the deadline: the next in turn first, those that failed lately last."""
        self._turn += 1
        while self._clock() < deadline:
            tried: set[str] = set()
            while url := next((url for url in self._in_turn() if url not in tried), None):
                if self._clock() >= deadline:
                    return
                tried.add(url)
                yield url
            time.sleep(self._timing.breath)

    def _in_turn(self) -> list[str]:
        urls = list(self._endpoints())
        first = self._turn % len(urls) if urls else 0
        now = self._clock()
        return sorted(urls[first:] + urls[:first], key=lambda url: self._resting.get(url, 0.0) > now)

    def _run(self) -> None:
        while not self._endpoints():
            if self._thread.rest(self._timing.breath):
                return
        for number in count():
            if self._thread.stopped:
                return
            try:
                self.write(number)
            except Exception as error:
                # A writer that stops without a word would look like one without failures.
                self.ledger.fail(self.keys.key(number), f"the writer itself ended: {error!r}")
                raise
            self._thread.rest(self._timing.pause)


def read_back(
    reads: Reads, urls: Sequence[str], keys: Keys, numbers: Iterable[int], *, timeout: float = 5.0
) -> list[int]:
    """Which of the acknowledged ``numbers`` are lost: absent now, or there with another value.

    Each batch is read, linearizable, from the first endpoint that answers within ``timeout`` seconds.
    Raises ``NoAnswerError`` if none does: then nothing is known.
    """
    batches: dict[int, list[int]] = {}
    for number in numbers:
        batches.setdefault(number // BATCH, []).append(number)
    lost: list[int] = []
    for batch, wanted in batches.items():
        first, end = keys.key(batch * BATCH), keys.key((batch + 1) * BATCH)
        found = first_answer(urls, partial(reads.read, first=first, end=end, timeout=timeout))
        lost += [number for number in wanted if found.get(keys.key(number)) != keys.value(number)]
    return lost


def held_by(reads: Reads, urls: Sequence[str], keys: Keys, *, timeout: float = 5.0) -> dict[str, int]:
    """How many of the keys each member's own store holds. Raises ``NoAnswerError`` if one does not answer."""
    return {url: reads.count(url, *keys.range, timeout) for url in urls}
