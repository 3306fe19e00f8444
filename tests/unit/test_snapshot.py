"""A snapshot's bytes: a whole one passes as it is, any other is refused with what is wrong with it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

import pytest

from etcd_resize.errors import Refused, Retryable
from etcd_resize.snapshot import check_head, verified

PAGE = 4096


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def meta(number: int, transaction: int, root: int, pages: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, pages, transaction)
    page = struct.pack("<QHHI", number, 0x04, 0, 0) + body + struct.pack("<Q", fnv1a(body))
    return page.ljust(PAGE, b"\0")


def leaf(number: int, keys: list[bytes]) -> bytes:
    """A page of buckets, as bolt writes it: the elements, then the keys one behind the other."""
    head = struct.pack("<QHHI", number, 0x02, len(keys), 0)
    elements, names = b"", b""
    for place, key in enumerate(keys):
        position = (len(keys) - place) * 16 + len(names)
        elements += struct.pack("<IIII", 1, position, len(key), 0)
        names += key
    return (head + elements + names).ljust(PAGE, b"\0")


def snapshot(buckets: tuple[bytes, ...] = (b"alarm", b"cluster", b"key", b"members", b"meta")) -> bytes:
    """A database of four pages whose second description is the newer one, with its sha256."""
    old, new = meta(0, 1, root=2, pages=4), meta(1, 2, root=3, pages=4)
    database = old + new + leaf(2, []) + leaf(3, list(buckets))
    return database + hashlib.sha256(database).digest()


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
