"""What a process machine reads in its UserData: the documents that this project writes, and nothing else.

Strict on purpose: a key that this reader does not know is an error, never skipped, so a test on process machines cannot
pass with a UserData that a real machine would take differently. It decides nothing about etcd.
"""

from __future__ import annotations

import email
import gzip
import json
import runpy

from playground.cloud.userdata import cloud_config, flatcar
from playground.cloud.userdata.configuration import Configuration, InvalidUserData
from playground.tools import ROOT

_PROGRAMS = runpy.run_path(str(ROOT / "functions/etcd_resize/userdata/on_machine/__init__.py"))
"""Not imported: where this runs, what ships is not on the path."""
FETCHER: str = _PROGRAMS["program"]("fetch_user_data.py")
"""The part handler of a UserData that fetches the real one: a process machine does what it does, and knows no other."""
FETCHING = ["text/part-handler", "text/x-etcd-resize"]

__all__ = ["Configuration", "InvalidUserData", "fetches", "read"]


def fetches(data: bytes) -> tuple[str, str] | None:
    """From where a UserData fetches the real one, and the sha256 of that; None if it is the real one itself.

    Raises InvalidUserData for a multi-part document of any other kind.
    """
    text = _text(data)
    if not text.startswith("MIME-Version:"):
        return None
    parts = [part for part in email.message_from_string(text).walk() if not part.is_multipart()]
    if [part.get_content_type() for part in parts] != FETCHING:
        raise InvalidUserData("it is multi-part, and not one that fetches another")
    handler, order = (str(part.get_payload()).strip() for part in parts)
    if handler != FETCHER.strip():
        raise InvalidUserData("its part handler is not this project's")
    try:
        found = {name: str(value) for name, value in json.loads(order).items()}
    except (ValueError, AttributeError) as error:
        raise InvalidUserData(f"it fetches nothing: {error}") from error
    if set(found) != {"url", "sha256"}:
        raise InvalidUserData(f"it fetches by {', '.join(sorted(found))}, and not by url and sha256")
    return found["url"], found["sha256"]


def read(data: bytes) -> Configuration:
    """Read a UserData, gzipped or plain. Raises InvalidUserData."""
    text = _text(data)
    return flatcar.read(text) if text.startswith("{") else cloud_config.read(text)


def _text(data: bytes) -> str:
    try:
        return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidUserData(f"neither text nor gzipped text: {error}") from error
