"""The checker itself: it takes what a register can have answered, and nothing else."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.connections import NoAnswerError
from tests.support.history import NEVER, Operation, Recorder, linearizable, violation


def write(value: str, begun: float, ended: float = NEVER, key: str = "k") -> Operation:
    return Operation(key, write=True, value=value, begun=begun, ended=ended)


def read(value: str | None, begun: float, ended: float, key: str = "k") -> Operation:
    return Operation(key, write=False, value=value, begun=begun, ended=ended)


GOOD = {
    "nothing": [],
    "a key that is not there": [read(None, 0, 1)],
    "one after the other": [write("a", 0, 1), read("a", 2, 3), write("b", 4, 5), read("b", 6, 7)],
    "a read at the same time sees the old value": [write("a", 0, 9), read(None, 1, 2), read("a", 10, 11)],
    "a read at the same time sees the new value": [write("a", 0, 9), read("a", 1, 2)],
    "two writes at the same time, in either order": [write("a", 0, 5), write("b", 0, 5), read("a", 6, 7)],
    "without an answer, and it happened": [write("a", 0), read(None, 1, 2), read("a", 3, 4)],
    "without an answer, and it never happened": [write("a", 0), read(None, 1, 2), read(None, 3, 4)],
    "without an answer, and it happened late": [
        write("a", 0),
        write("b", 1, 2),
        read("b", 3, 4),
        read("a", 5, 6),
    ],
    "a chain that only one order explains": [
        write("a", 0, 10),
        write("b", 0, 10),
        write("c", 0, 10),
        read("c", 1, 3),
        read("a", 4, 6),
        read("b", 7, 9),
        read("b", 11, 12),
    ],
}
BAD = {
    "a stale read": [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
    "a lost write": [write("a", 0, 1), read(None, 2, 3)],
    "a value from nowhere": [write("a", 0, 1), read("x", 2, 3)],
    "a value before it was written": [read("a", 0, 1), write("a", 2, 3)],
    "there and back again": [write("a", 0, 1), write("b", 0, 9), read("b", 2, 3), read("a", 4, 5)],
    "two readers see two orders": [
        write("a", 0, 1),
        write("b", 0, 1),
        read("a", 2, 3),
        read("b", 4, 5),
    ],
    "seen, then gone": [write("a", 0), read("a", 1, 2), read(None, 3, 4)],
    "without an answer, and it happened twice": [
        write("a", 0),
        read("a", 1, 2),
        write("b", 3, 4),
        read("b", 5, 6),
        read("a", 7, 8),
    ],
    "without an answer, and seen before it began": [read("a", 0, 1), write("a", 2)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_takes_a_good_history(history: list[Operation]) -> None:
    assert linearizable(history)
    assert violation(history) == []


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_catches_a_bad_history(history: list[Operation]) -> None:
    assert not linearizable(history)
    assert violation(history)


def test_keys_are_independent() -> None:
    one, other = [write("a", 0, 1, "k"), read("a", 2, 3, "k")], [read(None, 4, 5, "l")]
    assert violation(one + other) == []
    assert {operation.key for operation in violation([*one, *other, read("a", 6, 7, "l")])} == {"l"}


def test_shows_the_shortest_beginning_that_is_wrong() -> None:
    later = [read("b", 10 + number, 10.5 + number) for number in range(50)]
    found = violation([*BAD["a stale read"], write("b", 6, 7), *later])
    assert [operation.value for operation in found] == ["a", "b", "a"]


# --- against an oracle that tries every order ----------------------------------------------------------


def oracle(operations: Sequence[Operation]) -> bool:
    """Every set of unanswered writes that happened, in every order: slow, and plainly right."""
    answered = [operation for operation in operations if operation.ended < NEVER]
    unanswered = [operation for operation in operations if operation.ended == NEVER]
    return any(
        _explains(order)
        for size in range(len(unanswered) + 1)
        for happened in itertools.combinations(unanswered, size)
        for order in itertools.permutations([*answered, *happened])
    )


def _explains(order: Sequence[Operation]) -> bool:
    if any(later.ended < earlier.begun for earlier, later in itertools.combinations(order, 2)):
        return False
    value = None
    for operation in order:
        if operation.write:
            value = operation.value
        elif operation.value != value:
            return False
    return True


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        begun = draw(st.integers(0, 8))
        ended: float = begun + draw(st.integers(0, 6))
        if draw(st.booleans()):
            ended = draw(st.sampled_from([ended, ended, NEVER]))
            made.append(write(draw(st.sampled_from([str(number), "0"])), begun, ended))
        else:
            made.append(read(draw(st.sampled_from([None, "0", "1", "2", "3"])), begun, ended))
    return made


@given(histories())
@settings(max_examples=1500, deadline=None)
def test_says_what_the_oracle_says(history: list[Operation]) -> None:
    assert linearizable(history) == oracle(history)


# --- the recorder, on a register in memory -------------------------------------------------------------


class Memory:
    """A register. ``stale``: one read in so many gives what was there before."""

    def __init__(self, stale: int = 0) -> None:
        self.values: dict[bytes, list[bytes]] = {}
        self.lock, self.reads, self.stale, self.writes = threading.Lock(), 0, stale, 0

    def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
        with self.lock:
            self.writes += 1
            if self.writes % 10 != 5:
                self.values.setdefault(key, []).append(value)
            if self.writes % 5 == 0:
                raise NoAnswerError("whether or not")

    def read(self, url: str, first: bytes, end: bytes, timeout: float) -> dict[bytes, bytes]:
        with self.lock:
            self.reads += 1
            written = self.values.get(first, [])
            old = self.stale and self.reads % self.stale == 0 and len(written) > 1
            return {first: written[-2 if old else -1]} if written else {}


@pytest.mark.parametrize("stale", [0, 50])
def test_a_recorded_history(stale: int) -> None:
    recorder = Recorder(Memory(stale), lambda: ["one"], clients=3, longest=100, pause=0.002, seed=7)
    recorder.start()
    while len(recorder.history) < 1500:
        threading.Event().wait(0.01)
    history = recorder.stop()
    assert recorder.errors > 50
    assert bool(violation(history)) == bool(stale)


def test_a_long_history_is_searched_in_time() -> None:
    dice, value = random.Random(3), None  # noqa: S311 — no secret
    history: list[Operation] = []
    for number in range(1000):  # it takes effect at `number`, for certain
        begun, ended = number - 3 * dice.random(), number + 3 * dice.random()
        if dice.random() < 0.5:
            value = str(number)
            history.append(write(value, begun, ended if dice.random() < 0.9 else NEVER))
        else:
            history.append(read(value, begun, ended))
        if dice.random() < 0.05:
            history.append(write(f"never {number}", begun))
    assert violation(history) == []
    reads = [place for place, one in enumerate(history) if not one.write]
    late = reads[-5]
    history[late] = replace(history[late], value=history[reads[10]].value)
    assert violation(history)
