"""coreos-cloudinit as far as a member needs it: what it makes of a document, and a program that does it.

After its Go source (``config/config.go``, ``config/etcd2.go``, ``system/env.go``, ``initialize/config.go``), but
strict: a key that it would ignore is an error here. Only the standard library and yaml, because ``main`` also runs in a
Debian machine that plays CoreOS: ``coreos-cloudinit --from-file=FILE`` writes the files, reloads systemd, and runs the
units' commands in their order, each to its end.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Schema: TypeAlias = "type | list[Schema] | dict[str, Schema]"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is to be had: Go's yaml is a translation of it."""

ETCD2: dict[str, Schema] = {
    "advertise_client_urls": str,
    "ca_file": str,
    "cert_file": str,
    "client_cert_auth": bool,
    "cors": str,
    "data_dir": str,
    "debug": bool,
    "discovery": str,
    "discovery_fallback": str,
    "discovery_srv": str,
    "discovery_proxy": str,
    "election_timeout": int,
    "enable_pprof": bool,
    "force_new_cluster": bool,
    "heartbeat_interval": int,
    "initial_advertise_peer_urls": str,
    "initial_cluster": str,
    "initial_cluster_state": str,
    "initial_cluster_token": str,
    "key_file": str,
    "listen_client_urls": str,
    "listen_peer_urls": str,
    "log_package_levels": str,
    "max_snapshots": int,
    "max_wals": int,
    "name": str,
    "peer_ca_file": str,
    "peer_cert_file": str,
    "peer_key_file": str,
    "peer_client_cert_auth": bool,
    "peer_trusted_ca_file": str,
    "proxy": str,
    "proxy_dial_timeout": int,
    "proxy_failure_wait": int,
    "proxy_read_timeout": int,
    "proxy_refresh_interval": int,
    "proxy_write_timeout": int,
    "snapshot_count": int,
    "strict_reconfig_check": bool,
    "trusted_ca_file": str,
    "wal_dir": str,
}
"""The keys in the order in which the drop-in has them; the variable of each is ``ETCD_`` and the key in capitals."""

_CLOUD_CONFIG: dict[str, Schema] = {
    "ssh_authorized_keys": [str],
    "hostname": str,
    "manage_etc_hosts": str,
    "write_files": [{"path": str, "content": str, "permissions": str, "owner": str, "encoding": str}],
    "users": [
        {
            **dict.fromkeys(("name", "passwd", "gecos", "homedir", "primary_group", "shell"), str),
            **dict.fromkeys(("no_create_home", "no_user_group", "system", "no_log_init"), bool),
            "groups": [str],
            "ssh_authorized_keys": [str],
        }
    ],
    "coreos": {
        "etcd": {},  # 0.4's own keys: none of ours
        "etcd2": ETCD2,
        "fleet": dict.fromkeys(("public_ip", "metadata", "etcd_servers", "etcd_request_timeout"), str),
        "update": dict.fromkeys(("reboot_strategy", "group", "server"), str),
        "units": [
            {
                **dict.fromkeys(("name", "content", "command"), str),
                **dict.fromkeys(("mask", "enable", "runtime"), bool),
                "drop_ins": [{"name": str, "content": str}],
            }
        ],
    },
}
_COMMANDS = (
    "start",
    "stop",
    "reload",
    "restart",
    "try-restart",
    "reload-or-restart",
    "reload-or-try-restart",
)
_TRUE, _FALSE = ("true", "yes", "on", "y"), ("false", "no", "off", "n")


@dataclass(frozen=True)
class Applied:
    """What coreos-cloudinit does: files by path (content, mode), then systemd's commands, in order."""

    hostname: str = ""
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()
    keys: dict[str, Any] = field(default_factory=dict)
    """The whole document, typed."""


def read(document: bytes, addresses: Mapping[str, str] | None = None) -> Applied:
    """What it does with the document; ``addresses`` by ``private_ipv4`` and the like. ValueError if it is wrong."""
    text = (gzip.decompress(document) if document.startswith(b"\x1f\x8b") else document).decode()
    if text.split("\n", 1)[0].rstrip() != "#cloud-config":
        raise ValueError("no #cloud-config")
    for name, address in (addresses or {}).items():
        text = re.sub(rf"([^\\]|^)\${name}", rf"\g<1>{address}", text)
        text = text.replace(f"\\${name}", f"${name}")
    given = _typed(yaml.compose(text, Loader=_LOADER), _CLOUD_CONFIG, "")
    coreos = given.get("coreos", {})
    files: dict[str, tuple[str, int]] = {}
    for entry in given.get("write_files", []):
        if entry.get("encoding"):
            raise ValueError(f"{entry['path']} is encoded")
        files[entry["path"]] = entry.get("content", ""), int(entry.get("permissions") or "0644", 8)
    cloudinit = {"name": "20-cloudinit.conf", "content": drop_in(coreos.get("etcd2", {}))}
    units = [
        *coreos.get("units", []),
        {"name": "etcd2.service", "runtime": True, "drop_ins": [cloudinit]},
    ]
    commands = tuple((unit["command"], unit["name"]) for unit in units if unit.get("command"))
    if unsupported := [command for command, _ in commands if command not in _COMMANDS]:
        raise ValueError(f"unsupported systemd command {unsupported[0]}")
    for unit in units:
        files |= _placed(unit)
    return Applied(given.get("hostname", ""), files, commands, given)


def _placed(unit: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """The files of a unit: itself and its drop-ins, if there is something in them."""
    path = f"/{'run' if unit.get('runtime') else 'etc'}/systemd/system/{unit['name']}"
    contents = {path: unit.get("content", "")}
    contents |= {f"{path}.d/{its['name']}": its["content"] for its in unit.get("drop_ins", [])}
    return {path: (content, 0o644) for path, content in contents.items() if content}


def drop_in(etcd2: Mapping[str, Any]) -> str:
    """``20-cloudinit.conf``: nothing is escaped, and what is zero, false or empty is left out."""
    lines = [
        f'Environment="ETCD_{name.upper()}={str(etcd2[name]).lower() if ETCD2[name] is bool else etcd2[name]}"\n'
        for name in ETCD2
        if etcd2.get(name)
    ]
    return "".join(["[Service]\n", *lines]) if lines else ""


def _typed(node: yaml.Node | None, schema: Schema, path: str) -> Any:
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return {} if isinstance(schema, dict) else [] if isinstance(schema, list) else schema()
    if isinstance(schema, dict) and isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value.replace("-", "_")
            if name not in schema or name in made:
                raise ValueError(f"{path}.{name} is unknown, or there twice")
            made[name] = _typed(value, schema[name], f"{path}.{name}")
        return made
    if isinstance(schema, list) and isinstance(node, yaml.SequenceNode):
        return [_typed(inner, schema[0], f"{path}[]") for inner in node.value]
    if schema is str and isinstance(node, yaml.ScalarNode):
        return node.value  # as it is written, whatever it looks like
    if schema is int and node.tag == "tag:yaml.org,2002:int":
        return int(node.value, 0)
    if schema is bool and isinstance(node, yaml.ScalarNode) and node.value.lower() in (*_TRUE, *_FALSE):
        return node.value.lower() in _TRUE
    raise ValueError(f"{path} has another type")


# --- systemd's part ------------------------------------------------------------------------------------


def environment(files: Mapping[str, tuple[str, int]], unit: str = "etcd2.service") -> dict[str, str]:
    """The variables that the unit's drop-ins set: by file name, ``/etc`` hides ``/run``, the last one wins.

    See systemd.unit(5).
    """
    by_name: dict[str, str] = {}
    for folder in ("run", "etc"):
        start = f"/{folder}/systemd/system/{unit}.d/"
        by_name |= {
            path.removeprefix(start): content
            for path, (content, _) in files.items()
            if path.startswith(start)
        }
    made: dict[str, str] = {}
    for name in sorted(by_name):
        made |= variables(by_name[name])
    return made


def variables(content: str) -> dict[str, str]:
    """Those of one drop-in, unquoted as systemd.syntax(7) says. ValueError for a line that is no ``Environment=``."""
    made: dict[str, str] = {}
    section, *lines = content.removesuffix("\n").split("\n")
    if section != "[Service]":
        raise ValueError(f"{section} is no [Service]")
    for line in lines:
        if line.startswith("ExecStartPre="):
            continue
        form = re.fullmatch(r'Environment="([A-Z0-9_]+)=((?:[^"\\%\r]|\\x[0-9a-f]{2}|\\[\\"]|%%)*)"', line)
        if not form:
            raise ValueError(f"not to be read: {line}")
        made[form[1]] = _unescaped(form[2])
    return made


def _unescaped(text: str) -> str:
    """Escapes give bytes, ``%%`` a percent sign."""
    whole = re.sub(
        r"\\x([0-9a-f]{2})|\\(.)|%%",
        lambda found: chr(int(found[1], 16)) if found[1] else found[2] or "%",
        text,
    )
    if re.search(r"\\x[89a-f]", text):
        raise ValueError("bytes beyond ASCII are not escaped")
    return whole


# --- the program ---------------------------------------------------------------------------------------


def apply(applied: Applied, root: Path = Path("/")) -> None:
    """Do it."""
    for path, (content, mode) in applied.files.items():
        written = root / path.lstrip("/")
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(content, encoding="utf-8", newline="")
        written.chmod(mode)
    for command in (["daemon-reload"], *map(list, applied.commands)):
        subprocess.run(["systemctl", *command], check=False)


def main(arguments: Sequence[str]) -> None:
    """``--from-file=FILE``; the addresses are in the environment, as ``/etc/environment`` has them.

    A script is run by systemd, in an environment of its own, and not waited for (``system/systemd.go``).
    """
    (argument,) = arguments
    path = Path(argument.removeprefix("--from-file="))
    if path.read_bytes().startswith(b"#!"):
        subprocess.run(["systemd-run", "--no-block", "/bin/bash", str(path)], check=True)
        return
    names = ("private_ipv4", "public_ipv4")
    addresses = {name: os.environ.get(f"COREOS_{name.upper()}", "") for name in names}
    apply(read(path.read_bytes(), addresses))


if __name__ == "__main__":
    main(sys.argv[1:])
