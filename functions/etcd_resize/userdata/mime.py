"""cloud-init's multi-part UserData: several documents in one, each with a content type.

It is read as cloud-init reads it (``cloudinit/user_data.py``), and what it would mangle or skip is refused. Written
again, every document has the text that it had, line ends included.
"""

from __future__ import annotations

import base64
import email
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.generator import BytesGenerator
from email.message import Message

from etcd_resize.errors import InvalidRequest

CLOUD_CONFIG = "text/cloud-config"
SCRIPT = "text/x-shellscript"
BOOTHOOK = "text/cloud-boothook"
TYPES = (CLOUD_CONFIG, SCRIPT, f"{SCRIPT}-per-boot", f"{SCRIPT}-per-instance", f"{SCRIPT}-per-once", BOOTHOOK)
"""What a document may be. The others are fetched, made or patched on the machine, where nobody can check them."""

_UNTYPED = ("text/plain", "text/x-not-multipart", SCRIPT)
"""Types of which cloud-init believes the first line instead."""
_FIRST_LINES = (
    ("#!", SCRIPT),
    ("#cloud-boothook", BOOTHOOK),
    ("#include", "#include"),
    ("#part-handler", "#part-handler"),
    ("#cloud-config-archive", "#cloud-config-archive"),
    ("#cloud-config-jsonp", "#cloud-config-jsonp"),
    ("## template: jinja", "jinja template"),
)
_MARK, _MARKED = b"mime-version:", 4096
"""cloud-init takes for multi-part what has this mark in so many bytes."""
_KEPT = ("Content-Disposition", "Launch-Index", "Merge-Type", "X-Merge-Type")
"""The headers of a part that cloud-init heeds."""
_PLAIN = re.compile(r"[\t\n -~]*")


@dataclass(frozen=True)
class Part:
    """One document: its content type, its text, and headers that cloud-init heeds."""

    kind: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def read(base: bytes) -> list[Part]:
    """The documents in ``base``: several if it is multi-part, else itself. InvalidRequest for what cannot be kept."""
    try:
        text = base.decode()
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"BaseUserData is not UTF-8 at its byte {problem.start}") from problem
    kind = _kind(text)
    if not kind and _MARK in base[:_MARKED].lower():
        return list(_leaves(email.message_from_string(text)))
    return [Part(_allowed(kind, text), text)]


def _leaves(message: Message) -> Iterator[Part]:
    if not message.is_multipart():
        raise InvalidRequest("BaseUserData has a MIME-Version, but is not multi-part")
    for found in message.walk():
        multipart = found.get_content_maintype() == "multipart"
        if not multipart:
            headers = tuple((name, " ".join(str(found[name]).split())) for name in _KEPT if name in found)
            if strange := [name for name, value in headers if not value.isascii()]:
                raise InvalidRequest(
                    f"a part of BaseUserData has a {strange[0]} that is not ASCII: rename it"
                )
            kind, text = found.get_content_type(), _text(found)
            if kind in _UNTYPED:
                kind = _kind(text) or kind
            yield Part(_allowed(kind, text), text, headers)
        if found.defects:
            raise InvalidRequest(
                f"BaseUserData is damaged multi-part MIME: {type(found.defects[0]).__name__}, see the end of each part"
            )


def _text(leaf: Message) -> str:
    """What was written into the part: without an encoding cloud-init mangles all that is not ASCII, so one is given."""
    encoding = str(leaf.get("Content-Transfer-Encoding", "7bit")).strip().lower()
    if encoding in {"7bit", "8bit", "binary"}:
        return str(leaf.get_payload())
    payload = leaf.get_payload(decode=True)
    try:
        return payload.decode() if isinstance(payload, bytes) else ""
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"a part of BaseUserData ({leaf.get_content_type()}) is not UTF-8") from problem


def _kind(text: str) -> str:
    first = text.partition("\n")[0].rstrip()
    if first == "#cloud-config":
        return CLOUD_CONFIG
    return next((kind for start, kind in _FIRST_LINES if first.startswith(start)), "")


def _allowed(kind: str, text: str) -> str:
    if kind not in TYPES:
        what = (
            kind if kind and kind not in _UNTYPED else f"the first line {text.partition(chr(10))[0][:32]!r}"
        )
        raise InvalidRequest(
            f"BaseUserData has a document that cannot be merged, {what}: give #cloud-config, scripts (#!),"
            " #cloud-boothook, or several of these in multi-part MIME"
        )
    return kind


def write(parts: Sequence[Part]) -> bytes:
    """A multi-part document, ASCII; the same parts give the same bytes."""
    whole = "\0".join(part.text for part in parts)
    boundary = f"etcd-resize-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
    message = Message()
    message["MIME-Version"] = "1.0"
    message["Content-Type"] = f'multipart/mixed; boundary="{boundary}"'
    for part in parts:
        message.attach(_leaf(part))
    written = io.BytesIO()
    BytesGenerator(written, mangle_from_=False, maxheaderlen=0).flatten(message)
    return written.getvalue()


def _leaf(part: Part) -> Message:
    leaf = Message()
    leaf["Content-Type"] = part.kind
    for name, value in part.headers:
        leaf[name] = value
    if _PLAIN.fullmatch(part.text):
        leaf.set_payload(part.text)
    else:  # it may have other line ends, or be more than ASCII
        leaf["Content-Transfer-Encoding"] = "base64"
        leaf.set_payload(base64.encodebytes(part.text.encode()).decode())
    return leaf
