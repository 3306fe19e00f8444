"""What a UserData asks for, whatever it is written in."""

from __future__ import annotations

import dataclasses


class InvalidUserData(Exception):
    """The UserData has something in it that a process machine does not know. The message says what."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file that the first boot writes."""

    path: str
    content: str
    permissions: int


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a UserData asks for."""

    files: tuple[File, ...]
    environment: dict[str, str]
    """What etcd's unit gets, by name."""
    before: tuple[tuple[str, ...], ...] = ()
    """The commands that root runs before each start of etcd."""
    timers: tuple[tuple[float, tuple[str, ...]], ...] = ()
    """The commands that root runs again and again beside it, and the seconds in between."""


def known(mapping: object, keys: set[str], where: str) -> None:
    """Raise InvalidUserData if a mapping is none, or has other keys than these."""
    if not isinstance(mapping, dict):
        raise InvalidUserData(f"{where} is no mapping")
    if unknown := sorted(set(mapping) - keys):
        raise InvalidUserData(f"{where} has an unknown key: {', '.join(unknown)}")
