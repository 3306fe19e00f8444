"""The cloud-config that this project writes, for Debian."""

from __future__ import annotations

import re
from typing import Any

import yaml

from playground.cloud.userdata import drop_in
from playground.cloud.userdata.configuration import Configuration, File, InvalidUserData, known

DOCUMENT_KEYS = {"package_update", "packages", "write_files"}
FILE_KEYS = {"path", "permissions", "owner", "content"}
DROP_IN = re.compile(r"/etc/systemd/system/etcd\.service\.d/[^/]+\.conf")
SERVER_PACKAGE = "etcd-server"


def read(text: str) -> Configuration:
    """Read a document. Raises InvalidUserData."""
    if text.partition("\n")[0].rstrip() != "#cloud-config":
        raise InvalidUserData("the first line is not #cloud-config")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidUserData(f"no YAML: {error}") from error
    known(document, DOCUMENT_KEYS, "the document")
    if SERVER_PACKAGE not in document.get("packages", []):
        raise InvalidUserData(f"packages lacks {SERVER_PACKAGE}: nothing starts etcd")
    files = tuple(_file(entry) for entry in document.get("write_files", []))
    environment: dict[str, str] = {}
    before: list[tuple[str, ...]] = []
    timers: list[tuple[float, tuple[str, ...]]] = []
    for file in files:
        if DROP_IN.fullmatch(file.path):
            found = drop_in.read(file.path, file.content)
            environment |= found.environment
            before += found.before
            timers += [_timer(name, files) for name in found.wanted]
    return Configuration(files, environment, tuple(before), tuple(timers))


def _file(entry: dict[str, Any]) -> File:
    known(entry, FILE_KEYS, "write_files")
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
    return float(every[1]), drop_in.command(paths[1], what[1])
