"""Nested stacks: full stacks, deployed by the same engine in the middle of their parent's deployment."""

from __future__ import annotations

import copy
import random
import string
from typing import cast

from playground.cloud import parts
from playground.cloud.deletion import delete_stack
from playground.cloud.deployment import Deployment
from playground.cloud.graph import Cancel
from playground.cloud.kinds import Failed, Job, Kind, Kinds, Made, noted
from playground.cloud.stack import REVISION_KEYS, STACK_TYPE, Record, Revision, Stack
from playground.journal import Journal


class Nested(Kind):
    """A resource of the type AWS::CloudFormation::Stack. Its physical id is the child's ARN."""

    reverts_failed_updates = True

    def __init__(self, kinds: Kinds, journal: Journal) -> None:
        self._kinds = kinds
        self._journal = journal

    def unchanged(self, job: Job, old: Record, before: Record) -> bool:  # noqa: ARG002 - the child's record says more
        """Whether template, parameters and tags are the same, here and in every stack below."""
        child = Stack.find(old["PhysicalResourceId"], self._journal)
        if child is None:
            return False
        revision = _revision(job.properties)
        if any(child.record.get(key) != revision[key] for key in ("_template", "_resolved_params", "Tags")):
            return False
        return all(
            self.unchanged(Job(child, logical, STACK_TYPE, record["Properties"]), record, {})
            for logical, record in child.resources.items()
            if record["ResourceType"] == STACK_TYPE
        )

    def create(self, job: Job) -> Made:
        """Create the child. One that fails rolls itself back, and is left to the parent's rollback to delete."""
        child = self._new_child(job)
        with noted(job, "create", child.id):
            deployment = Deployment(child, self._kinds, None, Cancel(job.cancel))
            if deployment.go_forward():
                return Made(child.id, _outputs(child))
            deployment.roll_back()
            raise Failed(
                f"Embedded stack {child.id} was not successfully created: {deployment.reason}",
                physical=child.id,
            )

    def update(self, job: Job, old: Record, before: Record) -> Made:  # noqa: ARG002 - the child knows its old properties
        """Update the child. Its clean-up waits for the parent's; one that fails rolls itself back at once."""
        child = Stack.find(old["PhysicalResourceId"], self._journal)
        if child is None:
            raise Failed(f"Stack {old['PhysicalResourceId']} does not exist")
        with noted(job, "update", child.id):
            previous = _snapshot(child)
            child.record.update(_revision(job.properties))
            child.become("UPDATE_IN_PROGRESS")
            deployment = Deployment(child, self._kinds, previous, Cancel(job.cancel))
            if deployment.go_forward():
                return Made(child.id, _outputs(child), pending=deployment)
            deployment.roll_back()
            raise Failed(
                f"Embedded stack {child.id} was not successfully updated. "
                f"Currently in {child.state} with reason: {deployment.reason}",
                pending=deployment,
            )

    def delete(self, job: Job, physical: str) -> None:
        """Delete the child and everything in it."""
        child = Stack.find(physical, self._journal)
        if child is None or child.state == "DELETE_COMPLETE":
            return
        revision = Revision(child, child.record)
        with noted(job, "delete", child.id):
            if not delete_stack(
                child,
                self._kinds,
                revision.dependencies(),
                lambda logical: revision.policy(logical, "DeletionPolicy"),
            ):
                reason = child.record["StackStatusReason"]
                raise Failed(f"Embedded stack {child.id} was not successfully deleted: {reason}")

    def _new_child(self, job: Job) -> Stack:
        revision = _revision(job.properties)
        end = "".join(random.choices(string.ascii_uppercase + string.digits, k=12))  # noqa: S311 - a name, no secret
        name = f"{job.stack.name}-{job.logical}-{end}"
        arn = f"arn:aws:cloudformation:{parts.get_region()}:{parts.get_account_id()}:stack/{name}/{parts.new_uuid()}"
        record = {
            "StackName": name,
            "StackId": arn,
            "StackStatus": "CREATE_IN_PROGRESS",
            "CreationTime": parts.now_iso(),
            "Outputs": [],
            "DisableRollback": False,
            "Capabilities": job.stack.record.get("Capabilities", []),
            "ParentId": job.stack.id,
            "RootId": job.stack.record.get("RootId", job.stack.id),
            "_region": parts.get_region(),
            "_resources": {},
            **revision,
        }
        parts.stacks[name] = record
        parts.stack_events[arn] = []
        child = Stack(record, self._journal)
        child.become("CREATE_IN_PROGRESS")
        return child


def _revision(properties: Record) -> Record:
    """What a child's record says of the revision that the properties ask for. Raises Failed or ValueError."""
    body = _template_body(properties.get("TemplateURL", ""))
    provided = [
        {"Key": name, "Value": _parameter(name, value)}
        for name, value in (properties.get("Parameters") or {}).items()
    ]
    template = parts.apply_transforms(parts.parse_template(body), provided)
    parameters = parts.resolve_parameters(template, provided)
    tags = parts.tag_map(properties.get("Tags"))
    return {
        "Description": template.get("Description", ""),
        "Parameters": [
            {"ParameterKey": name, "ParameterValue": value["Value"], "NoEcho": value["NoEcho"]}
            for name, value in parameters.items()
        ],
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items() if not key.startswith("aws:")],
        "_template": template,
        "_template_body": body,
        "_resolved_params": parameters,
        "_conditions": parts.evaluate_conditions(template, parameters),
    }


def _parameter(name: str, value: object) -> str:
    if isinstance(value, list):
        raise Failed(
            f"Value of property Parameters must be an object with String (or simple type) properties: {name}"
        )
    return "" if value is None else str(value)


def _template_body(url: str) -> str:
    body, error = parts.fetch_template({"TemplateURL": [url]})
    if error is not None or not body:
        raise Failed(f"TemplateURL must reference a valid S3 object to which you have access: {url}")
    return cast("str", body)


def _snapshot(child: Stack) -> Record:
    return {key: copy.deepcopy(child.record.get(key)) for key in ("_resources", *REVISION_KEYS)}


def _outputs(child: Stack) -> Record:
    return {f"Outputs.{output['OutputKey']}": output["OutputValue"] for output in child.record["Outputs"]}
