"""How each kind of machine boots and runs: `ProcessMachine`, `ContainerMachine`.

A machine has a thread that runs it as it was ordered to (`machines.order`), so that any process can break it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import pwd
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playground import containers, machines, records
from playground.cloud.userdata import Configuration, InvalidUserData, fetches, read
from playground.containers import Container
from playground.machines import Launch, Machine
from playground.network import Network
from playground.processes import start_time

RESTART_SECONDS = 0.1
"""What systemd waits before it restarts a unit that crashed (RestartSec)."""
RESTARTS = 10
"""How often a unit that crashes is restarted before it is left alone."""
FETCH_SECONDS = 10.0
"""How long the local S3 may take to send a UserData that did not fit."""
STOP_SECONDS = 5.0
"""How long etcd may take to end after SIGTERM before it is killed."""
POLL_SECONDS = 0.05
"""How often a supervisor whose machine is down looks for orders."""


class Supervised:
    """What the kinds of machines have in common: the folder that tells of the machine, and the thread that runs it.

    A kind says what its first boot does (`_install`), how it starts (`_start`), when it is started again after it ended
    by itself (`_again`), and how long it may take to stop.
    """

    kind: str
    stop_seconds: float

    def __init__(self, folder: Path, launch: Launch, name: str = "") -> None:
        self.folder = folder
        self.user_data = launch.user_data
        self.facts: dict[str, Any] = {
            "kind": self.kind,
            "instance": launch.instance,
            "address": launch.address,
            "image": launch.image,
            "name": name,
            "state": "never-booted",
            "pid": None,
            "started": "",
            "protected": False,
        }
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._supervisor = threading.Thread(
            target=self._supervise, daemon=True, name=f"machine-{launch.instance}"
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "user-data").write_bytes(launch.user_data)
        self.save()

    def boot(self, *, starts: bool = True) -> bool:
        """Boot for the first time. False if that ends without a machine that runs.

        That is so if the UserData was not understood, or if `starts` is not set: an image that does not come up.
        """
        if not self._install(starts=starts):
            return False
        self.save(state="stopped")
        self._supervisor.start()
        self._wait(lambda: self.facts["state"] != "stopped")
        return True

    def reboot(self, user_data: bytes) -> None:
        """Give the machine another UserData and restart it, if it ever booted."""
        self.user_data = user_data
        (self.folder / "user-data").write_bytes(user_data)
        before = self.facts["started"]
        if self._supervisor.ident is not None:
            machines.restart(self._machine())
            self._wait(lambda: self.facts["state"] == "running" and self.facts["started"] != before)

    def terminate(self) -> None:
        """End it: asked first, then killed."""
        self._over.set()
        machines.send(self._machine(), signal.SIGTERM)
        machines.resume(self._machine())  # a paused one hears nothing else
        if self._supervisor.ident is not None:
            self._supervisor.join(self.stop_seconds)
            machines.send(self._machine(), signal.SIGKILL)
            self._supervisor.join()
        self.save(state="terminated", pid=None)

    def save(self, **changed: object) -> None:
        """Change what the machine's folder says of it."""
        with self._lock:
            self.facts.update(changed)
            records.write(self.folder / "machine.json", self.facts)

    def _install(self, *, starts: bool) -> bool:
        raise NotImplementedError

    def _start(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _ended(self) -> None:
        """The machine's process has ended."""

    def _again(self, status: int, attempt: int) -> float | None:
        """After how many seconds a machine that ended with that status is started again; None if it is not."""
        raise NotImplementedError

    def _machine(self) -> Machine:
        return Machine(**self.facts, user_data=self.user_data, folder=self.folder)

    def _supervise(self) -> None:
        """Start the machine once for every order to run it."""
        served = -1
        while not self._over.is_set():
            orders = machines.orders(self.folder)
            if orders["running"] and orders["number"] != served:
                served = orders["number"]
                self._serve(served)
            else:
                self._over.wait(POLL_SECONDS)

    def _serve(self, number: int) -> None:
        """Run the machine until it ends for good or other orders come."""
        for attempt in itertools.count():
            status = self._run()
            orders = machines.orders(self.folder)
            if self._over.is_set() or not orders["running"]:
                return self.save(state="stopped", pid=None)
            if orders["number"] != number:
                return None
            again = self._again(status, attempt)
            if again is None:
                break
            if self._over.wait(again):
                return self.save(state="stopped", pid=None)
        return self.save(state="exited", pid=None)

    def _run(self) -> int:
        process = self._start()
        self.save(state="running", pid=process.pid, started=start_time(process.pid) or "")
        status = process.wait()
        self._ended()
        return status

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.stop_seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


class ProcessMachine(Supervised):
    """A machine of the kind `process`: etcd on its own loopback address, restarted as its systemd unit would."""

    kind = "process"
    stop_seconds = STOP_SECONDS

    def __init__(self, folder: Path, launch: Launch, *, etcd: Path, trusted: Path) -> None:
        """`etcd` is the program, `trusted` the certificate of the local AWS, which the machine fetches from."""
        super().__init__(folder, launch)
        self._etcd = etcd
        self._trusted = trusted
        self._environment: dict[str, str] = {}
        self._before: list[list[str]] = []
        self._timers: list[tuple[float, list[str]]] = []

    def _install(self, *, starts: bool) -> bool:
        """Do what cloud-init does at the first boot."""
        try:
            configuration = read(self._real_user_data())
        except (InvalidUserData, OSError) as error:
            self._log(f"cloud-init: {error}")
            return False
        self.save(name=configuration.environment.get("ETCD_NAME", ""))
        if not starts:
            return False
        root = self.folder / "root"
        for file in configuration.files:
            path = root / file.path.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.content, encoding="utf-8")
            path.chmod(file.permissions)
        self._environment = _environment(configuration, root)
        self._before = [_command(words, root) for words in configuration.before]
        self._timers = [(seconds, _command(words, root)) for seconds, words in configuration.timers]
        for number, (seconds, command) in enumerate(self._timers):
            threading.Thread(
                target=self._run_again, args=(seconds, command), daemon=True, name=f"timer-{number}"
            ).start()
        return True

    def _real_user_data(self) -> bytes:
        """The UserData itself, or the one that it fetches."""
        order = fetches(self.user_data)
        if order is None:
            return self.user_data
        url, sha256 = order
        if not url.startswith("https://"):
            raise InvalidUserData(f"it fetches from {url}, and not by https")
        context = ssl.create_default_context(cafile=str(self._trusted))
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS, context=context) as answer:  # noqa: S310 - it is https, as was just checked
            document: bytes = answer.read()
        if hashlib.sha256(document).hexdigest() != sha256:
            raise InvalidUserData(f"what it fetches from {url.partition('?')[0]} has another sha256")
        return document

    def _start(self) -> subprocess.Popen[bytes]:
        brought = all(self._run_beside(command) for command in self._before)
        with (self.folder / "etcd.log").open("ab") as log:
            return subprocess.Popen(
                [self._etcd] if brought else ["false"],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _again(self, status: int, attempt: int) -> float | None:
        """As its unit has it: Restart=on-failure."""
        self._log(f"systemd: etcd ended with status {status}")
        return None if status == 0 or attempt == RESTARTS else RESTART_SECONDS

    def _run_again(self, seconds: float, command: list[str]) -> None:
        """What a timer does: only while the machine is up."""
        while not self._over.wait(seconds):
            if self.facts["state"] == "running":
                self._run_beside(command)

    def _run_beside(self, command: list[str]) -> bool:
        """Whether it succeeded: etcd does not start without it, and all is tried again, as a unit is."""
        path = os.pathsep.join((str(self._etcd.parent), os.environ.get("PATH", "")))
        variables = {**self._environment, "PATH": path, "SSL_CERT_FILE": str(self._trusted)}
        done = subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            self._log(f"systemd: {command[0]} ended with status {done.returncode}: {done.stderr.strip()}")
        return done.returncode == 0

    def _log(self, line: str) -> None:
        with (self.folder / "etcd.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


class ContainerMachine(Supervised):
    """A machine of the kind `container`: a Debian tree with its own systemd and cloud-init.

    Its member's name is the tag Name: what a UserData comes to, only the machine itself knows.
    """

    kind = "container"
    stop_seconds = containers.STOP_SECONDS

    def __init__(
        self, folder: Path, launch: Launch, *, base: Path, within: Network, prepare: Callable[[Path], None]
    ) -> None:
        """`base` is the tree, `prepare` puts files into the machine before it boots."""
        super().__init__(folder, launch, launch.name)
        self._container = Container(
            folder,
            launch.user_data,
            base=base,
            within=within,
            address=launch.address,
            instance=launch.instance,
            prepare=prepare,
        )
        self.save(control_group=str(self._container.control_group), port=self._container.port)

    def reboot(self, user_data: bytes) -> None:
        """Give the machine another UserData, which its cloud-init has read already, and restart it."""
        self._container.give(user_data)
        super().reboot(user_data)

    def terminate(self) -> None:
        """Shut it down, and give its address back."""
        super().terminate()
        self._container.remove()

    def _install(self, *, starts: bool) -> bool:
        return starts

    def _start(self) -> subprocess.Popen[bytes]:
        return self._container.start()

    def _ended(self) -> None:
        self._container.ended()

    def _again(self, status: int, _attempt: int) -> float | None:
        return 0 if status == containers.REBOOTS else None


def _command(words: Sequence[str], root: Path) -> list[str]:
    """A command of the machine, with absolute paths moved under its root, and no user but the one who runs it all."""
    user = pwd.getpwuid(os.getuid()).pw_name
    moved = [str(root / word.lstrip("/")) if word.startswith("/") else word for word in words]
    return [user if word == "etcd" else word for word in moved]


def _environment(configuration: Configuration, root: Path) -> dict[str, str]:
    """etcd's environment: the drop-in's, with absolute paths moved under the machine's root."""
    environment = {"PATH": os.environ.get("PATH", ""), "ETCD_DATA_DIR": str(root / "var/lib/etcd/default")}
    if platform.machine() not in ("x86_64", "amd64"):
        environment["ETCD_UNSUPPORTED_ARCH"] = {"aarch64": "arm64"}.get(
            platform.machine(), platform.machine()
        )
    for name, value in configuration.environment.items():
        environment[name] = str(root / value.lstrip("/")) if value.startswith("/") else value
    Path(environment["ETCD_DATA_DIR"]).mkdir(mode=0o700, parents=True, exist_ok=True)
    return environment
