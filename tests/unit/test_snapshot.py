"""A snapshot's bytes: a whole one passes as it is, any other is refused with what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from etcd_resize.errors import Refused, Retryable
from etcd_resize.snapshot import check_head, verified
from tests.support.snapshots import PAGE, snapshot


def head(data: bytes) -> None:
    check_head(lambda offset, length: data[offset : offset + length], len(data))


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 4096, 10**6])
def test_a_whole_snapshot_passes_as_it_is(size: int) -> None:
    assert b"".join(verified(chunks(snapshot(), size))) == snapshot()
    head(snapshot())


@pytest.mark.parametrize("size", [7, 4096])
@pytest.mark.parametrize("at", [0, 5000, -1])
def test_a_bit_that_fell_over_is_noticed_before_the_end(size: int, at: int) -> None:
    damaged = bytearray(snapshot())
    damaged[at] ^= 1
    with pytest.raises(Retryable, match="was damaged on its way"):
        list(verified(chunks(bytes(damaged), size)))


@pytest.mark.parametrize("kept", [0, 32, PAGE, 4 * PAGE])
def test_a_stream_that_breaks_off_is_noticed(kept: int) -> None:
    with pytest.raises(Retryable, match="broke off"):
        list(verified(chunks(snapshot()[:kept], 512)))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (snapshot()[:-1], "it is cut off"),
        (snapshot()[: 3 * PAGE + 32], "its database has 16384 bytes, the file 12288"),
        (b"", "it is cut off"),
        (b"\0" * (4 * PAGE + 32), "it is no snapshot of etcd"),
        (snapshot((b"users", b"orders")), "a database of another program"),
    ],
)
def test_a_foreign_or_a_short_file_is_refused_by_its_head(data: bytes, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        head(data)


def test_a_damaged_description_is_passed_over_for_the_other_one() -> None:
    damaged = bytearray(snapshot())
    damaged[20] ^= 1
    head(bytes(damaged))
    damaged[PAGE + 20] ^= 1
    with pytest.raises(Refused, match="it is no snapshot of etcd"):
        head(bytes(damaged))
