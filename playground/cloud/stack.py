"""A stack: its record in ministack's store, its events, and what one revision of its template says.

`Stack` is what exists, `Revision` is what a template asks for. Neither creates or deletes anything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from playground.cloud import parts
from playground.cloud.graph import Graph
from playground.journal import Journal

Record = dict[str, Any]
"""ministack's own form: JSON-like data."""

STACK_TYPE = "AWS::CloudFormation::Stack"

SECRET = "{{resolve:secretsmanager:"  # noqa: S105 - how a reference to one begins
REVISION_KEYS = (
    "_template",
    "_template_body",
    "_resolved_params",
    "_conditions",
    "Parameters",
    "Tags",
    "Outputs",
)
"""What of a stack's record belongs to one revision of it, and is put back by a rollback."""


class Stack:
    """A stack as ministack keeps it. Every change goes straight to the record that the API serves."""

    def __init__(self, record: Record, journal: Journal) -> None:
        self.record = record
        self.journal = journal

    @classmethod
    def find(cls, name_or_id: str, journal: Journal) -> Stack | None:
        """The stack of that name or id, None if there is none."""
        for name, record in parts.stacks.items():
            if name_or_id in (name, record.get("StackId")):
                return cls(record, journal)
        return None

    @property
    def name(self) -> str:
        """The stack's name."""
        return str(self.record["StackName"])

    @property
    def id(self) -> str:
        """The stack's ARN."""
        return str(self.record["StackId"])

    @property
    def state(self) -> str:
        """The stack's status, for instance CREATE_COMPLETE."""
        return str(self.record["StackStatus"])

    @property
    def resources(self) -> dict[str, Record]:
        """The record of each resource, by logical id."""
        resources: dict[str, Record] = self.record.setdefault("_resources", {})
        return resources

    def become(self, status: str, reason: str = "") -> None:
        """Take on a status, and say so in the stack's events and in the journal."""
        self.record["StackStatus"] = status
        self.record["StackStatusReason"] = reason
        self.record["LastUpdatedTime"] = parts.now_iso()
        self.event(self.name, STACK_TYPE, status, reason, self.id)
        self.note()

    def note(self) -> None:
        """Write the stack's status into the journal."""
        self.journal.write(
            "stack", stack=self.name, status=self.state, reason=self.record.get("StackStatusReason", "")
        )

    def event(self, logical: str, kind: str, status: str, reason: str = "", physical: str = "") -> None:
        """Record an event as DescribeStackEvents shows it."""
        parts.add_event(self.id, self.name, logical, kind, status, reason, physical)


class Revision:
    """What one template with one set of parameters says about a stack's resources.

    `source` holds the keys of REVISION_KEYS, as a stack's record does.
    """

    def __init__(self, stack: Stack, source: Mapping[str, Any]) -> None:
        self._stack = stack
        self.template: Record = source.get("_template") or {}
        self.parameters: Record = source.get("_resolved_params") or {}
        self.tags: list[Record] = source.get("Tags") or []
        self.conditions: dict[str, bool] = parts.evaluate_conditions(self.template, self.parameters)
        self.definitions: dict[str, Record] = {
            logical: definition
            for logical, definition in self.template.get("Resources", {}).items()
            if self.conditions.get(definition.get("Condition"), True)
        }

    def dependencies(self) -> Graph:
        """What each resource waits for: Ref, GetAtt, Sub and DependsOn, in the branches that the conditions choose."""
        names = set(self.definitions)
        return {
            logical: parts.extract_dependencies(self._chosen(definition), names)
            for logical, definition in self.definitions.items()
        }

    def type_of(self, logical: str) -> str:
        """The resource's type."""
        return str(self.definitions[logical]["Type"])

    def resolve(self, logical: str, old: Record | None) -> tuple[Record, Record]:
        """The resource's properties with every reference resolved, and the values of its dynamic references.

        `old` is the record of the resource that is there already: a secret that has changed is no change of it, and is
        read anew only with another one. The journal shows no secret. Raises ValueError.
        """
        properties = self._resolve(self.definitions[logical].get("Properties") or {})
        properties = {name: value for name, value in properties.items() if value is not parts.NO_VALUE}
        known = (old or {}).get("_dynamic")
        resolved, values = parts.resolve_dynamic_references(properties, known, reuse_secrets=True)
        if old is None or resolved != old["Properties"]:
            resolved, values = parts.resolve_dynamic_references(properties, known)
        secrets = (value for literal, value in values.items() if literal.startswith(SECRET))
        self._stack.journal.hide(secrets)
        return resolved, values

    def sent(self, logical: str, kind: str, properties: Record) -> Record:
        """The properties as a service gets them: with the stack's tags."""
        stack = self._stack
        sent: Record = parts.with_stack_tags(kind, properties, self.tags, stack.name, stack.id, logical)
        return sent

    def policy(self, logical: str, attribute: str) -> str:
        """The resource's DeletionPolicy or UpdateReplacePolicy: Delete, Retain, RetainExceptOnCreate or Snapshot."""
        return str(
            parts.resource_policy(
                self.template.get("Resources", {}).get(logical),
                attribute,
                self._stack.resources,
                *self._scope,
            )
        )

    def outputs(self) -> tuple[list[Record], dict[str, Record]]:
        """The outputs in ministack's form, and the exports among them. Raises ValueError."""
        remaining = {
            name: record for name, record in self._stack.resources.items() if name in self.definitions
        }
        return parts.resolve_outputs(  # type: ignore[no-any-return]
            self.template.get("Outputs", {}),
            self.conditions,
            remaining,
            self.parameters,
            self.template.get("Mappings", {}),
            self._stack.name,
            self._stack.id,
        )

    def _resolve(self, value: Any) -> Any:
        return parts.resolve_references(
            copy.deepcopy(value),
            self._stack.resources,
            *self._scope,
        )

    @property
    def _scope(self) -> tuple[Record, dict[str, bool], Record, str, str]:
        """What ministack resolves references with, besides the resources: in the order in which it takes them."""
        mappings = self.template.get("Mappings", {})
        return self.parameters, self.conditions, mappings, self._stack.name, self._stack.id

    def _chosen(self, value: Any) -> Any:
        """A part of the template without the branches of Fn::If that its condition leaves out."""
        if isinstance(value, list):
            return [self._chosen(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            return self._chosen(yes if self.conditions.get(condition) else no)
        return {key: self._chosen(item) for key, item in value.items()}
