"""Where the engine takes ministack's place: every name of ministack's that is replaced, in one file."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from playground import images
from playground.cloud import nat, parts
from playground.cloud.ec2 import REPLACING_PROPERTIES, Ec2
from playground.cloud.engine import Engine, with_revision
from playground.cloud.stack import Record

HOLD_SECONDS = 25.0
"""How long a waiter's question may be held back: less than any client's read timeout."""
LOOK_SECONDS = 0.1
WAITER = re.compile(r"\bm/(?:\w+,)*B\b")
"""What botocore's waiters add to their User-Agent."""


def install_engine(engine: Engine) -> None:
    """Let ministack's CloudFormation API call the engine."""
    operations = _Operations(engine)
    for module in (parts.stack_operations, parts.changesets, parts.handlers):
        module._deploy_stack_async = operations.deploy
        module._delete_stack_async = operations.delete
    parts.handlers._roll_back_operation = operations.roll_back
    parts.handlers._continue_update_rollback_async = operations.continue_rollback
    _cancel_through(engine)
    _see_conditions()
    _allow_items_of_lists()
    _show_addresses_of_s3()
    _hold_waiters()


class _Operations:
    """The engine under the signatures that ministack's API calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def deploy(
        self,
        stack_name: str,
        _stack_id: str,
        template: Record,
        param_values: Record,
        disable_rollback: bool,  # noqa: FBT001 - ministack's own signature
        _tags: list[Record],
        *,
        is_update: bool = False,
        previous_stack: Mapping[str, object] | None = None,
        retain_except_on_create: bool = False,
        imports: Record | None = None,
    ) -> None:
        """Create or update a stack."""
        verb = "UPDATE" if is_update else "CREATE"
        record = parts.stacks[stack_name]
        previous = previous_stack if is_update else None
        if imports:
            self._engine.fail(stack_name, verb, NotImplementedError("the playground imports no resources"))
            return
        if _refused(record, template, param_values, previous):
            return
        with_revision(record, template, param_values)
        await self._run(
            stack_name,
            verb,
            lambda: self._engine.deploy(
                stack_name,
                previous,
                disable_rollback=disable_rollback,
                keep_retained=not retain_except_on_create,
            ),
        )

    def delete(
        self, stack_name: str, _stack_id: str, retain: frozenset[str] = frozenset(), *, force: bool = False
    ) -> Coroutine[None, None, None]:
        """Delete a stack. Called before DeleteStack answers: whoever looks after that sees DELETE_IN_PROGRESS."""
        self._engine.announce(stack_name, "DELETE_IN_PROGRESS")
        return self._run(stack_name, "DELETE", lambda: self._engine.delete(stack_name, retain, force=force))

    async def roll_back(self, stack_name: str, *_: object, **__: object) -> None:
        """Roll back what failed and was left as it was (RollbackStack)."""
        await self._run(stack_name, "ROLLBACK", lambda: self._engine.roll_back(stack_name))

    def continue_rollback(
        self, stack_name: str, _stack_id: str, skip: frozenset[str]
    ) -> Coroutine[None, None, None]:
        """Go on with a rollback that was stuck (ContinueUpdateRollback); called before that answers."""
        self._engine.announce(stack_name, "UPDATE_ROLLBACK_IN_PROGRESS")
        return self._run(
            stack_name, "UPDATE_ROLLBACK", lambda: self._engine.continue_rollback(stack_name, skip)
        )

    async def _run(self, stack_name: str, verb: str, operation: Callable[[], None]) -> None:
        try:
            await parts.run_reentrant(operation, thread_name=f"stack-{stack_name}")
        except Exception as error:  # noqa: BLE001 - else the stack would be in progress for ever
            self._engine.fail(stack_name, verb, error)


def _cancel_through(engine: Engine) -> None:
    """Let CancelUpdateStack reach the engine, after ministack has checked the request."""
    check = parts.handlers._ACTION_HANDLERS["CancelUpdateStack"]

    def cancel_update(parameters: Record) -> Any:
        answer = check(parameters)
        if answer[0] == HTTPStatus.OK:
            engine.cancel(parameters["StackName"][0])
        return answer

    parts.handlers._ACTION_HANDLERS["CancelUpdateStack"] = cancel_update


def _refused(
    record: Record, template: Record, parameters: Record, previous: Mapping[str, object] | None
) -> bool:
    """ministack's check before anything is provisioned; it ends the stack itself."""
    conditions = parts.evaluate_conditions(template, parameters)
    definitions = template.get("Resources", {})
    refused: bool = parts.fail_property_validation(
        record,
        record["StackId"],
        record["StackName"],
        definitions,
        list(definitions),
        parameters,
        conditions,
        template.get("Mappings", {}),
        record.get("DisableRollback", False),
        previous_stack=previous,
    )
    return refused


def _see_conditions() -> None:
    """Let a change set see the resources that a condition switches on or off."""
    resolve = parts.changesets._resolve_props_for_diff

    def resolve_active(template: Record, parameters: Record, *names: str) -> Record:
        resolved = dict(resolve(template, parameters, *names))
        conditions = parts.evaluate_conditions(template, parameters) if template else {}
        resolved["Resources"] = {
            logical: definition
            for logical, definition in resolved.get("Resources", {}).items()
            if conditions.get(definition.get("Condition"), True)
        }
        return resolved

    parts.changesets._resolve_props_for_diff = resolve_active


def _allow_items_of_lists() -> None:
    """Let AllowedValues of a list hold for each item, as in CloudFormation; ministack compares the whole text."""
    resolve = parts.changesets._resolve_parameters

    def resolve_items(template: Record, *others: Any) -> Record:
        declared = template.get("Parameters", {})
        allowed = {
            name: [str(value) for value in parameter["AllowedValues"]]
            for name, parameter in declared.items()
            if parameter.get("Type") == "CommaDelimitedList" and "AllowedValues" in parameter
        }
        loosened = {
            name: {
                key: value
                for key, value in parameter.items()
                if key != "AllowedValues" or name not in allowed
            }
            for name, parameter in declared.items()
        }
        resolved: Record = resolve({**template, "Parameters": loosened}, *others)
        for name, values in allowed.items():
            for item in resolved[name]["Value"].split(","):
                if item.strip() not in values:
                    raise ValueError(f"Parameter '{name}' value '{item}' is not in AllowedValues: {values}")
        return resolved

    for module in (parts.changesets, parts.handlers):
        module._resolve_parameters = resolve_items
    parts.resolve_parameters = resolve_items  # what nested stacks ask


def _show_addresses_of_s3() -> None:
    """Let GetTemplate show a nested stack's template at S3's address.

    sam builds a TemplateURL from the endpoint that it talks to, here this machine's. But `sam delete` reads only those
    of S3 itself, and ends in a ValueError on any other.
    """
    get_template = parts.handlers._ACTION_HANDLERS["GetTemplate"]

    def get_with_s3(parameters: Record) -> Any:
        status, headers, body = get_template(parameters)
        here = parts.gateway_url()
        return (
            status,
            headers,
            body.replace(f"{here}/".encode(), f"https://s3.{parts.get_region()}.amazonaws.com/".encode()),
        )

    parts.handlers._ACTION_HANDLERS["GetTemplate"] = get_with_s3


def _hold_waiters() -> None:
    """Answer a waiter's DescribeStacks when the stack has come to rest, or after HOLD_SECONDS.

    sam's waiters look every 15 seconds when its bucket is made, and every 30 in `sam delete`: longer than all of it
    takes here. Anybody else gets the answer at once.
    """
    handle = parts.cloudformation.handle_request

    async def handle_patiently(
        method: str, path: str, headers: Mapping[str, str], body: bytes, query: Record
    ) -> Any:
        asked = parse_qs(body.decode(errors="replace"))
        if asked.get("Action") == ["DescribeStacks"] and WAITER.search(headers.get("user-agent", "")):
            deadline = time.monotonic() + HOLD_SECONDS
            while _in_progress(asked.get("StackName", [""])[0]) and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
        return await handle(method, path, headers, body, query)

    parts.cloudformation.handle_request = handle_patiently


def _in_progress(name_or_id: str) -> bool:
    return any(
        name_or_id in (name, record["StackId"]) and record["StackStatus"].endswith("_IN_PROGRESS")
        for name, record in parts.stacks.items()
    )


def install_ec2(ec2: Ec2) -> None:
    """Let CloudFormation and EC2's API know instances that are machines, and CloudFormation ways out of a VPC."""
    for kind, handler in ec2.handlers().items():
        parts.provisioners._RESOURCE_HANDLERS[kind] = handler
        parts.provisioners._REPLACING_PROPERTIES[kind] = REPLACING_PROPERTIES[kind]
    parts.provisioners._RESOURCE_HANDLERS.update(nat.handlers())
    for kind in ("AWS::EC2::Instance", "AWS::EC2::NetworkInterface"):
        parts.provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", "list")
    actions = parts.ec2._ACTION_MAP
    actions.update(ec2.actions(dict(actions)))


def install_images(file: Path) -> None:
    """Let SSM know Debian's public parameters. `file` may name other images, by parameter, at any time."""
    look_up = parts.ssm._public_parameter
    known = parts.ssm._PUBLIC_AMI_PARAMETERS

    def public_parameter(name: str) -> Any:
        chosen = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        known.update({image: chosen.get(image, images.made_up(image)) for image in images.PARAMETERS})
        return look_up(name)

    parts.ssm._public_parameter = public_parameter


def install_function_log(file: Path) -> None:
    """Write what the functions print into a file, as it comes."""

    def read(worker: Any) -> None:
        process, lines = worker._proc, worker._stderr_queue
        for line in process.stderr:
            lines.put(line.rstrip("\n"))
            with file.open("a", encoding="utf-8") as log:
                log.write(line)

    parts.lambda_runtime.Worker._read_stderr = read
