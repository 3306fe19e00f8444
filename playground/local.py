"""The playground from outside: start it, deploy to it with real sam, look at its machines and break them, end it.

Everything lies under one directory, and everything is ended by process id. What is done with the AWS in it stands in
``account``. It holds no knowledge of etcd.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playground import containers, images, machines, network, records, tools, tree
from playground.account import HOST, REGION, Account, PlaygroundError, read_json
from playground.journal import Journal
from playground.machines import Machine
from playground.processes import start_time

START_SECONDS = 60.0
"""How long the local AWS may take to answer for the first time."""
STOP_SECONDS = 10.0
"""How long it may take to end after SIGTERM before it is killed."""
MACHINE_SECONDS = 30.0
"""How long a machine may take to end or to start."""
POLL_SECONDS = 0.05
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""What the local AWS gets of the environment: nothing of the user's AWS or Python settings."""


class Playground(Account):
    """A small AWS on one machine: a local CloudFormation, and machines that boot etcd.

    `kind` says what its machines are. `process`: etcd as a plain process, the program `etcd`. `container`: a Debian
    system of that `release` (root, Linux; the first start builds it). `network` is the first half of their addresses,
    the VPC is <network>.0.0/16: loopback addresses for processes, a private range of their own for containers.
    `by_image`: a machine of one of Debian's images is of that image's release, or runs the etcd that it has; without
    it the image is not looked at. Use it as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kind: str = "process",
        network: str = "",
        port: int = 4566,
        etcd: Path | None = None,
        release: str = tree.DEFAULT,
        by_image: bool = False,
    ) -> None:
        super().__init__(directory, kind=kind, network=network, port=port)
        self.journal = Journal(self.directory / "journal.jsonl")
        self._etcd = etcd
        self._release = release
        self._by_image = by_image
        self._cloud: subprocess.Popen[bytes] | None = None

    @classmethod
    def running(cls, directory: Path) -> Playground:
        """The playground that another process started in a directory. Raises PlaygroundError if there is none."""
        state = read_state(directory)
        if not state or start_time(state["cloud_pid"]) != state["cloud_started"]:
            raise PlaygroundError(f"No playground runs in {directory}.")
        return cls(directory, kind=state["kind"], network=state["network"], port=state["port"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- start and stop ----

    def start(self) -> None:
        """Start the local AWS and wait until it answers. Raises PlaygroundError or tools.ToolMissing."""
        self._refuse_network()
        self._refuse_second()
        source = self.provide()
        end_machines(self.directory)
        for leftover in ("machines", "cloud", "logs", "control"):
            shutil.rmtree(self.directory / leftover, ignore_errors=True)
        for folder in ("machines", "cloud/tmp", "logs", "control"):
            (self.directory / folder).mkdir(parents=True)
        self.journal.path.unlink(missing_ok=True)
        self.journal.path.touch()
        if self.kind == "container":
            self._make_certificate()
        command = [str(tools.cloud_python()), "-m", "playground.cloud"]
        command += [str(self.directory), self.network, self.kind, str(source)]
        command += [f"{image}={path}" for image, path in self._sources().items()]
        with (self.directory / "logs/cloudformation.log").open("wb") as log:
            self._cloud = subprocess.Popen(
                command,
                env=self._cloud_environment(),
                cwd=tools.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for `up` alone, which then ends this in order
            )
        try:
            self._save_state(self._cloud.pid)
            self._wait_until_ready(self._cloud)
            self._save_state(self._cloud.pid)
        except BaseException:
            self.stop()
            raise

    def provide(self) -> Path:
        """What the machines run: etcd, or the tree of containers, which is built and may take minutes the first time.

        `start` does it too. Raises PlaygroundError or tools.ToolMissing.
        """
        self._sources()
        return self._program() if self.kind == "process" else self._tree(self._release)

    def _sources(self) -> dict[str, Path]:
        """What machines of certain images run instead."""
        if not self._by_image:
            return {}
        found: dict[str, Path] = {}
        for debian in images.RELEASES:
            source = tools.etcd(debian.etcd) if self.kind == "process" else self._tree(debian.tree)
            found |= dict.fromkeys(debian.images, source)
        return found

    def stop(self) -> None:
        """End the local AWS, its functions and the machines, by process id."""
        self.let_go()
        if self._cloud is not None:
            pid, started = self._cloud.pid, start_time(self._cloud.pid)
            if self._cloud.returncode is None:  # its id is still its own: nobody has waited for it yet
                end_cloud(pid, lambda: start_time(pid) != started)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # functions that were still busy
            self._cloud.wait()
            self._cloud = None
        end_machines(self.directory)
        (self.directory / "state.json").unlink(missing_ok=True)

    @property
    def alive(self) -> bool:
        """Whether the local AWS that this object started still runs."""
        return self._cloud is not None and self._cloud.poll() is None

    def _refuse_network(self) -> None:
        form = "127.77: the first half of loopback addresses"
        if self.kind == "container":
            form = "10.77: the first half of private addresses"
        try:
            address = ipaddress.ip_address(f"{self.network}.0.0")
            fits = address.is_private and address.is_loopback == (self.kind == "process")
        except ValueError:
            fits = False
        if not fits:
            raise PlaygroundError(f"The network {self.network} is not like {form}.")

    def _refuse_second(self) -> None:
        state = read_state(self.directory)
        if state and start_time(state["cloud_pid"]) == state["cloud_started"]:
            raise PlaygroundError(f"A playground runs in {self.directory} already: end it with `down` first.")
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) == 0:
                raise PlaygroundError(f"Port {self.port} of {HOST} is taken: choose another with --port.")

    def _program(self) -> Path:
        etcd = self._etcd or tools.etcd()
        program = (etcd / "etcd" if etcd.is_dir() else etcd).resolve()
        if not os.access(program, os.X_OK):
            raise PlaygroundError(f"{program} is no program that can be run.")
        return program

    def _tree(self, release: str) -> Path:
        try:
            tree.install()
            if lacking := tree.missing():
                raise PlaygroundError(lacking)
            found = tree.find(release)
            self.directory.mkdir(parents=True, exist_ok=True)
            containers.probe(found, self.directory)
        except (tree.TreeError, containers.ContainerError) as error:
            raise PlaygroundError(str(error)) from error
        return found

    def _make_certificate(self) -> None:
        """One for both addresses of the local AWS; ministack's own is for loopback only."""
        self.certificate.parent.mkdir()
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "825"]
        command += ["-subj", "/CN=playground", "-addext", f"subjectAltName=IP:{HOST},IP:{self.gateway}"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"]
        command += ["-keyout", str(self.certificate.with_suffix(".key")), "-out", str(self.certificate)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise PlaygroundError(f"openssl made no certificate: {made.stderr}")

    def _cloud_environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        if self.kind == "container":
            kept |= {
                "MINISTACK_SSL_CERT": str(self.certificate),
                "MINISTACK_SSL_KEY": str(self.certificate.with_suffix(".key")),
                # the functions get it too: the URLs that they presign are for machines
                "AWS_ENDPOINT_URL_S3": f"https://{self.gateway}:{self.port}",
            }
        return kept | {
            "ANSWERS_ON_LOOPBACK": "1",  # else the functions refuse events that are not answered at S3
            "BIND_HOST": HOST,
            "MINISTACK_HOST": HOST,
            "MINISTACK_REGION": REGION,
            "GATEWAY_PORT": str(self.port),
            "USE_SSL": "1",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",
            "TMPDIR": str(self.directory / "cloud/tmp"),
            "PYTHONPATH": str(tools.ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def _wait_until_ready(self, cloud: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        log = self.directory / "logs/cloudformation.log"
        while not self._answers():
            if cloud.poll() is not None:
                last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
                raise PlaygroundError(f"The local AWS ended at once, see {log}: {last}")
            if time.monotonic() > deadline:
                raise PlaygroundError(
                    f"The local AWS did not answer within {START_SECONDS:.0f} seconds, see {log}."
                )
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        if not (self.certificate.exists() and (self.directory / "cloud/network.json").exists()):
            return False
        with contextlib.suppress(OSError, urllib.error.URLError):
            context = ssl.create_default_context(cafile=str(self.certificate))
            with urllib.request.urlopen(f"{self.endpoint}/_ministack/health", context=context, timeout=5):  # noqa: S310 - our own, https
                return True
        return False

    def _save_state(self, cloud: int) -> None:
        vpc = self._vpc()
        state = {
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "cloud_pid": cloud,
            "cloud_started": start_time(cloud),
            "port": self.port,
            "kind": self.kind,
            "network": self.network,
            "endpoint": self.endpoint,
            "vpc": vpc.get("vpc", ""),
            "subnets": vpc.get("subnets", []),
        }
        records.write(self.directory / "state.json", state)

    @property
    def gateway(self) -> str:
        """The address at which containers reach the local AWS, on the same port, and trust its certificate."""
        return f"{self.network}.0.1"

    # ---- machines ----

    def machines(self) -> list[Machine]:
        """The machines, by address."""
        return machines.read(self.directory / "machines")

    def kill(self, machine: Machine) -> None:
        """The power goes: the machine stays down until `restart`. Returns when it is down."""
        machines.kill(machine)
        self._wait(machine, lambda now: now.pid is None and now.state == "stopped", "end")

    def kill_member(self, name: str) -> None:
        """The power of the machine goes whose member is called so."""
        self.kill(next(machine for machine in self.machines() if machine.name == name))

    def pause(self, machine: Machine) -> None:
        """The machine hangs until `resume`."""
        machines.pause(machine)

    def resume(self, machine: Machine) -> None:
        """A paused machine goes on."""
        machines.resume(machine)

    def restart(self, machine: Machine) -> None:
        """Start the machine again on its own data, after ending it if it runs. Returns when it runs again."""
        machines.restart(machine)
        self._wait(machine, lambda now: now.state == "running" and now.started != machine.started, "start")

    def cut_off(self, machine: Machine) -> None:
        """Nobody reaches the machine, and it reaches nobody, until `heal`. Containers only."""
        machines.cut_off(machine)

    def heal(self, machine: Machine) -> None:
        """A machine that was cut off is on the network again."""
        machines.heal(machine)

    def _wait(self, machine: Machine, reached: Callable[[Machine], bool], what: str) -> None:
        deadline = time.monotonic() + MACHINE_SECONDS
        while time.monotonic() < deadline:
            if any(now.instance == machine.instance and reached(now) for now in self.machines()):
                return
            time.sleep(POLL_SECONDS)
        raise PlaygroundError(
            f"{machine.name} ({machine.instance}) did not {what} within {MACHINE_SECONDS:.0f} seconds."
        )


# ---- for any process ----


def read_state(directory: Path) -> dict[str, Any]:
    """What `state.json` of a playground says; empty if nothing was started there."""
    return read_json(directory / "state.json")


def end_machines(directory: Path) -> bool:
    """End the machines of a playground, whoever started them, and their network; tell whether any still ran."""
    left = machines.end_all(directory / "machines")
    network.sweep(network.name_of(directory))
    return bool(left)


def end_cloud(pid: int, gone: Callable[[], bool]) -> None:
    """End a local AWS and the functions that it runs: asked first, then killed. It leads a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in _until(STOP_SECONDS):
            if gone():
                break
        else:
            os.killpg(pid, signal.SIGKILL)


def _until(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_SECONDS)
