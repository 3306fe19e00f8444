"""UserData: one ``MemberSpec``, one renderer a dialect.

A dialect is a module here, with two functions that make a document's bytes, ``render`` and ``fetching``, and a row in
``RENDERERS``, which says what its reader can do. It builds data and dumps it; it never pastes strings together.

The module is loaded for its first document, by ``Renderer``: yaml and MIME take a tenth of a cold start, and most
events make no document.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import MemberSpec

USER_DATA_LIMIT = 16_384
"""Bytes of UserData before base64 (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html)."""


class Dialect(Protocol):
    """What the module of a dialect has. Both raise InvalidRequest for what the dialect cannot serve."""

    def render(self, spec: MemberSpec, base: bytes) -> bytes:
        """The document of ``spec``, and of the user's own one in the same dialect, which may be empty."""

    def fetching(self, url: str, sha256: str) -> bytes:
        """A document by which a machine fetches another one, verifies its sha256 (in hexadecimal), and then uses it."""


@dataclass(frozen=True)
class Renderer:
    """What is known of a dialect before its ``module`` here is loaded.

    ``reads_gzip`` says whether the dialect's reader unpacks gzip, ``asks_with_token`` whether it reads UserData from a
    machine that wants a token for it (IMDSv2), ``brings_bundle`` whether the machine fetches its key and certificates,
    ``restores`` whether it can start from a snapshot.
    """

    module: str
    reads_gzip: bool
    asks_with_token: bool = True
    brings_bundle: bool = False
    restores: bool = False

    @property
    def dialect(self) -> Dialect:
        """The module, loaded."""
        return cast("Dialect", import_module(f"{__name__}.{self.module}"))


class TooLarge(InvalidRequest):
    """A document that neither fits as it is nor gzipped."""


RENDERERS: dict[str, Renderer] = {
    "cloud-init": Renderer("cloud_init", reads_gzip=True, brings_bundle=True, restores=True),
    "coreos-cloudinit": Renderer("coreos_cloudinit", reads_gzip=True, asks_with_token=False),
    "ignition": Renderer("ignition", reads_gzip=False),
}


def render(dialect: str, spec: MemberSpec, base: bytes) -> bytes:
    """The whole document of ``spec`` and the user's own one. Raises InvalidRequest."""
    renderer = _renderer(dialect)
    if spec.bundle and not renderer.brings_bundle:
        able = " or ".join(name for name, one in RENDERERS.items() if one.brings_bundle)
        raise InvalidRequest(
            f"a machine of the dialect {dialect} cannot fetch certificates: set Tls=off, or take the dialect {able}"
        )
    if spec.restoration and not renderer.restores:
        able = " or ".join(name for name, one in RENDERERS.items() if one.restores)
        raise InvalidRequest(
            f"a machine of the dialect {dialect} cannot restore a snapshot: leave RestoreFrom empty, or take the"
            f" dialect {able}"
        )
    return renderer.dialect.render(spec, base)


def fetching(dialect: str, url: str, document: bytes) -> bytes:
    """A short document in whose place the machine takes ``document``, from ``url``."""
    return _renderer(dialect).dialect.fetching(url, hashlib.sha256(document).hexdigest())


def encode(dialect: str, document: bytes, room: int) -> str:
    """``document`` in base64, gzipped if it would otherwise take more than ``room`` bytes and the dialect reads gzip.

    Raises TooLarge if it is over EC2's limit, or does not fit in ``room``; the sentence gives the sizes.
    """
    forms = [document]
    if _renderer(dialect).reads_gzip:
        # mtime=0: the same document gives the same bytes, or an Update would look like a change
        forms.append(gzip.compress(document, mtime=0))
    fitting = [form for form in forms if len(form) <= USER_DATA_LIMIT and _base64_length(form) <= room]
    if not fitting:
        smallest = min(forms, key=len)
        raise TooLarge(
            f"{len(smallest)} bytes at the least, EC2 takes {USER_DATA_LIMIT};"
            f" {_base64_length(smallest)} in base64, the answer has room for {max(room, 0)}"
        )
    return base64.b64encode(fitting[0]).decode()


def http_tokens(dialect: str) -> str:
    """``required``, or ``optional`` where the dialect's reader is older than EC2's tokens (``MetadataOptions``)."""
    return "required" if _renderer(dialect).asks_with_token else "optional"


def _renderer(dialect: str) -> Renderer:
    if dialect not in RENDERERS:
        raise InvalidRequest(f"Dialect {dialect!r} is none of {', '.join(RENDERERS)}")
    return RENDERERS[dialect]


def _base64_length(form: bytes) -> int:
    return (len(form) + 2) // 3 * 4
