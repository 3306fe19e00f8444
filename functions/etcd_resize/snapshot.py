"""What a snapshot of etcd is made of, and whether one is whole. PURE: bytes in, a verdict out.

A snapshot is etcd's database, a bolt file, and the sha256 of it behind that (``Maintenance.Snapshot`` of etcd's
rpc.proto). A bolt file starts with two pages that describe it and take turns, each with a checksum of its own
(https://github.com/etcd-io/bbolt, ``db.go`` and ``page.go``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator

from etcd_resize.errors import Refused, Retryable

DIGEST_BYTES = hashlib.sha256().digest_size
HEAD_BYTES = 2 * 65_536
"""Where both describing pages lie, however large the machine's pages are: Linux has 4 to 64 KiB."""
_MAGIC, _VERSION = 0xED0CDAED, 2
_META = struct.Struct("<IIIIQQQQQQ")
"""magic, version, page size, flags, root page, root sequence, freelist, high water mark, transaction, checksum."""
_PAGE = struct.Struct("<QHHI")
"""Number, flags, count, overflow."""
_LEAF_FLAG = 0x02
_ELEMENT = struct.Struct("<IIII")
"""Flags, position from the element itself, length of the key, length of the value."""
_SECTOR = 512
_BUCKETS = {b"key", b"meta", b"members", b"cluster"}
"""Buckets that every database of etcd 3 has (``server/mvcc/buckets``)."""

Read = Callable[[int, int], bytes]
"""Some bytes of a file: from an offset, as many; fewer at its end."""


def verified(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as they come. Raises Retryable behind the last one if their sha256 is not the one they end with."""
    digest, held, size = hashlib.sha256(), b"", 0
    for chunk in chunks:
        size += len(chunk)
        held += chunk
        digest.update(held[:-DIGEST_BYTES])
        held = held[-DIGEST_BYTES:]
        yield chunk
    if size % _SECTOR != DIGEST_BYTES or held != digest.digest():
        raise Retryable(f"the snapshot broke off or was damaged on its way: {size} bytes, of another sha256")


def check_head(read: Read, size: int) -> None:
    """Refuse a file of ``size`` bytes that is no database of etcd with its sha256 behind it; ``read`` reads it.

    Some small reads: what is in the middle of the file, only ``verified`` sees.
    """
    if size % _SECTOR != DIGEST_BYTES:
        raise Refused(f"it has {size} bytes, which no snapshot with a sha256 behind it has: it is cut off")
    found = _newest_meta(read(0, HEAD_BYTES))
    if found is None:
        raise Refused("it does not start as etcd's database does: it is no snapshot of etcd")
    page_size, root, pages = found
    if pages * page_size > size - DIGEST_BYTES:
        raise Refused(
            f"its database has {pages * page_size} bytes, the file {size - DIGEST_BYTES}: it is cut off"
        )
    missing = _BUCKETS - set(_keys(read(root * page_size, page_size)))
    if missing:
        raise Refused("it is a database of another program: it has no buckets of etcd's")


def _newest_meta(head: bytes) -> tuple[int, int, int] | None:
    """Page size, root page and number of pages, by the valid one of the two descriptions with the last transaction."""
    found = []
    for start in (0, *(1 << power for power in range(12, 17))):
        page = head[start + _PAGE.size : start + _PAGE.size + _META.size]
        if len(page) < _META.size:
            continue
        magic, version, page_size, _, root, _, _, pages, transaction, checksum = _META.unpack(page)
        valid = (magic, version) == (_MAGIC, _VERSION) and _fnv1a(page[:-8]) == checksum
        if valid and page_size and start in {0, page_size}:
            found.append((transaction, (page_size, root, pages)))
    return max(found)[1] if found else None


def _keys(page: bytes) -> Iterator[bytes]:
    """The keys of a leaf; nothing if the page is none."""
    if len(page) < _PAGE.size:
        return
    _, flags, count, _ = _PAGE.unpack_from(page)
    if flags != _LEAF_FLAG:
        return
    for at in range(_PAGE.size, _PAGE.size + count * _ELEMENT.size, _ELEMENT.size):
        if at + _ELEMENT.size > len(page):
            return
        _, position, length, _ = _ELEMENT.unpack_from(page, at)
        yield page[at + position : at + position + length]


def _fnv1a(data: bytes) -> int:
    """The 64 bit hash by which bolt checks a description."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
