"""Snapshots as etcd sends them, byte by byte: a database of four pages, with its sha256 behind it."""

from __future__ import annotations

import hashlib
import struct

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
