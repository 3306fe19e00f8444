"""Where the programs are that `make tools` fetches: the one module that knows those paths.

It fetches nothing, and starts a program only to ask for its version.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

TOOLS = ROOT / ".tools"


class ToolMissing(Exception):
    """A program is not there yet. The message says which command fetches it."""


def sam() -> Path:
    """Return the path of AWS SAM's command line."""
    return _tool(TOOLS / "sam/bin/sam")


def aws() -> Path:
    """Return the path of the AWS command line."""
    return _tool(TOOLS / "aws/bin/aws")


def uv() -> Path:
    """Return the path of uv, which the build of the layers calls."""
    return _tool(TOOLS / "uv/bin/uv")


def cloud_python() -> Path:
    """Return the Python that has the local CloudFormation's packages."""
    return _tool(TOOLS / "cloud/bin/python")


def etcd(version: str = "default") -> Path:
    """Return the path of etcd; etcdctl lies beside it.

    `version` is `3.4`, `3.5` or `default`, which the environment variable ETCD_VERSION decides if it is set.
    """
    if version == "default":
        version = os.environ.get("ETCD_VERSION") or version
    command = "make tools" if version == "default" else "make etcd-versions"
    return _tool(TOOLS / "etcd" / version / "etcd", command)


def etcd_version(program: Path) -> str:
    """What an etcd says of its version, ``3.5.16`` for instance. ``program``: it, or the folder that it lies in."""
    program = program / "etcd" if program.is_dir() else program
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.partition("\n")[0].removeprefix("etcd Version: ")


def runtime() -> Path:
    """Return the folder of what Lambda's runtime brings along besides Python, for Python 3.13 on this machine."""
    return _tool(TOOLS / "runtime/packages/awslambdaric/__main__.py", "make judges", os.R_OK).parent.parent


def ignition(program: str) -> Path:
    """Return the path of a program in Ignition's package."""
    return _tool(TOOLS / "ignition/root" / program, "make judges")


def podman(program: str) -> Path:
    """Return the path of a program of podman's; above it lies a tree of Debian 13's packages."""
    return _tool(TOOLS / "podman/root" / program, "make judges")


def _tool(path: Path, command: str = "make tools", mode: int = os.X_OK) -> Path:
    if not os.access(path, mode):
        raise ToolMissing(f"{path.relative_to(ROOT)} is missing: run {command}")
    return path
