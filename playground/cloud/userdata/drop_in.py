"""A drop-in of systemd as a process machine follows it. Strict: a setting that it does not know is an error."""

from __future__ import annotations

import dataclasses
import platform
import re
import shlex

from playground.cloud.userdata.configuration import InvalidUserData

ENVIRONMENT = ("Service", "Environment")
UNSET = ("Service", "UnsetEnvironment")
WANTS = ("Unit", "Wants")
FIRST = ("Service", "ExecStartPre")
SETTINGS = {
    ("Unit", "StartLimitIntervalSec"): "0",
    ("Service", "Restart"): "on-failure",
    ("Service", "RestartSec"): "1",
    ("Service", "TimeoutStartSec"): "infinity",
}
"""The settings of a unit that a process machine follows, and their only values that it knows."""
ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "arm64"}
"""What systemd puts in for %a, by what the kernel says; the only specifier that a process machine knows."""
_SPECIFIERS = {"%": "%", "a": ARCHITECTURES.get(platform.machine(), platform.machine())}


@dataclasses.dataclass(frozen=True)
class DropIn:
    """What a drop-in gives etcd's unit."""

    environment: dict[str, str]
    """Variables, by name."""
    before: tuple[tuple[str, ...], ...]
    """The commands that root runs before each start."""
    wanted: tuple[str, ...]
    """The units that are started with it."""


def read(path: str, content: str) -> DropIn:
    """Read a drop-in. Raises InvalidUserData, which names `path`."""
    environment: dict[str, str] = {}
    wanted: list[str] = []
    before: list[tuple[str, ...]] = []
    unset: list[str] = []
    section = ""
    for line in content.splitlines():
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text.startswith("["):
            section = text.strip("[]")
            continue
        key, _, value = text.partition("=")
        if (section, key) == ENVIRONMENT:
            environment |= _assignments(path, value)
        elif (section, key) == UNSET:
            unset += value.split()
        elif (section, key) == WANTS:
            wanted += value.split()
        elif (section, key) == FIRST and value.startswith("+/"):
            before.append(command(path, value[1:]))
        elif (section, key) not in SETTINGS:
            raise InvalidUserData(f"{path} has an unknown key: [{section}] {key}")
        elif SETTINGS[section, key] != value:
            raise InvalidUserData(f"{path} has an unknown value: [{section}] {text}")
    kept = {name: value for name, value in environment.items() if name not in unset}
    return DropIn(kept, tuple(before), tuple(wanted))


def command(path: str, value: str) -> tuple[str, ...]:
    """The words of a command line, in which a dollar stands for itself only when it is doubled."""
    return tuple(_words(path, value.replace("$$", "$")))


def _words(path: str, value: str) -> list[str]:
    """The words of a line, quoted as systemd.exec(5) has it."""
    if re.search("%", re.sub("%[%a]", "", value)):
        raise InvalidUserData(f"{path} has a specifier that a process machine does not expand: {value}")
    return [re.sub("%([%a])", lambda found: _SPECIFIERS[found[1]], word) for word in shlex.split(value)]


def _assignments(path: str, value: str) -> dict[str, str]:
    """The assignments of one Environment= line."""
    pairs = [word.partition("=") for word in _words(path, value)]
    if any(not equals for _, equals, _ in pairs):
        raise InvalidUserData(f"{path} has a word that assigns nothing: {value}")
    return {name: text for name, _, text in pairs}
