"""The account in the local AWS: sam builds for it and deploys to it, and it tells of its stacks.

It takes a local AWS that runs, whoever started it. It holds no knowledge of etcd, and none of what a stack should look
like.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground import tools

HOST = "127.0.0.1"
KINDS = {"process": "127.77", "container": "10.77"}
"""The kinds of machines, and the first half of their addresses if nobody chooses another."""
REGION = "us-east-1"
PACKAGES = "packages"
"""The bucket of what `package` uploads."""
COMMAND_SECONDS = 1200.0
"""How long one sam command may take."""
FUNCTION_SECONDS = 930.0
"""How long a function may take to answer: more than Lambda gives it, so that none is called a second time."""
USERS_OWN = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")
"""Variables that would lead a command to the user's real account."""
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


class Account:
    """What lies under `directory`, and answers at `port`. `kind` and `network` say what its machines are, and where."""

    def __init__(self, directory: Path, *, kind: str, network: str, port: int) -> None:
        self.directory = directory.resolve()
        self.kind = kind
        self.network = network or KINDS[kind]
        self.port = port
        self.endpoint = f"https://{HOST}:{port}"
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        self._commands: set[subprocess.Popen[str]] = set()
        self._packaged: Path | None = None
        self._packages: dict[str, bytes] = {}

    # ---- the way to it ----

    @property
    def certificate(self) -> Path:
        """The certificate that clients trust."""
        return self.directory / "cloud/tmp/ministack-tls/server.crt"

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

    def _vpc(self) -> dict[str, Any]:
        """What the local AWS has written down of it; nothing before it has started."""
        return read_json(self.directory / "cloud/network.json")

    @property
    def vpc_id(self) -> str:
        """The VPC that is there from the start."""
        return str(self._vpc()["vpc"])

    @property
    def subnet_ids(self) -> list[str]:
        """Its three subnets: <network>.1.0/24, .2 and .3."""
        return list(self._vpc()["subnets"])

    def parameters(self) -> dict[str, str]:
        """The parameters that every deploy of this project's template needs here."""
        return {
            "VpcId": self.vpc_id,
            "SubnetIds": ",".join(self.subnet_ids),
            "RouteTableIds": str(self._vpc()["route_table"]),
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

    def let_go(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

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

    def upload_again(self) -> None:
        """Bring back what `package` uploaded: `sam delete` takes it along, also what other stacks are made of."""
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
            self.upload_again()
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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is no file."""
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
