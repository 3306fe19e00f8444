"""What several clients asked of a register and were told, and whether one register could have told it.

``linearizable`` is the search of Wing and Gong with Lowe's memory of the states that it has seen: an operation takes
effect at one moment between its invocation and its answer. A write without an answer may have taken effect at any
moment after its invocation, or never; a read without an answer says nothing. Keys are independent of each other, so
each is searched alone. ``Recorder`` takes such a history down from real clients.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from playground.connections import NoAnswerError

NEVER = float("inf")


@dataclass(frozen=True)
class Operation:
    """One read (``write`` False) or write of a key. Times in seconds of one monotonic clock.

    ``value`` is what was written or read, None for a key that is not there. ``ended`` is ``NEVER`` for a write that
    was not answered.
    """

    key: str
    write: bool
    value: str | None
    begun: float
    ended: float
    client: int = 0

    def __str__(self) -> str:
        what = f"writes {self.value}" if self.write else f"reads {self.value}"
        return f"{self.begun:9.3f} … {self.ended:9.3f}  client {self.client} {what} ({self.key})"


def violation(history: Iterable[Operation]) -> list[Operation]:
    """The operations of the first key that no register could have answered so; empty if all is well.

    They are cut down: the shortest beginning of that key's history which is wrong already.
    """
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        keys.setdefault(operation.key, []).append(operation)
    for operations in keys.values():
        if not linearizable(operations):
            return _shortest(operations)
    return []


def linearizable(operations: Sequence[Operation], initial: str | None = None) -> bool:
    """Whether one register with that initial value could have answered so. All of one key."""
    wanted = {operation.value for operation in operations if not operation.write}
    ordered = sorted(
        # a write without an answer whose value nobody has read need not have happened
        (one for one in operations if one.ended < NEVER or one.value in wanted),
        key=lambda operation: operation.begun,
    )
    ends = [operation.ended for operation in ordered]
    done, first = frozenset[int](), 0
    # `first`: all before it are done, so a state is (first, those done behind it, the value)
    stack = [(first, done, initial)]
    seen = set(stack)
    while stack:
        first, done, value = stack.pop()
        open_ones = _candidates(ordered, ends, first, done)
        if open_ones is None:
            return True
        writes = [number for number in open_ones if ordered[number].write]
        # a read that fits now changes nothing, so there is no better moment for it
        fitting = (
            number for number in open_ones if not ordered[number].write and ordered[number].value == value
        )
        read = next(fitting, None)
        for number in writes if read is None else [read]:
            state = _advance(first, done | {number}, ordered[number].value)
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return False


def _candidates(
    ordered: Sequence[Operation], ends: Sequence[float], first: int, done: frozenset[int]
) -> list[int] | None:
    """What may take effect next: whatever began before the first answer that is still to come.

    None if no answer is to come: the writes without an answer that are left may just not have happened.
    """
    earliest, candidates = NEVER, []
    for number in range(first, len(ordered)):
        if ordered[number].begun > earliest:
            break
        if number not in done:
            earliest = min(earliest, ends[number])
            candidates.append(number)
    if earliest == NEVER:
        return None
    return [number for number in candidates if ordered[number].begun <= earliest]


def _advance(first: int, done: frozenset[int], value: str | None) -> tuple[int, frozenset[int], str | None]:
    while first in done:
        done -= {first}
        first += 1
    return first, done, value


def _shortest(operations: Sequence[Operation]) -> list[Operation]:
    """The operations up to the first answer with which it goes wrong; later ones as if without an answer yet."""

    def beginning(answered: float) -> list[Operation]:
        return [
            operation if operation.ended <= answered else _unanswered(operation)
            for operation in operations
            if operation.begun <= answered and (operation.write or operation.ended <= answered)
        ]

    answers = sorted(operation.ended for operation in operations if operation.ended < NEVER)
    # once it is wrong it stays so, whatever is answered later
    first = bisect_left(answers, True, key=lambda answered: not linearizable(beginning(answered)))  # noqa: FBT003
    return sorted(beginning(answers[first]), key=lambda operation: operation.begun)


def _unanswered(operation: Operation) -> Operation:
    return Operation(
        operation.key, operation.write, operation.value, operation.begun, NEVER, operation.client
    )


# --- taking a history down ---------------------------------------------------------------------------


class Register(Protocol):
    """What the clients need of a connection."""

    def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
        """Write one key; ``NoAnswerError`` if it is not acknowledged."""

    def read(self, url: str, first: bytes, end: bytes, timeout: float) -> dict[bytes, bytes]:
        """The keys from ``first`` up to ``end``, linearizable."""


class Recorder:
    """Some clients, each in a thread of its own, that read and write a few keys through all endpoints in turn.

    No client asks again: what got no answer is taken down as such. Every value is written once only. When a key has
    had ``longest`` operations the clients go on with a fresh one, because the search grows with a key's history.
    """

    def __init__(
        self,
        register: Register,
        endpoints: Callable[[], Sequence[str]],
        *,
        clients: int = 4,
        keys: int = 2,
        longest: int = 400,
        timeout: float = 1.0,
        pause: float = 0.01,
        seed: int = 1,
    ) -> None:
        self.history: list[Operation] = []
        self.errors = 0
        self._register, self._endpoints = register, endpoints
        self._keys, self._longest, self._timeout, self._pause = keys, longest, timeout, pause
        self._begun: dict[int, int] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._values = itertools.count()
        dice = [random.Random(seed * 1000 + client) for client in range(clients)]  # noqa: S311 — no secrets
        self._threads = [
            threading.Thread(target=self._run, args=(client, dice[client]), daemon=True)
            for client in range(clients)
        ]

    def start(self) -> None:
        """Let the clients begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Operation]:
        """The history, when the last operation has come to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.history

    def _run(self, client: int, dice: random.Random) -> None:
        while not self._stop.is_set():
            urls = self._endpoints()
            self._operate(client, dice.choice(urls), self._key(dice), write=dice.random() < 0.5)
            self._stop.wait(self._pause * dice.random())

    def _key(self, dice: random.Random) -> str:
        which = dice.randrange(self._keys)
        with self._lock:
            self._begun[which] = self._begun.get(which, 0) + 1
            return f"/register/{which}-{self._begun[which] // self._longest:04d}"

    def _operate(self, client: int, url: str, key: str, *, write: bool) -> None:
        name, value = key.encode(), None
        begun = time.monotonic()
        try:
            if write:
                value = str(next(self._values))
                self._register.put(url, name, value.encode(), self._timeout)
            else:
                found = self._register.read(url, name, name + b"\0", self._timeout).get(name)
                value = found.decode() if found is not None else None
            ended = time.monotonic()
        except NoAnswerError:
            ended = NEVER
        with self._lock:
            self.errors += ended == NEVER
            if write or ended < NEVER:
                self.history.append(Operation(key, write, value, begun, ended, client))
