"""The playground from outside: start it, deploy to it with real sam, look at its machines and break them, end it.

Everything lies under one directory, and everything is ended by process id. It holds no knowledge of etcd, and none of
what a stack should look like.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playground import containers, images, machines, network, tools, tree
from playground.journal import Journal
from playground.machines import Machine
from playground.processes import start_time

HOST = "127.0.0.1"
KINDS = {"process": "127.77", "container": "10.77"}
"""The kinds of machines, and the first half of their addresses if nobody chooses another."""
REGION = "us-east-1"
PACKAGES = "packages"
"""The bucket of what `package` uploads."""
START_SECONDS = 60.0
"""How long the local AWS may take to answer for the first time."""
STOP_SECONDS = 10.0
"""How long it may take to end after SIGTERM before it is killed."""
MACHINE_SECONDS = 30.0
"""How long a machine may take to end or to start."""
COMMAND_SECONDS = 1200.0
"""How long one sam command may take."""
FUNCTION_SECONDS = 930.0
"""How long a function may take to answer: more than Lambda gives it, so that none is called a second time."""
POLL_SECONDS = 0.05
USERS_OWN = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")
"""Variables that would lead a command to the user's real account."""
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""What the local AWS gets of the environment: nothing of the user's AWS or Python settings."""
CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")


class PlaygroundError(Exception):
    """The playground cannot do what was asked. The message is one plain sentence, then what a command printed."""


@dataclasses.dataclass(frozen=True)
class Deployment:
    """How a deploy or a delete ended."""

    ok: bool
    status: str
    """The stack's status, for instance UPDATE_ROLLBACK_COMPLETE; nothing if there is no such stack."""
    reason: str
    """The sentence of the first resource that failed, through nested stacks."""
    seconds: float
    output: str
    """What sam printed."""


class Playground:
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
        self.directory = directory.resolve()
        self.kind = kind
        self.network = network or KINDS[kind]
        self.port = port
        self.endpoint = f"https://{HOST}:{port}"
        self.journal = Journal(self.directory / "journal.jsonl")
        self._etcd = etcd
        self._release = release
        self._by_image = by_image
        self._cloud: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        self._commands: set[subprocess.Popen[str]] = set()
        self._packaged: Path | None = None
        self._packages: dict[str, bytes] = {}

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
        for client in self._clients.values():
            client.close()
        self._clients.clear()
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
        network = _read(self.directory / "cloud/network.json")
        state = {
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "cloud_pid": cloud,
            "cloud_started": start_time(cloud),
            "port": self.port,
            "kind": self.kind,
            "network": self.network,
            "endpoint": self.endpoint,
            "vpc": network.get("vpc", ""),
            "subnets": network.get("subnets", []),
        }
        draft = self.directory / "state.json.new"
        draft.write_text(json.dumps(state, indent=1), encoding="utf-8")
        draft.replace(self.directory / "state.json")

    # ---- what a user of it needs to know ----

    @property
    def certificate(self) -> Path:
        """The certificate that clients trust."""
        return self.directory / "cloud/tmp/ministack-tls/server.crt"

    @property
    def gateway(self) -> str:
        """The address at which containers reach the local AWS, on the same port, and trust its certificate."""
        return f"{self.network}.0.1"

    @property
    def programs(self) -> list[Path]:
        """The folders of sam, aws and uv, which a command needs on its PATH."""
        found = []
        for tool in (tools.sam, tools.aws, tools.uv):
            with contextlib.suppress(tools.ToolMissing):
                found.append(tool().parent)
        return found

    @property
    def settings(self) -> dict[str, str]:
        """The variables that lead sam, aws and boto3 to the playground, without PATH."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CA_BUNDLE": str(self.certificate),
            "AWS_ACCESS_KEY_ID": "playground",
            "AWS_SECRET_ACCESS_KEY": "playground",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
            "LAYER_PYTHON": str(tools.cloud_python()),
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs in addition to os.environ."""
        path = [str(folder) for folder in self.programs] + [os.environ.get("PATH", os.defpath)]
        return self.settings | {"PATH": os.pathsep.join(path)}

    @property
    def vpc_id(self) -> str:
        """The VPC that is there from the start."""
        return str(_read(self.directory / "cloud/network.json")["vpc"])

    @property
    def subnet_ids(self) -> list[str]:
        """Its three subnets: <network>.1.0/24, .2 and .3."""
        return list(_read(self.directory / "cloud/network.json")["subnets"])

    def parameters(self) -> dict[str, str]:
        """The parameters that every deploy of this project's template needs here."""
        return {
            "VpcId": self.vpc_id,
            "SubnetIds": ",".join(self.subnet_ids),
            "RouteTableIds": str(_read(self.directory / "cloud/network.json")["route_table"]),
            "ClientCidr": "127.0.0.0/8" if self.kind == "process" else f"{self.network}.0.0/16",
        }

    def client(self, service: str) -> Any:
        """The boto3 client of a service of the playground, which threads may share."""
        import boto3  # noqa: PLC0415 - `up` and `down` do without it, and it is slow to import
        from botocore.config import Config  # noqa: PLC0415 - the same

        with self._making:  # boto3 makes one at a time
            if service not in self._clients:
                self._clients[service] = boto3.client(
                    service,
                    region_name=REGION,
                    endpoint_url=self.endpoint,
                    verify=str(self.certificate),
                    aws_access_key_id="playground",
                    aws_secret_access_key="playground",  # noqa: S106 - there is nothing to protect
                    config=Config(read_timeout=FUNCTION_SECONDS) if service == "lambda" else None,
                )
            return self._clients[service]

    # ---- commands ----

    def run(self, *command: str, timeout: float, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout, led to the playground. Raises PlaygroundError if `check` and it fails."""
        environment = {name: value for name, value in os.environ.items() if name not in USERS_OWN}
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        with subprocess.Popen(
            [program, *command[1:]],
            env=environment | self.environment,
            cwd=tools.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            self._commands.add(process)
            try:
                output, _ = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
            finally:
                self._commands.discard(process)
        if check and process.returncode:
            line = " ".join(command)
            raise PlaygroundError(f"`{line}` ended with status {process.returncode}:\n{output}")
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def end_commands(self) -> None:
        """End the commands that other threads run now."""
        for process in list(self._commands):
            process.terminate()

    @property
    def built_template(self) -> Path:
        """The template that `build` makes and `deploy` takes; the one of `package`, if that was called."""
        return self._packaged or self.directory / "build/template.yaml"

    def build(self, template: Path = tools.ROOT / "template.yaml") -> None:
        """Run `sam build`."""
        if not template.exists():
            raise PlaygroundError(f"There is no {template} to build.")
        self._packaged = None
        build = str(self.built_template.parent)
        self.run(
            "sam", "build", "--template-file", str(template), "--build-dir", build, timeout=COMMAND_SECONDS
        )

    def package(self) -> None:
        """Run `sam package` on what was built: many stacks of it are then packed once, not once each."""
        packaged = self.directory / "packaged.yaml"
        self.client("s3").create_bucket(Bucket=PACKAGES)
        command = ["sam", "package", "--template-file", str(self.built_template), "--s3-bucket", PACKAGES]
        self.run(*command, "--output-template-file", str(packaged), timeout=COMMAND_SECONDS)
        text = packaged.read_text(encoding="utf-8")  # sam takes a nested template from S3's own address alone
        packaged.write_text(
            text.replace(f"{self.endpoint}/", f"https://s3.{REGION}.amazonaws.com/"), encoding="utf-8"
        )
        self._packaged, self._packages = packaged, self._uploaded()

    def _uploaded(self) -> dict[str, bytes]:
        s3 = self.client("s3")
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=PACKAGES).get("Contents", [])]
        return {key: s3.get_object(Bucket=PACKAGES, Key=key)["Body"].read() for key in keys}

    def _upload_again(self) -> None:
        """`sam delete` takes a stack's packages along, also those that other stacks are made of."""
        s3 = self.client("s3")
        there = {item["Key"] for item in s3.list_objects_v2(Bucket=PACKAGES).get("Contents", [])}
        for key, content in self._packages.items():
            if key not in there:
                s3.put_object(Bucket=PACKAGES, Key=key, Body=content)

    def deploy_command(self, stack: str, parameters: Mapping[str, str], template: Path) -> list[str]:
        """The `sam deploy` that a user would type."""
        return [
            *("sam", "deploy", "--template-file", str(template), "--stack-name", stack),
            *("--resolve-s3", "--no-confirm-changeset", "--no-fail-on-empty-changeset"),
            *("--capabilities", *CAPABILITIES),
            *("--parameter-overrides", *(f"{name}={_value(value)}" for name, value in parameters.items())),
        ]

    def deploy(
        self, stack: str, parameters: Mapping[str, str], *, template: Path | None = None
    ) -> Deployment:
        """Run `sam deploy` of what `build` made, or of another template. A deploy that fails does not raise.

        The parameters that every stack needs here go along with its first deploy only: CloudFormation keeps them.
        """
        if self._packaged and template is None:
            self._upload_again()
        is_new = self.status(stack) in {"", "REVIEW_IN_PROGRESS"}
        wanted = {**(self.parameters() if is_new else {}), **parameters}
        command = self.deploy_command(stack, wanted, template or self.built_template)
        return self._operate(stack, [*command, "--no-progressbar"])

    def delete(self, stack: str) -> Deployment:
        """Run `sam delete --no-prompts`. A delete that fails does not raise."""
        return self._operate(
            stack, ["sam", "delete", "--stack-name", stack, "--no-prompts", "--region", REGION]
        )

    def _operate(self, stack: str, command: list[str]) -> Deployment:
        identity = str((self.describe(stack) or {}).get("StackId", stack))
        before = self._last_event(stack)
        begin = time.monotonic()
        result = self.run(*command, timeout=COMMAND_SECONDS, check=False)
        seconds = time.monotonic() - begin
        name = stack if self.describe(stack) else identity
        ok = result.returncode == 0
        reason = "" if ok else _sams_error(result.stdout)
        if not ok and self._last_event(name) != before:
            reason = self.reason(name) or reason
        return Deployment(ok, self.status(name), reason, round(seconds, 2), result.stdout)

    # ---- stacks ----

    def describe(self, stack: str) -> dict[str, Any] | None:
        """What CloudFormation tells of a stack; None if there is none. A deleted one is found by its id only."""
        client = self.client("cloudformation")
        try:
            described: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
        except client.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return described

    def status(self, stack: str) -> str:
        """A stack's status; nothing if there is no such stack. A deleted stack is found by its id only."""
        return str((self.describe(stack) or {}).get("StackStatus", ""))

    def outputs(self, stack: str) -> dict[str, str]:
        """A stack's outputs, by name."""
        described = self.describe(stack) or {}
        return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}

    def invoke(self, stack: str, function: str, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the stack's function, by its logical ID, answers to an event. Raises PlaygroundError if it fails."""
        resources = self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        named = [one["PhysicalResourceId"] for one in resources if one["LogicalResourceId"] == function]
        if not named:
            raise PlaygroundError(f"The stack {stack} has no function {function}.")
        result = self.client("lambda").invoke(FunctionName=named[0], Payload=json.dumps(event or {}))
        answer = json.loads(result["Payload"].read())
        if "FunctionError" in result:
            raise PlaygroundError(f"{function} failed: {answer.get('errorMessage', answer)}")
        return dict(answer)

    def reason(self, stack: str) -> str:
        """Why the last operation on a stack failed: the sentence of the first resource, through nested stacks."""
        return self._reason(stack, "CREATE|UPDATE|DELETE")

    def _reason(self, stack: str, operations: str) -> str:
        for event in self._last_operation(stack, operations):
            sentence = event.get("ResourceStatusReason", "")
            if not event["ResourceStatus"].endswith("_FAILED") or re.fullmatch(
                "Resource .* cancelled", sentence
            ):
                continue
            if embedded := re.match(
                r"Embedded stack (\S+) was not successfully (creat|updat|delet)ed", sentence
            ):
                return self._reason(embedded[1], f"{embedded[2].upper()}E") or sentence
            message = re.search(r"Message returned: (.*) \(RequestId: [^)]*\)$", sentence, re.DOTALL)
            return message[1] if message else sentence
        return ""

    def _last_operation(self, stack: str, operations: str) -> list[dict[str, Any]]:
        """The events of a stack's last create, update or delete and all that came after it, the oldest first."""
        client = self.client("cloudformation")
        events: list[dict[str, Any]] = []
        with contextlib.suppress(client.exceptions.ClientError):
            for page in client.get_paginator("describe_stack_events").paginate(StackName=stack):
                for event in page["StackEvents"]:
                    events.insert(0, event)
                    begun = re.fullmatch(f"({operations})_IN_PROGRESS", event["ResourceStatus"])
                    if begun and event["PhysicalResourceId"] == event["StackId"]:
                        return events
        return events

    def _last_event(self, stack: str) -> str:
        """The id of a stack's newest event; nothing if there is no such stack."""
        client = self.client("cloudformation")
        try:
            events = client.describe_stack_events(StackName=stack)["StackEvents"]
        except client.exceptions.ClientError:
            return ""
        return str(events[0]["EventId"]) if events else ""

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
    return _read(directory / "state.json")


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


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def _sams_error(output: str) -> str:
    """Why sam itself gave up, if it did not get as far as a stack operation."""
    _, found, sentence = output.rpartition("Error: ")
    return " ".join(sentence.split()) if found else ""


def _value(value: str) -> str:
    """A parameter's value as sam reads it: quoted if it is empty or has a character that would end it."""
    return (
        value
        if re.fullmatch(r"[\w.,:/@+-]+", value)
        else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
