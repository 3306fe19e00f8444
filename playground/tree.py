"""Debian trees for container machines: found where they were built once, or built by the recipe.

They lie outside the checkout, in ETCD_RESIZE_TREES, by default etcd-resize/trees in the user's cache. A tree is never
written to: machines are overlays on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from playground import images, recipe

DEFAULT = images.TRIXIE.tree
RELEASES = {debian.tree: f"Debian {debian.number}" for debian in images.RELEASES}
VARIABLE = "ETCD_RESIZE_TREES"
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
}
"""The programs that trees and container machines need, and Debian's and Ubuntu's packages that have them."""


class TreeError(Exception):
    """A tree cannot be had. The message says why, and what to do."""


def missing() -> str:
    """What keeps this machine from container machines, as a sentence; nothing if they are to be had."""
    if sys.platform != "linux":
        return "Container machines need Linux."
    if os.geteuid() != 0:
        return "Container machines need root."
    if packages := _packages():
        return f"Container machines need {', '.join(packages)}: apt-get install {' '.join(packages)}"
    return ""


def install() -> None:
    """Install the Debian packages that are missing. Raises TreeError if they cannot be had."""
    if os.geteuid() != 0 or not _packages():
        return
    if not shutil.which("apt-get"):
        raise TreeError(
            f"Container machines need {', '.join(_packages())}, and there is no apt-get to get them."
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing {' '.join(_packages())} ...", file=sys.stderr, flush=True)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *_packages()]
    if _quietly(command, environment):
        _quietly(["apt-get", "update"], environment)  # a fresh machine has no lists yet
        if said := _quietly(command, environment):
            raise TreeError(f"`{' '.join(command)}` failed: {said}")


def find(release: str = DEFAULT) -> Path:
    """The tree of a release, built if it is not there yet. Raises TreeError."""
    if release not in RELEASES:
        raise TreeError(f"There is no tree of {release}, only of {', '.join(RELEASES)}.")
    tree = where() / recipe.identity(release, _architecture())
    if not tree.exists():
        if lacking := missing():
            raise TreeError(lacking)
        with _locked(release):
            if not tree.exists():  # nobody else has built it meanwhile
                _build(tree, release)
    return tree


def where() -> Path:
    """The folder of the trees."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or cache / "etcd-resize/trees").resolve()


def _build(tree: Path, release: str) -> None:
    for abandoned in where().glob(f".{release}-*"):
        shutil.rmtree(abandoned)
    draft = where() / f".{tree.name}"
    log = where() / f"{release}.log"

    def run(command: Sequence[str], variables: Mapping[str, str]) -> None:
        with log.open("ab") as output:
            output.write(f"\n+ {' '.join(command)}\n".encode())
            output.flush()
            ended = subprocess.run(
                command,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if ended.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
            raise TreeError(f"The tree of {release} could not be built, see {log}: {last}")

    def say(line: str) -> None:
        print(f"tree of {RELEASES[release]}: {line}", file=sys.stderr, flush=True)

    log.unlink(missing_ok=True)
    say(f"building {tree}, once")
    recipe.build(draft, release, _architecture(), run, say)
    draft.rename(tree)
    say("done")


@contextlib.contextmanager
def _locked(release: str) -> Iterator[None]:
    """One build of a release at a time, by whoever."""
    where().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (where() / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _architecture() -> str:
    answer = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def _packages() -> list[str]:
    """Those that are missing here."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    lacking = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)]
    return lacking if recipe.KEYRING.exists() else [*lacking, "debian-archive-keyring"]


def _quietly(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command; nothing if it succeeded, else the last line that it said."""
    ended = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return (ended.stdout.strip().splitlines() or ["it said nothing"])[-1] if ended.returncode else ""
