"""How the Debian tree of container machines is made. A change in this file makes a new tree: its text is the recipe.

debootstrap makes the base. The host's own apt fetches everything else, so proxies, certificates and credentials are the
host's; apt inside the tree installs it from a repository in the tree. etcd's packages stay in that repository, not
installed: a machine's cloud-init installs them at its first boot, without a network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BASE = ("systemd", "systemd-sysv", "dbus", "iproute2", "ca-certificates")
"""What debootstrap installs beside the essential packages."""
INSTALLED = ("cloud-init", "curl")
"""What Debian's cloud images have too, and a UserData may use. debootstrap's own resolver fails on cloud-init."""
OFFERED = ("etcd-server", "etcd-client")
"""What lies in the tree's repository for the machine's own apt, with all dependencies."""
REPOSITORY = "srv/apt"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FILES = {
    # the repository, and nothing that would want a network
    "etc/apt/sources.list": f"deb [trusted=yes] file:/{REPOSITORY} ./\n",
    "etc/apt/apt.conf.d/playground": 'Acquire::Languages "none";\n',
    # nobody reads manuals there; a machine lives shorter than the host's caches
    "etc/dpkg/dpkg.cfg.d/playground": (
        "force-unsafe-io\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/doc/*\n"
    ),
    "etc/cloud/cloud.cfg.d/90-playground.cfg": (
        "datasource_list: [NoCloud, None]\n"  # the seed, instead of EC2's metadata service
        "network: {config: disabled}\n"  # the address is there before the machine boots
        "apt: {preserve_sources_list: true}\n"
        "locale: false\n"  # no locale is generated
        "ssh_genkeytypes: []\n"  # and no host key, for there is no sshd
    ),
    "etc/machine-id": "",  # every machine makes its own
    "etc/resolv.conf": "",
    "etc/fstab": "",
}
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer")
"""Timers that would hold apt's lock, or that have nothing to do in a container."""

Run = Callable[[Sequence[str], Mapping[str, str]], None]
"""Runs a command with these variables added to the environment, logs it, and raises if it fails."""
Say = Callable[[str], None]


def identity(release: str, architecture: str) -> str:
    """What names a tree: other text in this file, another name."""
    recipe = Path(__file__).read_bytes() + f"{release} {architecture}".encode()
    return f"{release}-{architecture}-{hashlib.sha256(recipe).hexdigest()[:12]}"


def build(tree: Path, release: str, architecture: str, run: Run, say: Say) -> None:
    """Make the tree in a folder that is not there yet. Takes minutes, and the network."""
    say(f"debootstrap of {release} (a minute or two) ...")
    mirror = [found] if (found := _mirror()) else []  # else debootstrap knows one by itself
    options = ["--variant=minbase", f"--arch={architecture}", f"--include={','.join(BASE)}"]
    run(["debootstrap", *options, f"--keyring={KEYRING}", release, str(tree), *mirror], _proxies())
    scratch = tree.with_name(tree.name + ".apt")
    source = re.sub(
        r"^deb ",
        f"deb [arch={architecture} signed-by={KEYRING}] ",
        (tree / "etc/apt/sources.list").read_text(),
    )
    try:
        for path, content in FILES.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).unlink(missing_ok=True)  # a link that debootstrap took from here
            (tree / path).write_text(content, encoding="utf-8")
        policy = tree / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        say(f"{', '.join(INSTALLED)} into it ...")
        _fetch(tree, scratch, source, INSTALLED, run)
        _inside(tree, run, "apt-get", "update")
        _inside(tree, run, "apt-get", "install", "--yes", "--no-install-recommends", *INSTALLED)
        policy.unlink()
        say(f"{', '.join(OFFERED)} into its repository ...")
        shutil.rmtree(tree / REPOSITORY)
        _fetch(tree, scratch, source, OFFERED, run)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _inside(tree, run, "systemctl", "mask", *MASKED)
    _inside(tree, run, "apt-get", "clean")
    for name in ("etc/hostname", "var/lib/dbus/machine-id"):
        (tree / name).unlink(missing_ok=True)
    (tree / "var/log/journal").mkdir(exist_ok=True)  # the journal is kept, to be read after the machine's end
    for name in ("etc/.updated", "var/.updated"):  # nothing is to be brought up to date at a boot
        (tree / name).touch()


def _mirror() -> str:
    """The mirror of Debian that the host's apt uses; nothing if it knows none that debootstrap could take."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        origin, uri, codename, *_ = [*line.split(" "), "", ""]
        if origin == "Debian" and re.match(r"(https?|file):", uri) and "-" not in codename:
            return uri
    return ""


def _proxies() -> dict[str, str]:
    """apt's proxies, for debootstrap, which does not ask apt."""
    found = {}
    for scheme in ("http", "https"):
        answer = subprocess.run(
            ["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"],
            capture_output=True,
            text=True,
            check=True,
        )
        if (proxy := answer.stdout.strip().removeprefix("proxy=").strip("'")) not in {"", "DIRECT"}:
            found[f"{scheme}_proxy"] = proxy
    return found


def _fetch(tree: Path, scratch: Path, source: str, packages: Sequence[str], run: Run) -> None:
    """Let the host's apt fetch what the tree lacks for these packages, and make the tree's repository of it."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    (scratch / "sources.list").write_text(source, encoding="utf-8")
    (scratch / "empty").mkdir(exist_ok=True)
    settings = {
        "Dir::State::Lists": scratch / "lists",
        "Dir::State::status": tree / "var/lib/dpkg/status",
        "Dir::Cache": scratch / "cache",
        "Dir::Cache::archives": scratch / "cache/archives",
        "Dir::Etc::SourceList": scratch / "sources.list",
        "Dir::Etc::SourceParts": scratch / "empty",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": scratch / "empty",
        "APT::Architecture": source.partition("arch=")[2].partition(" ")[0],
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "APT::Update::Post-Invoke::": "true",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    run(["apt-get", *options, "update"], {})
    run(["apt-get", *options, "install", "--download-only", "--yes", *packages], {})
    repository = tree / REPOSITORY
    repository.mkdir(parents=True, exist_ok=True)
    for package in sorted((scratch / "cache/archives").glob("*.deb")):
        shutil.move(package, repository / package.name)
    entries = [_entry(package) for package in sorted(repository.glob("*.deb"))]
    (repository / "Packages").write_text("\n".join(entries), encoding="utf-8")


def _entry(package: Path) -> str:
    """A package's paragraph in the repository's index."""
    control = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    size = package.stat().st_size
    return f"{control.stdout.rstrip()}\nFilename: ./{package.name}\nSize: {size}\nSHA256: {digest}\n"


def _inside(tree: Path, run: Run, *command: str) -> None:
    """Run a command in the tree; what it leaves running is killed."""
    private = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={tree}", "--mount-proc"]
    clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
    run([*private, *clean, *command], {"PATH": f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"})
