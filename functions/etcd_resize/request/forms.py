"""One parser a form: the value, or ValueError with the rest of the sentence."""

from __future__ import annotations

import base64
import ipaddress
import re
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from etcd_resize.errors import quoted
from etcd_resize.model.machine import Release

LARGEST_PORT = 65_535
BASE_USER_DATA_LIMIT = 65_536
"""Bytes of the user's own UserData, unpacked: more than EC2 takes, and little enough to be read in no time."""
_GZIP = b"\x1f\x8b"

Parser: TypeAlias = Callable[[Any], Any]

clip = partial(quoted, limit=32)
"""What was given, as a sentence quotes it."""


def matching(pattern: str, form: str) -> Parser:
    """A text that ``pattern`` matches whole; ``form`` says in words what that is."""
    compiled = re.compile(pattern)

    def parse_text(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"is not {form}")
        return value

    return parse_text


def whole_number(low: int, high: int) -> Parser:
    """A number from ``low`` to ``high``, both included."""

    def parse_number(value: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", str(value)) or not low <= int(value) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(value)

    return parse_number


def boolean(value: Any) -> bool:
    """What YAML's true and false arrive as."""
    if value not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return bool(value == "true")


def on_or_off(value: Any) -> bool:
    """A switch, as a parameter of the stack has it."""
    if value not in ("on", "off"):
        raise ValueError("is neither on nor off")
    return bool(value == "on")


def address(value: Any) -> str:
    """An IPv4 address."""
    try:
        return str(ipaddress.IPv4Address(value))
    except ipaddress.AddressValueError as problem:
        raise ValueError("is not an IPv4 address") from problem


def one_of(*choices: str) -> Parser:
    """A text that is one of ``choices``."""

    def parse_choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return str(value)

    return parse_choice


def client_urls(value: Any) -> tuple[str, ...]:
    """Client URLs between commas, each once; none is right too."""
    urls = [url.strip() for url in value.split(",")] if isinstance(value, str) else None
    if urls is None:
        raise ValueError("is not a comma separated list")
    for url in filter(None, urls):
        _check_client_url(url)
    return tuple(dict.fromkeys(filter(None, urls)))


def some_client_urls(value: Any) -> tuple[str, ...]:
    """At least one of them."""
    urls = client_urls(value)
    if not urls:
        raise ValueError("names no endpoint")
    return urls


def _check_client_url(url: str) -> None:
    form = re.fullmatch(r"https?://[A-Za-z0-9.-]{1,253}:([0-9]{1,5})", url)
    if not form or not 0 < int(form[1]) <= LARGEST_PORT:
        raise ValueError("is not of the form https://host:2379,https://host:2379")


def member_id(value: Any) -> int:
    """A member's ID, as etcdctl shows it."""
    return int(matching(r"[0-9a-f]{1,16}", "a member ID in hexadecimal")(value), 16)


def release(value: Any) -> Release | None:
    """Where a release lies, with its sha256; None for an empty text."""
    form = re.fullmatch(r"(?:(https?://[!-~]{1,512})#sha256=([0-9a-f]{64}))?", str(value))
    if not form:
        raise ValueError("is not of the form https://host/etcd.tar.gz#sha256=<64 hexadecimal digits>")
    return Release(form[1], form[2]) if form[1] else None


def base_user_data(value: Any) -> bytes:
    """Base64, because a parameter of a stack keeps no line breaks; what is in it may be gzipped."""
    try:
        data = base64.b64decode(str(value), validate=True)
    except ValueError as problem:  # binascii.Error is one
        raise ValueError("is not base64") from problem
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(data, BASE_USER_DATA_LIMIT + 1)
    except zlib.error as problem:
        raise ValueError(f"is damaged gzip: {problem}") from problem
    if len(unpacked) > BASE_USER_DATA_LIMIT:
        raise ValueError(f"is over {BASE_USER_DATA_LIMIT} bytes when it is unpacked")
    if not unpacking.eof:
        raise ValueError("is damaged gzip: it ends too early")
    return unpacked


def password(value: Any) -> str:
    """Of any form: a secret that has changed meanwhile must not make a Delete one of nothing."""
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004 — the form that all parsers share
    return value
