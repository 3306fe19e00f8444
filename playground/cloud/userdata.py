"""What a process machine reads in its UserData: the cloud-config that this project writes, and nothing else.

Strict on purpose: a key that this reader does not know is an error, never skipped, so a test on process machines cannot
pass with a UserData that a real machine would take differently. It decides nothing about etcd.
"""

from __future__ import annotations

import dataclasses
import email
import gzip
import json
import platform
import re
import shlex
from typing import Any

import yaml

from playground.tools import ROOT

DOCUMENT_KEYS = {"package_update", "packages", "write_files"}
FILE_KEYS = {"path", "permissions", "owner", "content"}
DROP_IN = re.compile(r"/etc/systemd/system/etcd\.service\.d/[^/]+\.conf")
ENVIRONMENT = ("Service", "Environment")
UNSET = ("Service", "UnsetEnvironment")
WANTS = ("Unit", "Wants")
FIRST = ("Service", "ExecStartPre")
ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "arm64"}
"""What systemd puts in for %a, by what the kernel says; the only specifier that a process machine knows."""
UNIT_SETTINGS = {
    ("Unit", "StartLimitIntervalSec"): "0",
    ("Service", "Restart"): "on-failure",
    ("Service", "RestartSec"): "1",
    ("Service", "TimeoutStartSec"): "infinity",
}
"""The settings of a unit that a process machine follows, and their only values that it knows."""
SERVER_PACKAGE = "etcd-server"
FETCHER = ROOT / "functions/etcd_resize/userdata/on_machine/fetch_user_data.py"
"""The part handler of a UserData that fetches the real one: a process machine does what it does, and knows no other."""
FETCHING = ["text/part-handler", "text/x-etcd-resize"]
_SPECIFIERS = {"%": "%", "a": ARCHITECTURES.get(platform.machine(), platform.machine())}


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
    lines = FETCHER.read_text(encoding="utf-8").splitlines(keepends=True)
    if handler != "".join(line for line in lines if not line.startswith(("# ruff:", "# mypy:"))).strip():
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
    if text.partition("\n")[0].rstrip() != "#cloud-config":
        raise InvalidUserData("the first line is not #cloud-config")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidUserData(f"no YAML: {error}") from error
    _known(document, DOCUMENT_KEYS, "the document")
    if SERVER_PACKAGE not in document.get("packages", []):
        raise InvalidUserData(f"packages lacks {SERVER_PACKAGE}: nothing starts etcd")
    files = tuple(_file(entry) for entry in document.get("write_files", []))
    environment: dict[str, str] = {}
    before: list[tuple[str, ...]] = []
    timers: list[tuple[float, tuple[str, ...]]] = []
    for file in files:
        if DROP_IN.fullmatch(file.path):
            settings, commands, wanted = _drop_in(file)
            environment |= settings
            before += commands
            timers += [_timer(name, files) for name in wanted]
    return Configuration(files, environment, tuple(before), tuple(timers))


def _text(data: bytes) -> str:
    try:
        return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidUserData(f"neither text nor gzipped text: {error}") from error


def _file(entry: dict[str, Any]) -> File:
    _known(entry, FILE_KEYS, "write_files")
    if not str(entry.get("path", "")).startswith("/"):
        raise InvalidUserData(f"write_files has no absolute path: {entry.get('path')}")
    permissions = entry.get("permissions", "0644")
    if not isinstance(permissions, str):
        raise InvalidUserData(f"permissions of {entry['path']} are no string: YAML reads {permissions!r}")
    return File(entry["path"], entry.get("content", ""), int(permissions, 8))


def _timer(name: str, files: tuple[File, ...]) -> tuple[float, tuple[str, ...]]:
    """A timer that is written beside its service, which is one command."""
    folder = "/etc/systemd/system"
    units = {file.path: file.content for file in files}
    unit = name.removesuffix(".timer")
    paths = [f"{folder}/{unit}.timer", f"{folder}/{unit}.service"]
    if not name.endswith(".timer") or any(path not in units for path in paths):
        raise InvalidUserData(f"etcd wants {name}, which is no timer that the document brings")
    every = re.fullmatch(r"\[Timer\]\nOnActiveSec=(\d+)\nOnUnitActiveSec=\1\n", units[paths[0]])
    what = re.fullmatch(r"\[Service\]\nType=oneshot\nExecStart=(/.+)\n", units[paths[1]])
    if not every or not what:
        raise InvalidUserData(f"{name} or its service is none that a process machine knows")
    return float(every[1]), tuple(_words(paths[1], what[1].replace("$$", "$")))


def _drop_in(file: File) -> tuple[dict[str, str], list[tuple[str, ...]], list[str]]:
    """The Environment= lines of a systemd drop-in, its ExecStartPre= ones, and what it wants."""
    environment: dict[str, str] = {}
    wanted: list[str] = []
    before: list[tuple[str, ...]] = []
    unset: list[str] = []
    section = ""
    for line in file.content.splitlines():
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text.startswith("["):
            section = text.strip("[]")
            continue
        key, _, value = text.partition("=")
        if (section, key) == ENVIRONMENT:
            environment |= _assignments(file.path, value)
        elif (section, key) == UNSET:
            unset += value.split()
        elif (section, key) == WANTS:
            wanted += value.split()
        elif (section, key) == FIRST and value.startswith("+/"):
            before.append(tuple(_words(file.path, value[1:].replace("$$", "$"))))
        elif (section, key) not in UNIT_SETTINGS:
            raise InvalidUserData(f"{file.path} has an unknown key: [{section}] {key}")
        elif UNIT_SETTINGS[section, key] != value:
            raise InvalidUserData(f"{file.path} has an unknown value: [{section}] {text}")
    return {name: value for name, value in environment.items() if name not in unset}, before, wanted


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


def _known(mapping: object, keys: set[str], where: str) -> None:
    if not isinstance(mapping, dict):
        raise InvalidUserData(f"{where} is no mapping")
    if unknown := sorted(set(mapping) - keys):
        raise InvalidUserData(f"{where} has an unknown key: {', '.join(unknown)}")
