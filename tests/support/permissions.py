"""What a function's role allows, and what the function asked for: IAM's rules for the policies of this project.

Only the rules that these policies use (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html);
whatever else stands in a policy is an error, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from playground.journal import Journal
from playground.local import Playground

Context = Mapping[str, str]


@dataclass(frozen=True)
class Call:
    """One call of a function: the action in IAM's words, the ARN, the condition keys."""

    action: str
    resource: str
    context: Context


@dataclass(frozen=True)
class Grant:
    """One action on one resource, as a statement names them."""

    action: str
    resource: str
    conditions: tuple[tuple[str, str, str], ...] = ()
    """Operator, key and value; all must hold."""

    def covers(self, call: Call) -> bool:
        """Whether it speaks of the call."""
        return (
            call.action == self.action
            and _like(call.resource, self.resource)
            and all(
                _holds(operator, call.context.get(key), value) for operator, key, value in self.conditions
            )
        )


@dataclass(frozen=True)
class Role:
    """A role's inline policies, as IAM has them."""

    function: str
    """ARN of the function that takes the role."""
    allowed: tuple[Grant, ...]
    denied: tuple[Grant, ...]

    @classmethod
    def of_stack(cls, playground: Playground, stack: str, logical: str = "ProviderRole") -> Self:
        """The role of that logical ID. It must have nothing besides inline policies."""
        resources = playground.client("cloudformation").describe_stack_resources(StackName=stack)[
            "StackResources"
        ]
        (name,) = [one["PhysicalResourceId"] for one in resources if one["LogicalResourceId"] == logical]
        iam = playground.client("iam")
        assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
        statements = [
            statement
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
            for statement in iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"][
                "Statement"
            ]
        ]
        grants = {
            effect: tuple(grant for one in statements if one["Effect"] == effect for grant in _grants(one))
            for effect in ("Allow", "Deny")
        }
        return cls(playground.outputs(stack)["Provider"], grants["Allow"], grants["Deny"])

    def granting(self, call: Call) -> list[Grant]:
        """What allows the call; nothing if it is denied, or nobody allows it."""
        from_code = Call(
            call.action, call.resource, {**call.context, "lambda:SourceFunctionArn": self.function}
        )
        if any(grant.covers(from_code) for grant in self.denied):
            return []
        return [grant for grant in self.allowed if grant.covers(from_code)]


def calls(playground: Playground, since: float = 0) -> list[Call]:
    """What the functions have asked of AWS since then, in seconds since the epoch."""
    records = Journal(playground.directory / "cloud/calls.jsonl").records()
    return [
        Call(one["action"] or one["what"], one["resource"], one["context"])
        for one in records
        if one["at"] >= since
    ]


def _grants(statement: Mapping[str, Any]) -> list[Grant]:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    assert not unknown, unknown
    conditions = tuple(
        (operator, key, value)
        for operator, tests in statement.get("Condition", {}).items()
        for key, value in tests.items()
    )
    return [
        Grant(action, resource, conditions)
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    ]


def _holds(operator: str, actual: str | None, wanted: str) -> bool:
    if operator == "Null":
        return (actual is None) == (wanted == "true")
    assert operator in {"StringEquals", "ArnEquals"}, operator
    assert "*" not in wanted, wanted
    return actual == wanted


def _like(actual: str, pattern: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), actual))


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
