"""The Ignition document that this project writes for Flatcar, merged with one of a user's or alone.

A process machine starts etcd as Flatcar's unit would, with the variables of the drop-in. It runs no other unit, so that
one is masked is nothing to it; whatever else a document asks for is an error.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from playground.cloud.userdata import drop_in
from playground.cloud.userdata.configuration import Configuration, File, InvalidUserData, known

UNIT = "etcd-member.service"
DOCUMENT_KEYS = {"ignition", "storage", "systemd"}
FILE_KEYS = {"path", "mode", "contents"}
DATA = "data:,"


def read(text: str) -> Configuration:
    """Read a document. Raises InvalidUserData."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidUserData(f"no JSON: {error}") from error
    known(document, DOCUMENT_KEYS, "the document")
    known(document.get("ignition"), {"version"}, "ignition")
    storage, systemd = document.get("storage", {}), document.get("systemd", {})
    known(storage, {"files"}, "storage")
    known(systemd, {"units"}, "systemd")
    files = tuple(_file(entry) for entry in storage.get("files", []))
    units = {unit["name"]: unit for unit in systemd.get("units", [])}
    own = units.pop(UNIT, {})
    for name, unit in units.items():
        if unit != {"name": name, "mask": True}:
            raise InvalidUserData(f"{name} is another unit than {UNIT}, and not masked")
    known(own, {"name", "enabled", "dropins"}, UNIT)
    if own.get("enabled") is not True:
        raise InvalidUserData(f"{UNIT} is not enabled: nothing starts etcd")
    environment: dict[str, str] = {}
    for entry in own["dropins"]:
        found = drop_in.read(entry["name"], entry["contents"])
        if found.before or found.wanted:
            raise InvalidUserData(f"{entry['name']} starts something else than etcd")
        environment |= found.environment
    return Configuration(files, environment)


def _file(entry: dict[str, Any]) -> File:
    known(entry, FILE_KEYS, "storage.files")
    source = str(entry["contents"].get("source", ""))
    if set(entry["contents"]) != {"source"} or not source.startswith(DATA):
        raise InvalidUserData(f"{entry['path']} has no contents in the document itself")
    return File(entry["path"], urllib.parse.unquote(source.removeprefix(DATA)), entry["mode"])
