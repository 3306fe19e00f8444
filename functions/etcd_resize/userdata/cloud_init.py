"""The dialect ``cloud-init``: Debian and Ubuntu, whose package ``etcd-server`` starts ``etcd.service``.

cloud-init writes files before it installs packages, so the drop-in is there when the package starts
etcd for the first time (https://docs.cloud-init.io/en/latest/explanation/boot.html). A release instead of the
package comes with a unit of that name and a program that installs it.

The user's own documents are not changed: they become parts of a multi-part document, ours is the last one, and
cloud-init merges them (https://docs.cloud-init.io/en/latest/reference/merging.html).
docs/dialects/cloud-init.md tells what is merged how.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import BUNDLE_FOLDER, MemberSpec
from etcd_resize.userdata import documents, mime, tuned
from etcd_resize.userdata.etcdctl import PROFILE_PATH, profile
from etcd_resize.userdata.on_machine import program
from etcd_resize.userdata.systemd import NEVER, command, drop_in

UNITS = "/etc/systemd/system"
UNIT_PATH = f"{UNITS}/etcd.service"
DROP_IN_PATH = f"{UNIT_PATH}.d/99-etcd-resize.conf"
"""The last one wins, and this one must: it sets what the member needs."""
DEFAULTS_PATH = "/etc/default/etcd"
"""What Debian's unit reads after every ``Environment=``."""
_DROP_IN = re.compile(r"/(?:etc|run|lib|usr/lib)/systemd/system/etcd2?\.service\.d/[^/]+\.conf")
"""systemd reads them all in the order of their names; etcd2 is an alias in Debian's package."""
INSTALLER_PATH = "/usr/local/sbin/install-etcd"
BUNDLE_PROGRAM_PATH = "/usr/local/sbin/fetch-etcd-bundle"
RESTORE_PROGRAM_PATH = "/usr/local/sbin/restore-etcd"
REVOKED_PROGRAM_PATH = "/usr/local/sbin/take-etcd-revoked"
REVOKED_UNIT = "etcd-revoked"
REVOKED_SECONDS = 60
"""How long a member that was removed may still be let in: so often does a machine take the list of the revoked."""
PACKAGES = ("etcd-server", "etcd-client")
USER = "etcd"
"""Whom etcd runs as: the package, and the program that installs a release, make it."""

MERGE = "dict(recurse_list)+list(prepend)+str()"
"""What the user set stays, and lists grow: ours comes first, so no command of the user's can end the script before."""

_ARCHITECTURE = "Environment=ETCD_UNSUPPORTED_ARCH=%a\n"
"""etcd 3.4 refuses to start on arm64 without this variable, Debian 12's too; systemd puts the architecture in."""
_PATIENCE = "TimeoutStartSec=infinity\n"
"""A snapshot of some gigabytes takes longer to fetch and restore than the 90 s that systemd gives to a start."""
_UNIT = """\
[Unit]
Description=etcd
Documentation=https://etcd.io/docs
Wants=network-online.target
After=network-online.target
[Service]
Type=notify
User=etcd
StateDirectory=etcd
ExecStart=/usr/local/bin/etcd
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
"""
_MODULES = ("cloud_init_modules", "cloud_config_modules", "cloud_final_modules")
_FETCHED = "text/x-etcd-resize"


def render(spec: MemberSpec, base: bytes) -> bytes:
    """A ``#cloud-config`` document, or with a ``base`` a multi-part one. Raises InvalidRequest for what cannot be."""
    if spec.image:
        raise InvalidRequest(
            "EtcdImage is not for the dialect cloud-init: leave it empty, or give an EtcdRelease"
        )
    document = _document(spec)
    own = _dump(document)
    theirs = [part for part in (mime.read(base) if base else []) if not _is_empty(part, spec, document)]
    if not theirs:
        return own.encode()
    return mime.write([*theirs, mime.Part(mime.CLOUD_CONFIG, own, (("Merge-Type", MERGE),))])


def fetching(url: str, sha256: str) -> bytes:
    """A short document that puts the one at ``url`` in its place, if it has this sha256 (hexadecimal).

    A part handler is code that cloud-init runs while it reads its UserData, so before anything is made of it
    (https://docs.cloud-init.io/en/latest/explanation/format.html).
    """
    order = json.dumps({"url": url, "sha256": sha256}, separators=(",", ":"))
    return mime.write(
        [mime.Part("text/part-handler", program("fetch_user_data.py")), mime.Part(_FETCHED, order)]
    )


def _document(spec: MemberSpec) -> dict[str, Any]:
    bundle, restoration = spec.bundle, spec.restoration
    before: list[tuple[str, ...]] = []
    if bundle:
        before.append((BUNDLE_PROGRAM_PATH, bundle.url, bundle.sha256, BUNDLE_FOLDER, USER))
    if restoration:
        before.append((RESTORE_PROGRAM_PATH, restoration.url, restoration.sha256))
    settings = drop_in(
        spec.environment(),
        unset=NEVER,
        before=before,
        wanted=[f"{REVOKED_UNIT}.timer"] if bundle else (),
    )
    if restoration:
        settings += _PATIENCE
    files = [_file(DROP_IN_PATH, settings + _ARCHITECTURE), _file(PROFILE_PATH, profile(spec))]
    files += _for_tls(spec) if bundle else []
    if restoration:
        files.append(_file(RESTORE_PROGRAM_PATH, program("restore_etcd.py"), "0755"))
    if not spec.release:
        return {"package_update": True, "packages": list(PACKAGES), "write_files": files}
    files += [_file(UNIT_PATH, _UNIT), _file(INSTALLER_PATH, program("install_etcd.py"), "0755")]
    return {"write_files": files, "runcmd": [[INSTALLER_PATH, spec.release.url, spec.release.sha256]]}


def _for_tls(spec: MemberSpec) -> list[dict[str, str]]:
    """What brings the member's certificates, and what keeps the list of the revoked ones up to date."""
    take = f"{REVOKED_PROGRAM_PATH} {command([BUNDLE_FOLDER, spec.identity.client_url, USER])}"
    service = f"[Service]\nType=oneshot\nExecStart={take}\n"
    timer = f"[Timer]\nOnActiveSec={REVOKED_SECONDS}\nOnUnitActiveSec={REVOKED_SECONDS}\n"
    return [
        _file(BUNDLE_PROGRAM_PATH, program("fetch_bundle.py"), "0755"),
        _file(REVOKED_PROGRAM_PATH, program("take_revoked.sh"), "0755"),
        _file(f"{UNITS}/{REVOKED_UNIT}.service", service),
        _file(f"{UNITS}/{REVOKED_UNIT}.timer", timer),
    ]


def _file(path: str, content: str, permissions: str = "0644") -> dict[str, str]:
    return {"path": path, "owner": "root:root", "permissions": permissions, "content": content}


# --- the user's own document ---------------------------------------------------------------------


def _is_empty(part: mime.Part, spec: MemberSpec, own: Mapping[str, Any]) -> bool:
    """Whether the part says nothing; InvalidRequest if it and ours would be in each other's way."""
    if part.kind != mime.CLOUD_CONFIG:
        return False
    headed = part.text if part.text.startswith("#cloud-config") else f"#cloud-config\n{part.text}"
    theirs = _values(documents.compose(headed.encode()))
    if gone := [name for name in _MODULES if name in theirs]:
        raise InvalidRequest(f"BaseUserData has {gone[0]}, which may leave out what starts etcd: take it out")
    for name in (*own, "write_files", "packages"):
        if isinstance(own.get(name, []), list) and not isinstance(theirs.get(name, []), list):
            raise InvalidRequest(f"BaseUserData has {name}, but not as a list: nothing can be added to it")
    _check_files(theirs.get("write_files", []), [file["path"] for file in own["write_files"]], spec)
    if spec.release:
        _check_packages(theirs.get("packages", []))
    return not theirs


def _values(root: yaml.MappingNode) -> dict[str, Any]:
    loader = yaml.SafeLoader("")
    try:
        values: dict[str, Any] = loader.construct_document(root)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as problem:
        raise InvalidRequest(f"BaseUserData has a value that cloud-init cannot read: {problem}") from problem
    finally:
        loader.dispose()
    return values


def _check_files(files: Iterable[Any], reserved: Sequence[str], spec: MemberSpec) -> None:
    for file in files:
        if not isinstance(file, Mapping) or not isinstance(file.get("path"), str):
            raise InvalidRequest("BaseUserData has an entry in write_files without a path")
        path = posixpath.normpath("/" + file["path"].lstrip("/"))
        if path in reserved:
            raise InvalidRequest(f"BaseUserData writes {path}, which is the member's own: use another path")
        if path in {DEFAULTS_PATH, UNIT_PATH} or _DROP_IN.fullmatch(path):
            _check_settings(path, file, spec)


def _check_settings(path: str, file: Mapping[str, Any], spec: MemberSpec) -> None:
    """A file that configures etcd: no flag of it, and nothing that systemd reads after ours, may make another member.

    Variables that systemd reads before ours have no effect; those of NEVER have none anywhere.
    """
    content = file.get("content", "")
    if not isinstance(content, str) or "encoding" in file or "source" in file:
        raise InvalidRequest(f"BaseUserData writes {path} not as plain content, so it cannot be checked")
    tuned.check(content, path, spec)
    needed = spec.environment()
    after_ours = posixpath.basename(path) > posixpath.basename(DROP_IN_PATH)
    last = path == DEFAULTS_PATH or (path != UNIT_PATH and after_ours)
    flags = [f"--?{tuned.flag(name)}" for name in (*needed, *NEVER)]
    unwanted = re.compile("|".join([rf"(?<![\w-]){flag}(?![\w-])" for flag in flags]))
    lines = tuned.lines_of(content)
    found = [match[0] for line in lines for match in unwanted.finditer(line)]
    found += [name for name in needed if last and any(re.search(rf"\b{name}\b", line) for line in lines)]
    if found:
        raise InvalidRequest(
            f"BaseUserData sets {found[0]} in {path}, which the member needs otherwise: take it out"
        )


def _check_packages(packages: Iterable[Any]) -> None:
    """The package would start another etcd beside the release's.

    An entry is a name, or a list of name and version, or lists of such entries by package manager.
    """
    by_manager = [entry.values() for entry in packages if isinstance(entry, Mapping)]
    further = [
        entry for lists in by_manager for entries in lists if isinstance(entries, list) for entry in entries
    ]
    for entry in (*packages, *further):
        name = entry[0] if isinstance(entry, list) and entry else entry
        if isinstance(name, str) and re.split("[=/:]", name)[0] in {"etcd", "etcd-server"}:
            raise InvalidRequest(
                f"BaseUserData installs the package {name} beside EtcdRelease: take one of them out"
            )


# --- YAML --------------------------------------------------------------------------------------------


def _dump(document: Mapping[str, Any]) -> str:
    dumped: str = yaml.dump(document, Dumper=_Dumper, width=1_000_000)
    return f"#cloud-config\n{dumped}"


class _Dumper(yaml.SafeDumper):
    """Writes a file's content as a block, so that a person can read the UserData."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # beyond ASCII there are characters that YAML takes for line breaks inside a block: those are escaped
    block = "\n" in value and value.isascii()
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if block else None)


_Dumper.add_representer(str, _text)
