"""The dialect ``ignition``: Flatcar, and Fedora CoreOS if the spec names an image.

Flatcar has a unit of its own for etcd, ``etcd-member.service``, which hands its ``ETCD_*`` variables to a container:
the document brings a drop-in and enables it. Fedora CoreOS has none: the document brings a Quadlet, from which
podman's generator makes ``etcd.service``, and the same drop-in for that
(https://docs.podman.io/en/latest/markdown/podman-systemd.unit.5.html).

Ignition runs once, at the first boot, and reads no gzip of its own UserData.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import MemberSpec
from etcd_resize.userdata.etcdctl import PROFILE_PATH, profile
from etcd_resize.userdata.ignition_base import merge
from etcd_resize.userdata.systemd import NEVER, drop_in

VERSION = "3.3.0"
"""Of the specification: Flatcar has read it since 3185, Ignition since 2.11."""

FLATCAR_UNIT = "etcd-member.service"
FEDORA_UNIT = "etcd.service"
DROP_IN = "99-etcd-resize.conf"
"""The last one wins, and this one must: it sets what the member needs."""

QUADLET_PATH = "/etc/containers/systemd/etcd.container"
DATA_DIR = "/var/lib/etcd"

_SAFE = "/:=@,*'"
"""What may stand as it is in a ``data:`` URL, for a person to read."""

_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_.-]+)+")
_ETCDCTL = "sudo podman exec --interactive --env ETCDCTL_API=3 --env ETCDCTL_ENDPOINTS={url} etcd etcdctl"


def render(spec: MemberSpec, base: bytes) -> bytes:
    """The Ignition document, compact JSON in UTF-8. Raises InvalidRequest for what it cannot serve."""
    if spec.release:
        raise InvalidRequest(
            "EtcdRelease is not for the dialect ignition: leave it empty on Flatcar,"
            " or name a container image in EtcdImage on Fedora CoreOS"
        )
    environment = spec.environment(DATA_DIR)
    if not _PLAIN_PATH.fullmatch(environment["ETCD_DATA_DIR"]):
        raise InvalidRequest(f"the data directory {environment['ETCD_DATA_DIR']!r} is no plain absolute path")
    # only a document of the user's can bring what must not be there
    contents = drop_in(environment, unset=NEVER if base else ())
    own = (_fedora if spec.image else _flatcar)(spec, environment, contents)
    return _dump(merge(base, own, environment, spec) if base else own)


def fetching(url: str, sha256: str) -> bytes:
    """A short document in whose place Ignition takes the one at ``url``, if it has this sha256 (hexadecimal).

    Ignition waits for a server that does not answer, and fails the boot if the sum is another
    (https://coreos.github.io/ignition/operator-notes/).
    """
    source = {"source": url, "verification": {"hash": f"sha256-{sha256}"}}
    return _dump({"ignition": {"version": VERSION, "config": {"replace": source}}})


def _flatcar(spec: MemberSpec, environment: Mapping[str, str], contents: str) -> dict[str, Any]:
    for name, value in environment.items():
        if "\n" in value or "\r" in value:  # its wrapper writes them into a file, one a line
            raise InvalidRequest(f"{name} has a line break, which Flatcar cannot hand to etcd")
    unit = {"name": FLATCAR_UNIT, "enabled": True, "dropins": [{"name": DROP_IN, "contents": contents}]}
    return {
        "ignition": {"version": VERSION},
        "storage": {"files": [_file(PROFILE_PATH, profile(spec))]},
        "systemd": {"units": [unit]},
    }


def _fedora(spec: MemberSpec, environment: Mapping[str, str], contents: str) -> dict[str, Any]:
    data = environment["ETCD_DATA_DIR"]
    alias = f"alias etcdctl='{_ETCDCTL.format(url=spec.identity.client_url)}'\n"
    return {
        "ignition": {"version": VERSION},
        "storage": {
            "directories": [{"path": data, "mode": 0o700}],
            "files": [
                _file(QUADLET_PATH, _unit_file(_quadlet(spec.image, data))),
                _file(PROFILE_PATH, profile(spec) + alias),
            ],
        },
        # no "enabled": what a generator makes is started by its [Install] section
        "systemd": {
            "units": [{"name": FEDORA_UNIT, "dropins": [{"name": DROP_IN, "contents": contents}]}],
        },
    }


def _quadlet(image: str, data: str) -> dict[str, Sequence[tuple[str, str]]]:
    return {
        "Unit": (
            ("Description", "etcd"),
            ("Wants", "network-online.target"),
            ("After", "network-online.target"),
        ),
        "Container": (
            ("ContainerName", "etcd"),
            ("Image", image),
            ("Entrypoint", "/usr/local/bin/etcd"),
            ("Network", "host"),
            ("User", "0"),
            # Z: SELinux lets this container, and no other, into the directory
            ("Volume", f"{data}:{data}:Z"),
            # the variables of the drop-in: systemd reads them once, instead of podman and then systemd
            ("PodmanArgs", "--env=ETCD_*"),
        ),
        "Service": (("TimeoutStartSec", "900"),),  # the first start pulls the image
        "Install": (("WantedBy", "multi-user.target"),),
    }


def _unit_file(sections: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    return "\n".join(
        "".join([f"[{section}]\n", *(f"{key}={value}\n" for key, value in lines)])
        for section, lines in sections.items()
    )


def _file(path: str, text: str) -> dict[str, Any]:
    return {"path": path, "mode": 0o644, "contents": {"source": f"data:,{quote(text, safe=_SAFE)}"}}


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
