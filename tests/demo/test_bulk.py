"""Many keys at once on real etcd, and the sum over what a cluster holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from playground.bulk import PAGE, TRANSACTION, WRITERS, Load, batches, contents, everything
from playground.connections import Connections, NoAnswerError
from playground.writer import Keys, read_back
from tests.support.etcd import HandMade

PAIRS = [(b"a", b"1"), (b"ab", b"2")]


@pytest.mark.parametrize(
    "other",
    [
        [],
        PAIRS[:1],
        PAIRS[::-1],
        [(b"a", b"2"), (b"ab", b"1")],
        [(b"a", b"1a"), (b"b", b"2")],  # the same bytes, cut elsewhere
        [(b"a1", b""), (b"ab", b"2")],
        [*PAIRS, (b"b", b"")],
    ],
)
def test_contents_are_alike_only_if_every_key_and_value_is(other: list[tuple[bytes, bytes]]) -> None:
    assert contents(PAIRS) == contents(iter(PAIRS))
    assert contents(PAIRS) != contents(other)
    assert contents(PAIRS).sha256 != contents(other).sha256


def test_every_number_is_in_one_transaction() -> None:
    found = batches(range(5, 5 + 2 * TRANSACTION + 1))
    assert [len(batch) for batch in found] == [TRANSACTION, TRANSACTION, 1]
    assert [number for batch in found for number in batch] == list(range(5, 5 + 2 * TRANSACTION + 1))


@pytest.mark.integration
def test_what_was_loaded_is_read_back_over_pages_without_what_is_left_out(
    hand_made: Callable[[int], HandMade], connections: Connections
) -> None:
    urls = hand_made(1).endpoints
    keys, numbers = Keys("bulk"), range(PAGE + 1)
    load = Load(keys)
    load.write(connections, ["http://127.0.0.1:1", *urls], numbers)  # nobody is at the first one
    assert load.written == len(numbers)
    connections.put(urls[0], b"/other", b"of someone else", 5)
    told: list[int] = []
    read = contents(everything(connections, urls, but=[b"/other"], tell=told.append))
    assert read == contents((keys.key(number), keys.value(number)) for number in numbers)
    assert told == [PAGE, PAGE + 2]
    assert read_back(connections, urls, keys, numbers) == []
    assert connections.revision(urls[0], 5) == 1 + len(batches(numbers)) + 1  # one a transaction


def test_a_load_that_nobody_takes_ends_at_once_and_says_so() -> None:
    asked: list[str] = []

    class Nobody:
        def put_all(self, url: str, _pairs: object, _timeout: float) -> None:
            asked.append(url)
            raise NoAnswerError(f"nobody at {url}")

        def read(self, *_: object) -> dict[bytes, bytes]:
            raise NotImplementedError

    load = Load(Keys("none"))
    with pytest.raises(NoAnswerError, match="nobody at u"):
        load.write(Nobody(), ["u"], range(10_000 * TRANSACTION))
    assert load.written == 0
    assert asked == ["u"] * len(asked)
    assert len(asked) <= WRITERS
