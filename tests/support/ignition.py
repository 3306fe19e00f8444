"""The judges of Ignition documents that nobody here wrote: Ignition, systemd, and podman's Quadlet generator."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from playground import tools
from tests.support.events import TUNED

GOLDEN = tools.ROOT / "tests/unit/golden"
BASE = (GOLDEN / "ignition-base.json").read_bytes()
"""A document of the user's own."""
FLATCAR = MemberSpec(
    Identity("etcd", "etcd-2", "10.0.0.2"),
    (("etcd-1", "http://10.0.0.1:2380"), ("etcd-2", "http://10.0.0.2:2380")),
    "existing",
    token="etcd",
    settings=TUNED,
)
FEDORA = replace(FLATCAR, image=f"registry.example/coreos/etcd@sha256:{'0123456789abcdef' * 4}")
SYSTEMD = Path("/lib/systemd/systemd")
SETFILES = '#!/bin/sh\nexec cat > "$RELABELED"\n'
"""In place of the program that labels files for SELinux: it keeps what Ignition asks for, one pattern a line."""
OWN = {"etc/selinux", "etc/selinux/config", "etc/.ignition-result.json"}
"""What the files stage needs, and what it notes down about itself."""

FLATCAR_UNIT = """\
[Unit]
Wants=network-online.target
After=network-online.target
Conflicts=etcd.service
Conflicts=etcd2.service
[Service]
Type=notify
NotifyAccess=all
Restart=always
RestartSec=10s
TimeoutStartSec=0
LimitNOFILE=40000
Environment="ETCD_IMAGE_URL=registry.example/coreos/etcd" "ETCD_IMAGE_TAG=v3.5.0"
Environment="ETCD_NAME=%m" "ETCD_USER=etcd" "ETCD_DATA_DIR=/var/lib/etcd" "ETCD_SSL_DIR=/etc/ssl/certs"
ExecStart=/usr/lib/flatcar/etcd-wrapper $ETCD_OPTS
[Install]
WantedBy=multi-user.target
"""
"""What Flatcar's own ``etcd-member.service`` sets, as of its etcd-wrapper for 3.5."""


def ignition(program: str) -> str:
    """The path of a program of Ignition's; a machine that could not get it skips the test and says so."""
    return _path(lambda: tools.ignition(program))


def podman(program: str) -> str:
    """The same for podman's."""
    return _path(lambda: tools.podman(program))


def _path(find: Callable[[], Path]) -> str:
    try:
        return str(find())
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))


def validate(document: bytes) -> str:
    """What ``ignition-validate`` says; empty if it accepts the document without a warning."""
    done = subprocess.run(
        [ignition("usr/bin/ignition-validate"), "-"], input=document, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode().strip()
    assert bool(done.returncode) == ("error at" in said or "error:" in said), said
    return said


class Machine:
    """The tree ``root`` of a machine that Ignition sets up. What it notes down lies in ``folder``, outside the tree."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        if os.geteuid():
            pytest.skip("Ignition gives files to root, so it must run as root")
        self.folder, self.root = folder, root or folder / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "ignition.log"

    def fetch(self, document: bytes) -> bool:
        """Run the stage that reads the document, and what it points to; whether Ignition was content."""
        (self.folder / "config.ign").write_bytes(document)
        return self._stage("fetch")

    def apply(self, document: bytes) -> None:
        """Run both stages: afterwards ``root`` is what the document describes."""
        selinux = self.root / "etc/selinux"
        selinux.mkdir(parents=True, exist_ok=True)
        (selinux / "config").write_text("SELINUXTYPE=targeted\n")
        assert self.fetch(document), self.log.read_text()
        assert self._stage("files"), self.log.read_text()

    @property
    def config(self) -> dict[str, Any]:
        """The document as Ignition understood it, with all that it points to merged."""
        found: dict[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        return found

    @property
    def relabeled(self) -> set[str]:
        """The paths on the machine that Ignition wanted SELinux labels for."""
        patterns = (self.folder / "relabeled").read_text().split("\0")
        return {pattern.removeprefix(str(self.root)) for pattern in patterns}

    def tree(self) -> dict[str, str]:
        """All that is in the tree: path and, in one text, mode, owner and contents or target."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name, status = str(path.relative_to(self.root)), path.lstat()
            if name in OWN:
                continue
            inside = (
                f" -> {path.readlink()}"
                if path.is_symlink()
                else f" {path.read_bytes().decode()}"
                if path.is_file()
                else ""
            )
            found[name] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}{inside}"
        return found

    def _stage(self, stage: str) -> bool:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        (programs / "setfiles").write_text(SETFILES)
        (programs / "setfiles").chmod(0o755)
        with self.log.open("ab") as log:
            done = subprocess.run(
                [
                    ignition("usr/lib/dracut/modules.d/30ignition/ignition"),
                    *("--platform", "file", "--stage", stage, "--root", str(self.root), "--log-to-stdout"),
                    *("--config-cache", str(self.folder / "config.json")),
                    *("--state-file", str(self.folder / "state"), "--fetch-timeout", "10s"),
                ],
                env={
                    "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
                    "IGNITION_CONFIG_FILE": str(self.folder / "config.ign"),
                    "RELABELED": str(self.folder / "relabeled"),
                    "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", ""),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=60,
                check=False,
            )
        return not done.returncode


def load(unit: str, *folders: Path) -> str:
    """What systemd itself understands of a unit whose files and drop-ins lie in ``folders``: its own dump."""
    if not SYSTEMD.exists():
        pytest.skip(f"{SYSTEMD} is not there")
    home = folders[0]
    done = subprocess.run(
        # in a user namespace, because it does not want to be tested as root
        ["unshare", "--user", "--map-user=1000", str(SYSTEMD), "--test", "--system", f"--unit={unit}"],
        env={
            # the colon at the end: the system's own units, for the targets
            "SYSTEMD_UNIT_PATH": f"{':'.join(map(str, folders))}:",
            "XDG_RUNTIME_DIR": str(home),
            "HOME": str(home),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = done.stderr.decode()
    if "Failed to allocate manager object" in said:  # it asks the kernel for a control group, even in a test
        pytest.skip(f"systemd cannot be tested here: {said.splitlines()[-1]}")
    parts = re.split(r"^\t-> Unit (.*):$", done.stdout.decode(), flags=re.MULTILINE)
    assert unit in parts, said
    return parts[parts.index(unit) + 1]


def environment_in(dump: str) -> dict[str, str]:
    """The variables that systemd would start the unit with."""
    lines = re.findall(r"^\t\tEnvironment: ([^=]*)=(.*(?:\n(?!\t\t).*)*)", dump, flags=re.MULTILINE)
    gone = re.findall(r"^\t\tUnsetEnvironment: (.*)$", dump, flags=re.MULTILINE)
    return {name: value for name, value in lines if name not in gone}


def settings_in(dump: str, *names: str) -> dict[str, str]:
    """Single settings of the unit."""
    return {name: re.findall(rf"^\t\t+{name}: (.*)$", dump, flags=re.MULTILINE)[-1] for name in names}


def quadlet(root: Path) -> str:
    """The unit that podman's generator makes of the Quadlet files in a machine's tree."""
    done = subprocess.run(
        [podman("usr/libexec/podman/quadlet"), "-dryrun"],
        env={"QUADLET_UNIT_DIRS": str(root / "etc/containers/systemd")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    header, _, unit = done.stdout.partition("---etcd.service---\n")
    assert (header, bool(unit)) == ("", True), done.stdout + done.stderr
    return unit


def etcd_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those that etcd reads."""
    return {name: value for name, value in environment.items() if name.startswith("ETCD_")}
