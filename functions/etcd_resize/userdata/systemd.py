"""systemd's side of every dialect: a drop-in that sets environment variables, quoted as systemd reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NEVER = (
    *("ETCD_DISCOVERY", "ETCD_DISCOVERY_ENDPOINTS", "ETCD_DISCOVERY_FALLBACK", "ETCD_DISCOVERY_PROXY"),
    *("ETCD_DISCOVERY_SRV", "ETCD_DISCOVERY_SRV_NAME", "ETCD_DISCOVERY_TOKEN"),
    *("ETCD_CONFIG_FILE", "ETCD_FORCE_NEW_CLUSTER", "ETCD_PROXY"),
)
"""What etcd must not find beside an initial cluster: it refuses two ways to bootstrap, a configuration file hides
every variable, a forced new cluster leaves the others, and a proxy is no member
(https://etcd.io/docs/v3.5/op-guide/configuration/)."""

_CONTROLS = {chr(code): f"\\x{code:02x}" for code in range(1, 32)}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", **_CONTROLS})
_UNIT = ("[Unit]", "StartLimitIntervalSec=0")
_RESTARTED = ("[Service]", "Restart=on-failure", "RestartSec=1")


def escaped(value: str) -> str:
    """The value as it stands between quotes in ``Environment=""``."""
    return value.translate(_ESCAPES)


def assignments(environment: Mapping[str, str]) -> list[str]:
    """One ``Environment=`` line a variable."""
    return [f'Environment="{name}={escaped(value)}"' for name, value in environment.items()]


def command(words: Sequence[str]) -> str:
    """The words as they stand in ``ExecStart=`` and its like: each between quotes, and no variable in them."""
    return " ".join(f'"{escaped(word).replace("$", "$$")}"' for word in words)


def drop_in(
    environment: Mapping[str, str],
    unset: Sequence[str] = (),
    before: Sequence[Sequence[str]] = (),
    wanted: Sequence[str] = (),
) -> str:
    """A drop-in that starts etcd again after a failure, with one ``Environment=`` line a variable.

    etcd exits with status 1 if it cannot reach its peers at its first start, and Debian's unit does not
    restart it for that (``Restart=on-abnormal``). A member that was removed exits with status 0, and stays down.

    Quoting follows systemd.syntax(7): backslash and quote escaped, ``%`` doubled because it starts a
    specifier, control characters written as escapes so that a value cannot become a line of its own.

    ``unset``: variables that etcd must not see, whoever sets them; systemd takes them out last. ``before``: commands
    that root runs before each start of etcd, which does not start if one of them fails. ``wanted``: units that systemd
    starts along with it.
    """
    taken_out = [f"UnsetEnvironment={' '.join(unset)}"] if unset else []
    first = [f"ExecStartPre=+{words[0]} {command(words[1:])}" for words in before]
    along = [f"Wants={' '.join(wanted)}"] if wanted else []
    return "\n".join([*_UNIT, *along, *_RESTARTED, *assignments(environment), *taken_out, *first, ""])
