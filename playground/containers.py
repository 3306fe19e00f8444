"""Containers: a Debian tree that systemd-nspawn boots with its own systemd, and cloud-init from a UserData.

A container is an overlay on a tree (`playground.tree`), in a network namespace with an address of its own
(`playground.network`) and a control group of its own. It knows nothing of stacks. `boot` is for tests:

    with boot(user_data, folder=tmp_path) as container:
        container.run("cloud-init", "status", "--wait")
        container.until("systemctl", "is-active", "etcd")
        assert "hello" in container.run("cat", "/etc/hello")
        print(container.console.read_text())

Several in one network, so that they reach each other:

    with network.scratch(tmp_path) as net:
        with boot(one, folder=tmp_path / "1", within=net, host=11) as first, boot(...) as second:
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from playground import control_groups, network, tree
from playground.network import Network

STOP_SECONDS = 20.0
"""How long a machine may take to shut down before its power goes."""
UP_SECONDS = 10.0
"""How long its init may take to be there."""
POLL_SECONDS = 0.05
REBOOTS = 133
"""systemd-nspawn's status when the machine rebooted itself (EXIT_FORCE_RESTART): it wants to be started again."""
SEED = "var/lib/cloud/seed/nocloud"
"""Where cloud-init looks for the UserData (its datasource NoCloud)."""
TRUSTED = "etc/ssl/certs/ca-certificates.crt"
FOLDERS = ("upper", "work", "root")
"""What an overlay needs beside the tree: what differs, a scratch folder of the kernel's, and where it is mounted."""
LAUNCH = """
set -e
echo $$ > "$1"
mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work" root
shift 2
exec "$@"
"""
"""Becomes systemd-nspawn, in the container's control group. The mount is seen by it alone, and ends with it."""
VARIABLES = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "TERM=linux",
)
"""What a command in a container gets of the environment."""
FOLDERS_DEEP = 3
"""How deep the folders go that `prepare` finds already made."""


class ContainerError(Exception):
    """A container does not do what was asked. The message says what it said."""


class Container:
    """One container. `start` boots it, also again after `stop`; `remove` gives back what it has of the host.

    In `folder` lie `user-data`, `console.log`, and `upper`: what differs from the tree, all of the machine's data.
    """

    def __init__(
        self,
        folder: Path,
        user_data: bytes,
        *,
        base: Path,
        within: Network,
        address: str,
        instance: str = "i-0playground",
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        """`base` is the tree. `prepare` may put files into a folder that the machine sees as its /."""
        self.folder = folder.resolve()
        self.address = address
        self.console = self.folder / "console.log"
        self.upper = self.folder / "upper"
        self.process: subprocess.Popen[bytes] | None = None
        self._base = base
        self._network = within
        self._instance = instance
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        _copy_folders(base, self.upper)
        self.give(user_data)
        if prepare:
            prepare(self.upper)
        self.namespace, self.port = within.attach(address)
        self.control_group = within.control_group / self.namespace

    # ---- on and off ----

    def give(self, user_data: bytes) -> None:
        """Lay the UserData where cloud-init looks for it, byte for byte, with the metadata of the instance."""
        seed = self.upper / SEED
        seed.mkdir(parents=True, exist_ok=True)
        metadata = {
            "instance-id": self._instance,
            "local-hostname": "ip-" + self.address.replace(".", "-"),
            "local-ipv4": self.address,
        }
        (self.folder / "user-data").write_bytes(user_data)
        (seed / "user-data").write_bytes(user_data)
        (seed / "meta-data").write_text(json.dumps(metadata), encoding="utf-8")

    def start(self) -> subprocess.Popen[bytes]:
        """Switch it on; return systemd-nspawn's process, which lives as long as the machine does."""
        control_groups.end(self.control_group)
        self.control_group.mkdir()
        options = [
            *("--quiet", "--boot", "--directory=root", f"--machine={self.namespace}"),
            *("--keep-unit", "--register=no", "--settings=no", "--kill-signal=SIGRTMIN+3"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"),
            f"--network-namespace-path=/run/netns/{self.namespace}",
        ]
        with self.console.open("ab") as console:
            self.process = subprocess.Popen(
                _launch(self.control_group / "cgroup.procs", self._base, "systemd-nspawn", *options),
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C in the terminal is not for the machines
            )
        return self.process

    def stop(self) -> None:
        """Shut it down in order; if that takes too long, the power goes."""
        if self.process is None:
            return
        self.resume()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.ended()

    def kill(self) -> None:
        """The power goes."""
        if self.process is not None:
            self.process.kill()
            self.ended()

    def ended(self) -> None:
        """After its power went: wait for systemd-nspawn, and kill what is left of it."""
        if self.process is not None:
            self.process.wait()
            self.process = None
        control_groups.end(self.control_group)

    def remove(self) -> None:
        """End it, and give its address back. What lies in its folder stays."""
        self.kill()
        self._network.detach(self.namespace)

    def reboot(self) -> None:
        """Let its own systemd reboot it: the same machine, with all its data."""
        if self.process is None:
            raise ContainerError("The machine is off.")
        self.run("systemctl", "reboot", check=False)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContainerError(f"The machine did not shut down, see {self.console}.") from None
        if status != REBOOTS:
            raise ContainerError(f"The machine went off instead of rebooting, see {self.console}.")
        self.start()

    def pause(self) -> None:
        """It hangs: connections stay, nothing is answered."""
        control_groups.freeze(self.control_group, frozen=True)

    def resume(self) -> None:
        """It goes on after `pause`."""
        control_groups.freeze(self.control_group, frozen=False)

    def cut_off(self) -> None:
        """Nobody reaches it any more, and it reaches nobody."""
        network.switch(self.port, on=False)

    def heal(self) -> None:
        """It is on the network again."""
        network.switch(self.port, on=True)

    # ---- looking in ----

    def leader(self) -> int | None:
        """The process that is the container's init, by its number here; None while there is none."""
        return leader(self.process.pid) if self.process else None

    def run(self, *command: str, check: bool = True, patience: float = 60.0) -> str:
        """Run a command in it as root, and return what it printed. Raises ContainerError if `check` and it fails."""
        if self.process is None:
            raise ContainerError("The machine is off.")
        _wait(lambda: self.leader() is not None, UP_SECONDS, "come up", self)
        return run(self.process.pid, *command, check=check, patience=patience)

    def until(self, *command: str, patience: float = 30.0) -> str:
        """Run a command again and again until it succeeds, and return what it printed. Raises ContainerError."""
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(ContainerError):
                return self.run(*command)
            if time.monotonic() > deadline:
                return self.run(*command)
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def boot(
    user_data: bytes,
    *,
    folder: Path,
    release: str = tree.DEFAULT,
    within: Network | None = None,
    host: int = 11,
    prepare: Callable[[Path], None] | None = None,
) -> Iterator[Container]:
    """A container that boots from a UserData, in a network of its own if none is given. It is gone afterwards.

    Its address is <prefix>.1.<host>. `prepare` gets a folder that the machine sees as its /, before the boot, with the
    tree's folders but none of its files. Raises TreeError if there is no tree to be had here.
    """
    base = tree.find(release)
    with contextlib.ExitStack() as ending:
        net = within or ending.enter_context(network.scratch(folder))
        container = Container(
            folder / "machine",
            user_data,
            base=base,
            within=net,
            address=f"{net.prefix}.1.{host}",
            prepare=prepare,
        )
        ending.callback(shutil.rmtree, container.folder / "work", ignore_errors=True)
        ending.callback(container.remove)
        container.start()
        yield container


def probe(base: Path, folder: Path) -> None:
    """Raise ContainerError if a folder cannot hold what differs from a tree: not every file system can."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in FOLDERS:
            (Path(scratch) / name).mkdir()
        tried = subprocess.run(
            _launch(Path("/dev/null"), base, "true"), cwd=scratch, capture_output=True, text=True, check=False
        )
    if tried.returncode:
        raise ContainerError(
            f"{folder} cannot hold container machines, choose another: {tried.stderr.strip()}"
        )


def leader(pid: int) -> int | None:
    """The init that a systemd-nspawn process has started; None while there is none.

    Before it becomes the init, the process is systemd-nspawn still, which has yet to change its root.
    """
    try:
        launcher = Path(f"/proc/{pid}/exe").readlink()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        for child in children:
            status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            inside = len(numbers) > len(_own_numbers()) and numbers[-1] == "1"
            if inside and Path(f"/proc/{child}/exe").readlink() != launcher:
                return int(child)
    except OSError:  # it ended while it was looked at
        return None
    return None


def enter(pid: int, *command: str) -> list[str]:
    """The command as root in the container of a systemd-nspawn process. Raises ContainerError if that is off."""
    init = leader(pid)
    if init is None:
        raise ContainerError("The machine is off.")
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    return [
        "nsenter",
        f"--target={init}",
        *spaces,
        "--root",
        "--wd=/",
        "--",
        "env",
        "-i",
        *VARIABLES,
        *command,
    ]


def run(pid: int, *command: str, check: bool = True, patience: float = 60.0) -> str:
    """Run a command in the container of a systemd-nspawn process, and return what it printed.

    `patience` in seconds. Raises ContainerError if `check` and the command fails, or if the container is off.
    """
    done = subprocess.run(
        enter(pid, *command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    if check and done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        raise ContainerError(f"`{' '.join(command)}` ended with status {done.returncode}: {said}")
    return done.stdout


def trust(base: Path, certificate: Path, root: Path) -> None:
    """Let a machine trust a certificate: in its bundle, and where update-ca-certificates finds it again."""
    pem = certificate.read_text(encoding="utf-8")
    local = root / "usr/local/share/ca-certificates"
    local.mkdir(parents=True, exist_ok=True)
    (local / "playground.crt").write_text(pem, encoding="utf-8")
    (root / TRUSTED).write_text((base / TRUSTED).read_text(encoding="utf-8") + pem, encoding="utf-8")


def _launch(processes: Path, base: Path, *command: str) -> list[str]:
    """The command, to be run in an overlay's folder, where `root` is then the overlay for it alone."""
    return ["unshare", "--mount", "sh", "-c", LAUNCH, "launch", str(processes), str(base), *command]


def _own_numbers() -> list[str]:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()


def _copy_folders(base: Path, upper: Path) -> None:
    """Make the tree's upper folders with their modes and times, so that a file put into one changes nothing else."""
    found = []
    for parent, folders, _ in os.walk(base):
        folders[:] = [name for name in folders if not (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / name).relative_to(base) for name in folders]
        if len(Path(parent).relative_to(base).parts) == FOLDERS_DEEP - 1:
            folders.clear()
    for path in found:
        (upper / path).mkdir()
    for path in reversed(found):  # a folder's time is that of the last thing made in it
        status = (base / path).stat()
        os.chown(upper / path, status.st_uid, status.st_gid)
        shutil.copystat(base / path, upper / path)


def _wait(condition: Callable[[], bool], seconds: float, what: str, container: Container) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ContainerError(f"The machine did not {what}, see {container.console}.")
        time.sleep(POLL_SECONDS)
