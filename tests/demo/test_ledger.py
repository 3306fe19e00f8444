"""The writer's account: percentiles, gaps, stretches, and what becomes of a write without any etcd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.connections import NoAnswerError
from playground.writer import Figures, Keys, Ledger, Timing, Writer, percentile, read_back
from tests.support.waiting import wait_until

KEYS = Keys("test")


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.99, 0.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 102)], 0.99, 100.0),
        ([float(number) for number in range(1, 101)], 1.0, 100.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_at_least_its_share_of_the_values_does_not_exceed_a_percentile(
    values: list[float], share: float
) -> None:
    found = percentile(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_figures_of_no_writes_are_zeros() -> None:
    assert Ledger().figures() == Figures()


def test_the_figures_tell_latencies_and_the_longest_gap_in_milliseconds() -> None:
    ledger = Ledger()
    ledger.acknowledge(0, 10.000, 10.002, retried=False)
    ledger.acknowledge(1, 10.004, 10.104, retried=True)
    ledger.acknowledge(2, 10.106, 10.109, retried=False)
    ledger.fail(KEYS.key(3), "nobody")
    found = ledger.figures()
    assert (found.acked, found.failed, found.retried) == (3, 1, 1)
    assert found.p50_ms == pytest.approx(3.0)
    assert found.max_ms == pytest.approx(100.0)
    assert found.p99_ms == pytest.approx(100.0)
    assert found.longest_gap_ms == pytest.approx(102.0)
    assert ledger.slowest_ms == pytest.approx(100.0)


def test_a_stretch_counts_its_own_writes_and_the_gap_it_began_with() -> None:
    ledger = Ledger()
    ledger.acknowledge(0, 0.0, 1.0, retried=True)
    ledger.fail(KEYS.key(1), "nobody")
    mark = ledger.mark()
    ledger.acknowledge(2, 3.0, 3.5, retried=False)
    ledger.acknowledge(3, 3.6, 3.7, retried=False)
    found = ledger.figures(mark)
    assert (found.acked, found.failed, found.retried) == (2, 0, 0)
    assert found.max_ms == pytest.approx(500.0)
    assert found.longest_gap_ms == pytest.approx(2500.0)


def test_stretches_count_together_without_what_lies_between_them() -> None:
    ledger, marks = Ledger(), []
    for number, (begun, ended) in enumerate(((0.0, 0.2), (0.2, 1.2), (1.2, 9.2), (9.3, 9.4))):
        marks.append(ledger.mark())
        ledger.acknowledge(number, begun, ended, retried=number == 2)
    stretches = [(marks[0], marks[2]), (marks[3], ledger.mark())]
    found = ledger.together(stretches)
    assert (found.acked, found.retried) == (3, 0)
    assert found.max_ms == pytest.approx(1000.0)
    assert found.longest_gap_ms == pytest.approx(1000.0)
    assert [ledger.slower(500, *stretch) for stretch in stretches] == [1, 0]


def test_keys_sort_as_their_numbers_and_lie_in_their_range() -> None:
    first, end = KEYS.range
    keys = [KEYS.key(number) for number in (0, 1, 999, 1000, 999_999_999)]
    assert keys == sorted(keys)
    assert all(first <= key < end for key in keys)
    assert not first <= Keys("test2").key(0) < end
    assert len({KEYS.value(number) for number in range(1000)}) == 1000


class Answers:
    """Endpoints that answer as they are told; time passes only when one of them is asked."""

    def __init__(self, silent: set[str], cost: float = 0.1) -> None:
        self.silent = silent
        self.asked: list[str] = []
        self.now = 0.0
        self._cost = cost

    def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
        self.asked.append(url)
        if url in self.silent:
            self.now += timeout
            raise NoAnswerError("silent")
        self.now += self._cost


def writer(answers: Answers, urls: list[str]) -> Writer:
    return Writer(answers, lambda: urls, KEYS, timing=Timing(breath=0), clock=lambda: answers.now)


def test_writes_go_through_all_endpoints_in_turn() -> None:
    answers = Answers(silent=set())
    under_test = writer(answers, ["a", "b", "c"])
    for number in range(6):
        under_test.write(number)
    assert sorted(answers.asked[:3]) == sorted(answers.asked[3:]) == ["a", "b", "c"]
    assert under_test.ledger.figures().retried == 0


def test_another_endpoint_takes_over_and_the_silent_one_is_left_alone_for_a_while() -> None:
    answers = Answers(silent={"b"})
    under_test = writer(answers, ["a", "b", "c"])
    for number in range(9):
        under_test.write(number)
    assert answers.asked.count("b") == 1
    found = under_test.ledger.figures()
    assert (found.acked, found.failed, found.retried) == (9, 0, 1)
    assert found.max_ms == pytest.approx(1100)
    assert under_test.ledger.errors == {"b: silent": 1}


def test_a_write_fails_when_nobody_acknowledges_it_within_the_patience() -> None:
    answers = Answers(silent={"a", "b"})
    under_test = writer(answers, ["a", "b"])
    under_test.write(0)
    assert answers.now == pytest.approx(5.0)
    assert under_test.ledger.figures() == Figures(failed=1)
    assert under_test.ledger.failures[0].startswith("/demo/test/000000000: ")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_breaks_is_a_failure() -> None:
    class Broken(Answers):
        def put(self, url: str, key: bytes, value: bytes, timeout: float) -> None:
            raise ValueError("a mistake")

    under_test = Writer(Broken(silent=set()), lambda: ["a"], KEYS)
    under_test.start()
    wait_until(lambda: bool(under_test.ledger.failures), "the broken writer is in the ledger")
    under_test.stop()
    assert "ended: ValueError('a mistake')" in under_test.ledger.failures[0]


class Store:
    """Endpoints with keys in them; those that are down do not answer."""

    def __init__(self, keys: dict[bytes, bytes], down: set[str]) -> None:
        self.keys = keys
        self.down = down

    def read(self, url: str, first: bytes, end: bytes, timeout: float) -> dict[bytes, bytes]:
        if url in self.down:
            raise NoAnswerError("down")
        return {key: value for key, value in self.keys.items() if first <= key < end}

    def count(self, url: str, first: bytes, end: bytes, timeout: float) -> int:
        return len(self.read(url, first, end, timeout))


def test_a_key_is_lost_when_it_is_absent_or_has_another_value() -> None:
    numbers = [0, 1, 999, 1000, 2500]
    store = Store({KEYS.key(number): KEYS.value(number) for number in numbers}, down={"a"})
    assert read_back(store, ["a", "b"], KEYS, numbers) == []
    del store.keys[KEYS.key(1000)]
    store.keys[KEYS.key(1)] = b"of someone else"
    assert read_back(store, ["a", "b"], KEYS, numbers) == [1, 1000]


@pytest.mark.parametrize(("urls", "said"), [(["a"], "a: down"), ([], "there is no endpoint")])
def test_reading_back_says_so_when_nobody_answers(urls: list[str], said: str) -> None:
    with pytest.raises(NoAnswerError, match=said):
        read_back(Store({}, down={"a"}), urls, KEYS, [1])
