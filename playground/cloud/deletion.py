"""Deleting resources of a stack: dependants first, side by side where nothing is in the way.

As in CloudFormation a delete that fails does not hold back what the resource depends on: that is deleted all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from playground.cloud import parts
from playground.cloud.graph import Graph, reverse, walk
from playground.cloud.kinds import Job, Kinds
from playground.cloud.stack import Record, Stack

CLEAN_UP_TRIES = 3
"""How often CloudFormation tries a delete in an update's clean-up before it drops the resource from the stack."""
RETRY_SECONDS = 0.2
"""The pause between two tries; CloudFormation's own is longer and not documented."""


class Deletion:
    """One walk that deletes resources: of a whole stack, of a rollback, or of a clean-up."""

    def __init__(
        self,
        stack: Stack,
        kinds: Kinds,
        doomed: Mapping[str, Record],
        *,
        policy: Callable[[str], str],
        tries: int = 1,
        also: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stack = stack
        self._kinds = kinds
        self._doomed = doomed
        self._policy = policy
        self._tries = tries
        self._also = also
        """Called for each resource of the graph, when its turn has come."""
        self.failed: list[str] = []

    def run(self, graph: Graph) -> None:
        """Delete everything that is doomed. `graph` is the dependency graph it was created by; `failed` is filled."""
        everything: dict[str, set[str]] = {logical: set() for logical in self._doomed}
        everything |= {logical: set(others) for logical, others in graph.items()}
        walk(reverse(everything), self._visit)
        self.failed.sort()

    def _visit(self, logical: str) -> bool:
        self._also(logical)
        record = self._doomed.get(logical)
        if record is None:
            return True
        if self._policy(logical) in parts.RETAINING_POLICIES:
            self._say(logical, record, "DELETE_SKIPPED")
            self._forget(logical, record)
            return True
        for left in reversed(range(self._tries)):
            if reason := self._try(logical, record):
                self._say(logical, record, "DELETE_FAILED", reason)
                record |= {"ResourceStatus": "DELETE_FAILED", "ResourceStatusReason": reason}
                if left:
                    time.sleep(RETRY_SECONDS)
            else:
                self._say(logical, record, "DELETE_COMPLETE")
                self._forget(logical, record)
                return True
        self.failed.append(logical)
        return True

    def _try(self, logical: str, record: Record) -> str:
        """Delete once; return why it failed, or nothing."""
        self._say(logical, record, "DELETE_IN_PROGRESS")
        kind, physical, properties = (
            record["ResourceType"],
            record["PhysicalResourceId"],
            record["Properties"],
        )
        try:
            if self._policy(logical) == "Snapshot":
                parts.snapshot_resource(kind, physical, properties)
            self._kinds.of(kind).delete(Job(self._stack, logical, kind, properties), physical)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the reason in the event
            return str(error) or repr(error)
        return ""

    def _say(self, logical: str, record: Record, status: str, reason: str = "") -> None:
        self._stack.event(logical, record["ResourceType"], status, reason, record["PhysicalResourceId"])

    def _forget(self, logical: str, record: Record) -> None:
        if self._stack.resources.get(logical) is record:
            del self._stack.resources[logical]


def delete_stack(stack: Stack, kinds: Kinds, graph: Graph, policy: Callable[[str], str]) -> bool:
    """Delete a whole stack. False, and DELETE_FAILED, if resources are left; the next delete takes those on again."""
    stack.become("DELETE_IN_PROGRESS")
    deletion = Deletion(stack, kinds, dict(stack.resources), policy=policy)
    deletion.run(graph)
    if deletion.failed:
        stack.become("DELETE_FAILED", failed_sentence("delete", deletion.failed))
        return False
    for output in stack.record.get("Outputs", []):
        parts.exports.pop(output.get("ExportName"), None)
    stack.become("DELETE_COMPLETE")
    return True


def failed_sentence(verb: str, logical: list[str]) -> str:
    """CloudFormation's words for resources that failed."""
    return f"The following resource(s) failed to {verb}: [{', '.join(logical)}]."
