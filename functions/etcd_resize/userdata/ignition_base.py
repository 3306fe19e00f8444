"""The user's own Ignition document, and the member's merged into it by Ignition's rules.

Ignition merges lists by key: units by name, their drop-ins by name, files, directories and links by path
(https://coreos.github.io/ignition/operator-notes/#config-merging). What has the same key in both is refused, so what is
left of those rules is: the one beside the other. Only the unit that runs etcd may be in both, for its drop-ins.

Go's JSON reader, which Ignition has, takes ``Units`` for ``units``: keys must be spelt as the specification does.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from etcd_resize.errors import InvalidRequest, quoted
from etcd_resize.model.machine import MemberSpec
from etcd_resize.userdata import tuned

Document: TypeAlias = dict[str, Any]

OLDEST, NEWEST = (3, 0), (3, 5)
"""Versions of the specification that are merged. What the member's document uses means the same in all of them."""

_NODES = ("directories", "files", "links")
_KEYS = {
    "passwd": {"groups": "name", "users": "name"},
    "storage": {
        "disks": "device",
        "filesystems": "device",
        "luks": "name",
        "raid": "name",
        **dict.fromkeys(_NODES, "path"),
    },
    "systemd": {"units": "name"},
}
"""The lists of the specification, and the key of each: there may be one of each key."""

_clip = partial(quoted, limit=64)

_SECTIONS = ("ignition", "kernelArguments", *_KEYS)
_ETCD_UNITS = ("etcd.service", "etcd2.service", "etcd-member.service")
_KINDS = (
    ("#!", "a script"),
    ("#cloud-config", "a #cloud-config"),
    ("Content-Type:", "multi-part MIME"),
    ("MIME-Version:", "multi-part MIME"),
    ("variant:", "a Butane config, which butane translates"),
    ("---", "YAML"),
)
_WRAPPER = re.compile(r"/usr/lib/(?:coreos|flatcar)/etcd-wrapper(?:\s|$)")
_DANGEROUS = re.compile(r"\bETCD_(?:CONFIG_FILE|FORCE_NEW_CLUSTER)\b|--?(?:config-file|force-new-cluster)\b")
_CONTINUED = r"(?:.*\\[ \t\r]*\n(?:[ \t]*[#;].*\n)*)*.*"
_SETTING = re.compile(rf"^[ \t]*(ExecStart|Environment)[ \t]*=[ \t]*({_CONTINUED})$", re.MULTILINE)
"""A setting and its value, whose lines go on behind a backslash; systemd skips comments between them."""


def merge(base: bytes, own: Document, environment: Mapping[str, str], spec: MemberSpec) -> Document:
    """``own``, the member's document, merged into ``base``, the user's. ``own`` has one unit: the one that runs etcd.

    What the user's drop-ins for that unit set of ``environment``, or of etcd's discovery, has no effect in the result.
    Raises InvalidRequest for a base that is no Ignition document of a known version, or that contradicts ``own``.
    """
    document = read(base)
    (unit,) = own["systemd"]["units"]
    _check_paths(document, own, unit["name"])
    _check_other_units(document, unit["name"])
    units = [_with_ours(theirs, unit, environment, spec) for theirs in _entries(document, "systemd", "units")]
    if all(theirs["name"] != unit["name"] for theirs in units):
        units.append(unit)
    result = {**document, "ignition": {**document["ignition"], "version": _newer(document, own)}}
    for section in ("storage", "systemd"):
        added = {
            name: [*_entries(document, section, name), *entries]
            for name, entries in own.get(section, {}).items()
        }
        result[section] = {**(document.get(section) or {}), **added}
    result["systemd"]["units"] = units
    return result


def read(base: bytes) -> Document:
    """The document in ``base``: of a version that is merged, with every key once and every entry named once."""
    document = _parse(base)
    ignition = _object(document.get("ignition"), "ignition")
    version = ignition.get("version")
    form = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})\.[0-9]{1,3}", str(version))
    if not form or not OLDEST <= (int(form[1]), int(form[2])) <= NEWEST:
        spec = f"of version {_clip(version)}" if "version" in ignition else "without ignition.version"
        raise InvalidRequest(
            f"BaseUserData is Ignition {spec}: what can be merged is"
            f" {OLDEST[0]}.{OLDEST[1]}.0 to {NEWEST[0]}.{NEWEST[1]}.0"
        )
    if _object(ignition.get("config"), "ignition.config").get("replace") is not None:
        raise InvalidRequest(
            "BaseUserData has ignition.config.replace, which would replace the member's settings too:"
            " use ignition.config.merge"
        )
    if unknown := [name for name in document if name not in _SECTIONS]:
        raise InvalidRequest(f"BaseUserData has the key {_clip(unknown[0])}, which Ignition does not know")
    for section, lists in _KEYS.items():
        if unknown := [name for name in _object(document.get(section), section) if name not in lists]:
            raise InvalidRequest(
                f"BaseUserData has the key {_clip(unknown[0])} in {section}, which Ignition does not know"
            )
        for name, key in lists.items():
            _check_names(_entries(document, section, name), key, f"{section}.{name}")
    return document


# --- reading -----------------------------------------------------------------------------------------


def _parse(base: bytes) -> Document:
    try:
        text = base.decode()
        found = json.loads(text, object_pairs_hook=_pairs, parse_float=_no_number, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be written again
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"BaseUserData is not UTF-8 at its byte {problem.start}") from problem
    except UnicodeEncodeError as problem:
        raise InvalidRequest("BaseUserData has half a character, a \\ud800 to \\udfff alone") from problem
    except json.JSONDecodeError as problem:
        kind = next((name for start, name in _KINDS if text.startswith(start)), "")
        said = kind or f"no JSON at line {problem.lineno}, {problem.msg}"
        raise InvalidRequest(
            f"BaseUserData is {said}: give Ignition's JSON, which is what can be merged"
        ) from problem
    except (ValueError, RecursionError) as problem:
        raise InvalidRequest(f"BaseUserData is no JSON that can be read: {problem}") from problem
    return _object(found, "the document")


def _pairs(pairs: list[tuple[str, Any]]) -> Document:
    """One object; two of its keys may not be the same one for a reader that does not look at the case."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name.casefold() in seen:
            raise InvalidRequest(
                f"BaseUserData has the key {_clip(name)} twice in one object: keep one of them"
            )
        seen.add(name.casefold())
    return dict(pairs)


def _no_number(text: str) -> None:
    raise InvalidRequest(f"BaseUserData has the number {_clip(text)}: Ignition knows whole ones only")


def _object(value: object, where: str) -> Document:
    """An object; null and nothing are an empty one, as Ignition reads them."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"BaseUserData: {where} is no object")
    return value


def _list(value: object, where: str) -> list[Document]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InvalidRequest(f"BaseUserData: {where} is no list of objects")
    return value


def _entries(document: Document, section: str, name: str) -> list[Document]:
    return _list(_object(document.get(section), section).get(name), f"{section}.{name}")


def _check_names(entries: Iterable[Document], key: str, where: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.get(key)
        if not isinstance(name, str) or not name:
            raise InvalidRequest(f"BaseUserData has an entry without {key} in {where}")
        if name in seen:
            raise InvalidRequest(f"BaseUserData has {_clip(name)} twice in {where}: keep one of them")
        seen.add(name)


def _newer(document: Document, own: Document) -> str:
    versions: tuple[str, str] = (document["ignition"]["version"], own["ignition"]["version"])
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


# --- what may not be in both -------------------------------------------------------------------------


def _check_paths(document: Document, own: Document, unit: str) -> None:
    ours = {node["path"] for name in _NODES for node in own["storage"].get(name, [])}
    seen: set[str] = set()
    for node in (node for name in _NODES for node in _entries(document, "storage", name)):
        path = posixpath.normpath(node["path"])
        if path in seen:
            raise InvalidRequest(f"BaseUserData has {_clip(path)} twice in storage: keep one of them")
        seen.add(path)
        if path in ours:
            raise InvalidRequest(
                f"BaseUserData has {_clip(path)}, which the member brings itself: leave it out"
            )
        if re.match(rf"/(?:etc|run)/systemd/system/{re.escape(unit)}(?:\.d)?(?:/|$)", path):
            raise InvalidRequest(
                f"BaseUserData has {_clip(path)}, a part of {unit}: write it as a drop-in of that unit,"
                " in systemd.units"
            )


def _check_other_units(document: Document, unit: str) -> None:
    for theirs in _entries(document, "systemd", "units"):
        name = theirs["name"]
        off = theirs.get("mask") is True or theirs.get("enabled") is False
        if name in _ETCD_UNITS and name != unit and not off:
            raise InvalidRequest(
                f"BaseUserData has {name}, a second etcd beside the member's {unit}: leave it out"
            )


def _with_ours(
    theirs: Document, unit: Document, environment: Mapping[str, str], spec: MemberSpec
) -> Document:
    """The user's entry for a unit: as it is, or with our drop-in if the unit is the one that runs etcd."""
    name = unit["name"]
    if theirs["name"] != name:
        return theirs
    if unknown := [key for key in theirs if key not in {"name", "enabled", "mask", "dropins"}]:
        raise InvalidRequest(
            f"BaseUserData has {_clip(unknown[0])} for {name}, which the member brings itself:"
            " leave it out, drop-ins may stay"
        )
    if theirs.get("mask") or theirs.get("enabled") is False:
        raise InvalidRequest(f"BaseUserData turns {name} off, which runs etcd: leave that out")
    dropins = _list(theirs.get("dropins"), f"the dropins of {name}")
    _check_names(dropins, "name", f"the dropins of {name}")
    ours = unit["dropins"]
    for dropin in dropins:
        if isinstance(dropin.get("contents"), str):
            tuned.check(dropin["contents"], dropin["name"], spec)
    kept = [_cleaned(dropin, ours[-1]["name"], name, environment) for dropin in dropins]
    return {**theirs, **unit, "dropins": [*kept, *ours]}


def _cleaned(dropin: Document, last: str, unit: str, environment: Mapping[str, str]) -> Document:
    """The user's drop-in without the flags that contradict the member's variables: etcd refuses both at once.

    Variables may stay, since the member's drop-in comes later.
    """
    name, contents = dropin["name"], dropin.get("contents")
    if unknown := [key for key in dropin if key not in {"name", "contents"}]:
        raise InvalidRequest(
            f"BaseUserData has {_clip(unknown[0])} in {_clip(name)}, which Ignition does not know"
        )
    if name >= last:
        raise InvalidRequest(
            f"BaseUserData has the drop-in {_clip(name)} of {unit}, which would come after the member's {last}:"
            " give it a lower number"
        )
    if not isinstance(contents, str):
        return dropin
    return {**dropin, "contents": _without_flags(contents, f"{_clip(name)} of {unit}", environment)}


def _without_flags(contents: str, where: str, environment: Mapping[str, str]) -> str:
    if found := _DANGEROUS.search(contents):
        raise InvalidRequest(
            f"BaseUserData has {found[0]} in {where}, which would override the member's settings:"
            " leave it out"
        )
    flags = "|".join([*map(tuned.flag, environment), "discovery[a-z-]*"])
    flag = re.compile(
        rf"""(?<![\w-])--?(?:{flags})(?:(?:=|[ \t]+)(?:"[^"\n]*"|'[^'\n]*'|[^\s"'\\-][^\s"'\\]*))?(?![\w=-])"""
    )

    def cleaned(setting: re.Match[str]) -> str:
        key, value = setting[1], setting[2]
        if key == "ExecStart" and value.strip() and not _WRAPPER.match(value):
            raise InvalidRequest(
                f"BaseUserData starts something else than etcd-wrapper in {where}:"
                " leave its ExecStart out, variables may stay"
            )
        if key == "ExecStart" or "ETCD_OPTS" in value:
            return setting[0][: setting.start(2) - setting.start()] + flag.sub("", value)
        return setting[0]

    return _SETTING.sub(cleaned, contents)
