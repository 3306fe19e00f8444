"""A member's URLs: made of its address, and read again."""

from __future__ import annotations

from urllib.parse import urlsplit

PEER_PORT = 2380
CLIENT_PORT = 2379


def peer_url(address: str, *, tls: bool = False) -> str:
    """The URL under which the member at ``address`` talks to its peers."""
    return f"{scheme(tls=tls)}://{address}:{PEER_PORT}"


def client_url(address: str, *, tls: bool = False) -> str:
    """The URL under which the member at ``address`` serves clients."""
    return f"{scheme(tls=tls)}://{address}:{CLIENT_PORT}"


def scheme(*, tls: bool) -> str:
    """What a member's URLs begin with."""
    return "https" if tls else "http"


def is_tls(url: str) -> bool:
    """Whether a member's URL is one of TLS."""
    return url.startswith("https://")


def host_of(url: str) -> str:
    """The address, or the name, in a member's URL."""
    return urlsplit(url).hostname or ""


def peer_url_of(url: str) -> str:
    """The peer URL of the member of ours whose client URL is ``url``: the same host, the peers' port."""
    return peer_url(host_of(url), tls=is_tls(url))
