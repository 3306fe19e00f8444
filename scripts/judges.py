"""Brings programs that judge UserData, and that nobody here wrote, into .tools/<name>/root, for the tests.

    python3 -m scripts.judges ignition    Ignition and ignition-validate: this system's package, else Debian 12's
    python3 -m scripts.judges podman      podman, its Quadlet generator and what it runs containers with: Debian 13's

Packages are downloaded and unpacked, never installed, as those of etcd are (scripts/etcd.py). Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.etcd import TOOLS, Unavailable, unpack


@dataclass(frozen=True)
class Judge:
    """Packages, the Debian releases that have them (None: this system's own), and what is asked for its version.

    `program` is its path in the tree, `oldest` the first version that does.
    """

    packages: tuple[str, ...]
    releases: tuple[str | None, ...]
    program: str
    oldest: tuple[int, int]


JUDGES = {
    "ignition": Judge(
        ("ignition",),
        (None, "bookworm"),
        "usr/lib/dracut/modules.d/30ignition/ignition",
        oldest=(2, 11),  # the first that reads spec 3.3
    ),
    "podman": Judge(
        # with what podman and its helpers link to, beyond what a small Debian 13 has
        (
            *("podman", "conmon", "crun", "netavark"),
            *("golang-github-containers-common", "golang-github-containers-image"),
            *("libassuan9", "libatomic1", "libcap2", "libglib2.0-0t64", "libgpg-error0", "libgpgme11t64"),
            *("libseccomp2", "libsqlite3-0", "libsubid5", "libyajl2"),
        ),
        ("trixie",),
        "usr/libexec/podman/quadlet",
        oldest=(5, 0),  # the first whose Quadlet knows Entrypoint=
    ),
}


def bring(name: str) -> str:
    """Fill .tools/`name`/root from the first source that works. Returns where it is from.

    Raises Unavailable with every reason if none works.
    """
    judge, into = JUDGES[name], TOOLS / name
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    reasons: list[str] = []
    for release in judge.releases:
        try:
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=TOOLS) as scratch:
                taken = unpack(judge.packages, Path(scratch), release)
                check_version(judge, Path(scratch) / "root" / judge.program)
                shutil.move(Path(scratch) / "root", into)
        except Unavailable as reason:
            reasons.append(str(reason))
        else:
            return f"from {taken}{f' ({reasons[0]})' if reasons else ''}"
    raise Unavailable(f"not to be had here: {'; '.join(reasons)}")


def check_version(judge: Judge, program: Path) -> None:
    """Raise Unavailable if the program does not run here, or is too old."""
    try:
        done = subprocess.run(
            [program, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{program.name} does not run here: {error}") from error
    found = re.search(r"([0-9]+)\.([0-9]+)", done.stdout)
    if not found or (int(found[1]), int(found[2])) < judge.oldest:
        wanted = ".".join(str(number) for number in judge.oldest)
        raise Unavailable(f"{program.name} is {done.stdout.strip()}, older than {wanted}")


def main(arguments: Sequence[str]) -> int:
    """Bring the judge that the command line names. Returns the exit status."""
    name = arguments[0] if len(arguments) == 1 else ""
    if name not in JUDGES:
        print(__doc__)
        return 2
    TOOLS.mkdir(exist_ok=True)
    try:
        print(f"{name}: {bring(name)}", flush=True)
    except Unavailable as reason:
        print(f"{name}: {reason}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
