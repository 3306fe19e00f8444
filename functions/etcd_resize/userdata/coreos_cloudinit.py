"""The dialect ``coreos-cloudinit``: CoreOS Container Linux, whose ``etcd2.service`` is configured by ``coreos.etcd2``.

coreos-cloudinit applies the document at every boot: it writes the files, makes ``20-cloudinit.conf`` of the keys, and
starts the units in their order, each to its end (``initialize/config.go``). It escapes nothing, so we do.
docs/dialects/coreos-cloudinit.md tells who needs it, and why each line is there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

import yaml

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import TUNING, MemberSpec
from etcd_resize.userdata import documents, systemd, tuned

UNIT = "etcd2.service"
DROP_INS = f"/run/systemd/system/{UNIT}.d"
RESTORE_PATH = f"{DROP_INS}/99-restore.conf"
SETTINGS_PATH = f"{DROP_INS}/30-etcd-resize.conf"
RESTORED_UNIT = "etcd-resize-restored.service"
USUAL_DATA_DIR = "/var/lib/etcd2"
"""What the image's own ``etcd2.service`` sets."""
LISTEN_CLIENT_URLS = "http://0.0.0.0:2379,http://0.0.0.0:4001"
"""fleet, locksmith and containers reach etcd through the loopback and the bridge, the old ones at port 4001."""

KEPT_PATH = "/var/lib/etcd-resize/user-data"
"""Where a machine keeps a document that it has fetched."""
_METADATA_URL = "http://169.254.169.254/latest"
"""EC2's metadata service."""
_TRIES, _PAUSE = 120, 5
"""How often it is tried to fetch it, and the seconds between two tries."""

_IDENTITY = (
    "ETCD_NAME",
    "ETCD_ADVERTISE_CLIENT_URLS",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS",
    "ETCD_LISTEN_CLIENT_URLS",
    "ETCD_LISTEN_PEER_URLS",
    "ETCD_INITIAL_CLUSTER",
    "ETCD_INITIAL_CLUSTER_STATE",
    "ETCD_INITIAL_CLUSTER_TOKEN",
    "ETCD_DATA_DIR",
)
"""What makes the member; the user's own keys of these give way. All of them are keys of ``coreos.etcd2``."""
_GONE = frozenset(
    {
        *("discovery", "discovery-fallback", "discovery-proxy", "discovery-srv"),
        *("proxy", "proxy-dial-timeout", "proxy-failure-wait", "proxy-read-timeout"),
        *("proxy-refresh-interval", "proxy-write-timeout"),
    }
)
"""How a machine finds its cluster, or becomes a proxy of one: both are settled when it is made a member."""
_STARTING = ("start", "restart", "reload-or-restart")
_OTHER_ETCDS = ("etcd.service", "etcd-member.service")
_OURS = (*_IDENTITY, "ETCD_DISCOVERY", "ETCD_DISCOVERY_SRV", "ETCD_PROXY", "ETCD_FORCE_NEW_CLUSTER")
_OTHER_PROGRAMS_FLAGS = ("ETCD_NAME", "ETCD_PROXY")
"""``docker run --name``, ``curl --proxy``: in a unit these flags need not be etcd's."""
_PLACEHOLDER = re.compile(r"\\*\$(?:public|private)_ipv[46]")
"""What coreos-cloudinit replaces in the document's text before it is read as YAML."""


def render(spec: MemberSpec, base: bytes) -> bytes:
    """The ``#cloud-config`` document, ASCII, with the user's own ``base`` in it.

    Raises InvalidRequest for a ``base`` that cannot be merged, and for a spec that brings its own etcd.
    """
    if spec.release or spec.image:
        name = "EtcdRelease" if spec.release else "EtcdImage"
        raise InvalidRequest(
            f"{name} is not for the dialect coreos-cloudinit: its etcd is that of the image's {UNIT},"
            " or of your own unit in BaseUserData"
        )
    root = documents.compose(base, _spelling) if base else documents.mapping()
    _check_placeholders(root, base.decode())
    coreos = _mapping(root, "coreos")
    if not documents.is_null(_find(coreos, "etcd")):
        raise InvalidRequest("BaseUserData configures coreos.etcd, which is etcd 0.4: use coreos.etcd2")
    given = _mapping(coreos, "etcd2", "coreos.")
    _check_keys(given, spec)
    data_dir = spec.data_dir or _text(_find(given, "data-dir")) or USUAL_DATA_DIR
    environment = _environment(spec)
    identity = {name: environment[name] for name in _IDENTITY if name in environment}
    keys = {tuned.flag(name): systemd.escaped(value) for name, value in identity.items()}
    settings = {name: value for name, value in environment.items() if name not in _IDENTITY}
    files = {RESTORE_PATH: _restore(identity, data_dir)}
    if settings:  # coreos-cloudinit knows only the keys of etcd 2, and drops a false or a 0
        files[SETTINGS_PATH] = _lines("[Service]", *systemd.assignments(settings))
    root = _replaced(
        root,
        {
            "coreos": _replaced(
                coreos,
                {"etcd2": _replaced(given, keys, _GONE), "units": _units(coreos, spec)},
            ),
            "write_files": _files(root, files, spec),
        },
    )
    document = documents.dump(root)
    if b"_ipv" in document:
        _check_placeholders(documents.compose(document, _spelling), document.decode())
    return document


def fetching(url: str, sha256: str) -> bytes:
    """A short script for UserData that fetches the document, checks it, and gives it to coreos-cloudinit.

    ``sha256`` in hexadecimal: another document is refused. It tries for ten minutes and more to get it. What was right
    is kept, because coreos-cloudinit runs the script at every boot, when the URL may serve no more.

    For a document in a file, coreos-cloudinit has the addresses for ``$private_ipv4`` from its environment alone
    (https://github.com/coreos/bugs/issues/1865): they are in ``/etc/environment``, or EC2 is asked for them.
    """
    return _lines(
        "#!/bin/bash",
        "set -eu",
        "umask 077",
        f"document={KEPT_PATH}",
        f'right() {{ echo "{sha256}  $document" | sha256sum --check --status -; }}',
        'if ! [ -e "$document" ] || ! right; then',
        '  mkdir -p "${document%/*}"',
        f"  tries={_TRIES}",
        "  until curl --fail --silent --show-error --location --max-time 60"
        f' --output "$document" {shlex.quote(url)}; do',
        '    tries=$((tries - 1)); [ "$tries" -gt 0 ] || exit 1',
        f"    sleep {_PAUSE}",
        "  done",
        '  right || { echo "what was fetched has another sha256" >&2; exit 1; }',
        "fi",
        "set -a",
        "eval \"$(grep -s '^COREOS_[A-Z0-9_]*=[0-9a-f.:]*$' /etc/environment)\"",
        'if [ -z "${COREOS_PRIVATE_IPV4:-}" ] && grep --quiet "[$]p[a-z]*_ipv4" "$document"; then',
        "  token=$(curl --fail --silent --max-time 5 --request PUT"
        f' --header "X-aws-ec2-metadata-token-ttl-seconds: 60" {_METADATA_URL}/api/token || :)',
        '  address() { curl --fail --silent --max-time 5 --header "X-aws-ec2-metadata-token: $token"'
        f" {_METADATA_URL}/meta-data/$1-ipv4 || :; }}",
        "  COREOS_PRIVATE_IPV4=$(address local) COREOS_PUBLIC_IPV4=$(address public)",
        '  [ -n "$COREOS_PRIVATE_IPV4" ] || { echo "no address to fill in" >&2; exit 1; }',
        "fi",
        "set +a",
        'coreos-cloudinit --from-file="$document"',
    ).encode()


# --- what is ours --------------------------------------------------------------------------------------


def _environment(spec: MemberSpec) -> dict[str, str]:
    environment = {
        **spec.environment(),
        "ETCD_LISTEN_CLIENT_URLS": LISTEN_CLIENT_URLS,
        **dict(spec.settings),
    }
    if not spec.data_dir:
        del environment["ETCD_DATA_DIR"]  # the unit has its own, or the user's keys have
    for name, value in environment.items():
        if _PLACEHOLDER.search(value):
            raise InvalidRequest(
                f"coreos-cloudinit would replace an address in {name}: call no member $private_ipv4"
            )
    return environment


def _restore(identity: Mapping[str, str], data_dir: str) -> str:
    """The drop-in with which a machine of any past joins: it wins over what ``20-cloudinit.conf`` still says."""
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", data_dir):
        raise InvalidRequest(
            f"the data directory {data_dir!r} is no absolute path of letters, digits, dots, dashes"
        )
    shown = ("ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE")
    return _lines(
        "[Service]",
        f"ExecStartPre=/usr/bin/rm -rf {data_dir}/proxy",
        *systemd.assignments(
            {
                "ETCD_NAME": identity["ETCD_NAME"],
                "ETCD_DISCOVERY": "",
                **{name: identity[name] for name in shown},
            }
        ),
    )


def _restored(spec: MemberSpec) -> str:
    """The unit that removes the restore drop-in once the member serves, and leaves etcd running."""
    return _lines(
        "[Unit]",
        "Description=Remove 99-restore.conf once etcd is a member",
        "",
        "[Service]",  # not oneshot: coreos-cloudinit waits for the end of a unit's start
        'ExecStart=/bin/sh -c "'
        f"until curl --fail --silent --max-time 5 --output /dev/null {spec.identity.client_url}/health;"
        f' do sleep 1; done; rm -f {RESTORE_PATH}; systemctl daemon-reload"',
    )


def _lines(*lines: str) -> str:
    return "\n".join([*lines, ""])


# --- what is the user's --------------------------------------------------------------------------------


def _spelling(key: str) -> str:
    """coreos-cloudinit reads ``-`` in a key as ``_`` (``config/config.go``)."""
    return key.replace("-", "_")


def _find(mapping: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((value for key, value in documents.pairs(mapping) if _spelling(key) == _spelling(name)), None)


def _replaced(
    mapping: yaml.MappingNode, new: Mapping[str, documents.Value], gone: frozenset[str] = frozenset()
) -> yaml.MappingNode:
    return documents.replaced(mapping, new, gone, _spelling)


def _text(found: yaml.Node | None) -> str:
    return found.value if isinstance(found, yaml.ScalarNode) and not documents.is_null(found) else ""


def _mapping(parent: yaml.MappingNode, name: str, path: str = "") -> yaml.MappingNode:
    """The mapping under that key, which may be missing or null."""
    if documents.merges(parent):
        raise InvalidRequest(f"BaseUserData brings keys beside {path}{name} with <<: write them out there")
    found = _find(parent, name)
    if found is None or documents.is_null(found):
        return documents.mapping()
    if not isinstance(found, yaml.MappingNode):
        raise InvalidRequest(f"BaseUserData's {path}{name} is no mapping of keys")
    if documents.merges(found):
        raise InvalidRequest(f"BaseUserData brings keys into {path}{name} with <<: write them out there")
    return found


def _entries(parent: yaml.MappingNode, name: str, wanted: str) -> list[tuple[yaml.MappingNode, str]]:
    """The mappings in the sequence under that key, which may be missing or null, and what they say of ``wanted``."""
    found = _find(parent, name)
    if found is None or documents.is_null(found):
        return []
    if not isinstance(found, yaml.SequenceNode):
        raise InvalidRequest(f"BaseUserData's {name} is no list")
    entries: list[tuple[yaml.MappingNode, str]] = []
    for entry in found.value:
        if not isinstance(entry, yaml.MappingNode) or documents.merges(entry):
            raise InvalidRequest(
                f"BaseUserData's {name} is no list of mappings that are written out, without <<"
            )
        if not (its := _text(_find(entry, wanted))):
            raise InvalidRequest(f"BaseUserData's {name} has an entry without a {wanted}: give it one")
        entries.append((entry, its))
    return entries


def _units(coreos: yaml.MappingNode, spec: MemberSpec) -> Sequence[documents.Value]:
    """The user's units in their order, then ours; etcd's own stays theirs if they have one."""
    units: dict[str, documents.Value] = {}
    for unit, name in _entries(coreos, "units", "name"):
        if name in units or name == RESTORED_UNIT:
            raise InvalidRequest(f"BaseUserData: two of coreos.units are called {name}: keep one of them")
        units[name] = _checked(unit, name, spec)
    units.setdefault(UNIT, {"name": UNIT, "command": "start"})
    return [
        *units.values(),
        {"name": RESTORED_UNIT, "runtime": True, "command": "start", "content": _restored(spec)},
    ]


def _checked(unit: yaml.MappingNode, name: str, spec: MemberSpec) -> yaml.MappingNode:
    command, mask = (_text(_find(unit, key)) for key in ("command", "mask"))
    masked = mask.lower() in {"true", "yes", "on", "y"}
    if name in _OTHER_ETCDS and not masked and command != "stop":
        raise InvalidRequest(f"BaseUserData's unit {name} is a second etcd on this machine: take it out")
    if name != UNIT:
        return unit
    if masked or command not in ("", *_STARTING):
        raise InvalidRequest(f"BaseUserData's unit {UNIT} is not to be started: let its command be start")
    _check_variables(_text(_find(unit, "content")), UNIT, spec)
    for drop_in, its in _entries(unit, "drop-ins", "name"):
        if its in {path.rpartition("/")[2] for path in (RESTORE_PATH, SETTINGS_PATH)} | {"20-cloudinit.conf"}:
            raise InvalidRequest(f"BaseUserData's {UNIT} has a drop-in {its}, which is ours: rename it")
        _check_variables(_text(_find(drop_in, "content")), its, spec)
    return unit if command else _replaced(unit, {"command": "start"})


def _files(root: yaml.MappingNode, ours: Mapping[str, str], spec: MemberSpec) -> Sequence[documents.Value]:
    """The user's files in their order, then ours."""
    kept: list[documents.Value] = []
    for entry, path in _entries(root, "write_files", "path"):
        if path in ours:
            raise InvalidRequest(f"BaseUserData writes {path}, which is ours: take it out")
        if f"/systemd/system/{UNIT}" in path:
            _check_variables(_text(_find(entry, "content")), path, spec)
        kept.append(entry)
    return [
        *kept,
        *({"path": path, "permissions": "0644", "content": content} for path, content in ours.items()),
    ]


def _check_keys(given: yaml.MappingNode, spec: MemberSpec) -> None:
    """Refuse keys of ``coreos.etcd2`` that make no member, or that are parameters of the stack."""
    if _find(given, "force-new-cluster") is not None:
        raise InvalidRequest(
            "BaseUserData has coreos.etcd2.force-new-cluster, which makes no member: take it out"
        )
    for variable, _ in spec.settings:
        if variable in TUNING.values() and _find(given, tuned.flag(variable)) is not None:
            raise tuned.refusal(variable, "coreos.etcd2")


def _check_variables(content: str, where: str, spec: MemberSpec) -> None:
    """Refuse a unit that sets what makes the member: it would win over our keys, or contradict them."""
    tuned.check(content, where, spec)
    for name in _OURS:
        forms = [rf"\b{name}="]
        if name not in _OTHER_PROGRAMS_FLAGS:
            forms.append(rf"\s--?{tuned.flag(name)}[=\s]")
        if re.search("|".join(forms), content):
            raise InvalidRequest(
                f"BaseUserData's {where} sets {name}, which is ours to set: take it out there"
            )


def _check_placeholders(root: yaml.MappingNode, text: str) -> None:
    """Refuse ``$private_ipv4`` where YAML's escapes hide or double it: it is replaced in the text, not in the value."""
    for found in documents.everything(root):
        if isinstance(found, yaml.ScalarNode) and "_ipv" in found.value:
            written = text[found.start_mark.index : found.end_mark.index]
            if _PLACEHOLDER.findall(written) != _PLACEHOLDER.findall(found.value):
                raise InvalidRequest(
                    f"BaseUserData has an escaped address placeholder in {found.value[:40]!r}: write it as plain text"
                )
