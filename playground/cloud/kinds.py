"""How a resource is created, updated and deleted, by kind.

A `Kind` does one thing to one resource and returns or raises. It knows no order, no rollback and no stack events: those
are `deployment.py`'s. The kinds are `Plain` (ministack's own handlers), `custom.Custom` and `nested.Nested`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from playground.cloud import parts
from playground.cloud.graph import Cancel
from playground.cloud.stack import STACK_TYPE, Record, Stack

BLOCKING_TYPES = frozenset({"AWS::EC2::Instance", "AWS::CloudFormation::WaitCondition"})
"""Types of ministack's own kind that may take a while: they do not hold the lock."""


class Pending(Protocol):
    """The part of an update that waits until the whole update has succeeded or failed: a nested stack's."""

    def roll_back(self) -> None:
        """Put everything back, except what was newly made: `clean_up` deletes that."""

    def clean_up(self) -> None:
        """Delete what is not needed any more: the old after an update, the new after a rollback."""

    @property
    def stuck(self) -> str:
        """Why the rollback could not finish, or nothing."""


@dataclasses.dataclass
class Job:
    """One resource of one stack, and what it shall be like."""

    stack: Stack
    logical: str
    type: str
    properties: Record
    """As the service gets them, with the stack's tags."""
    cancel: Cancel = dataclasses.field(default_factory=Cancel)
    retain_replaced: bool = False
    """Whether the old resource stays where this one replaces it (UpdateReplacePolicy)."""


@dataclasses.dataclass
class Made:
    """What a create or an update left."""

    physical: str
    attributes: Record
    seed: str = ""
    """ministack's random part of a made-up name, which the next update wants back."""
    leftovers: list[Callable[[], object]] = dataclasses.field(default_factory=list)
    """Deletes of predecessors that ministack's handler asks for, to be done in the clean-up."""
    pending: Pending | None = None


class Failed(Exception):
    """A resource could not be created, updated or deleted. The message is the reason in the stack's event."""

    def __init__(self, reason: str, *, physical: str = "", pending: Pending | None = None) -> None:
        super().__init__(reason)
        self.physical = physical
        """What the attempt may have left behind, to be deleted by the rollback."""
        self.pending = pending


class Kind:
    """What the engine asks of a kind of resource. `old` is a record of ministack's, `before` its properties as sent."""

    reverts_failed_updates = False
    """Whether an update that failed is sent back all the same, because it may have changed something."""

    def unchanged(self, job: Job, old: Record, before: Record) -> bool:  # noqa: ARG002 - the nested kind looks at `old`
        """Whether an update has nothing to do."""
        return job.properties == before

    def create(self, job: Job) -> Made:
        """Create the resource. Raises any exception, `Failed` where something may be left."""
        raise NotImplementedError

    def update(self, job: Job, old: Record, before: Record) -> Made:
        """Update the resource in place, or create its successor: then the physical id differs. Raises as `create`."""
        raise NotImplementedError

    def delete(self, job: Job, physical: str) -> None:
        """Delete the resource; one that is gone already is fine. Raises any exception."""
        raise NotImplementedError


class Plain(Kind):
    """A resource that one of ministack's handlers provides."""

    _lock = threading.Lock()
    """ministack's handlers were written for one thread."""

    def create(self, job: Job) -> Made:
        """Create through ministack."""
        parts.NAME_SEED.set("")
        with self._one_at_a_time(job), noted(job, "create") as note:
            physical, attributes = parts.provision_resource(
                job.type, job.logical, job.properties, job.stack.name
            )
            note["physical"] = physical
        return Made(physical, attributes, parts.NAME_SEED.get())

    def update(self, job: Job, old: Record, before: Record) -> Made:
        """Update through ministack. The context variables are this thread's own, so nothing puts them back."""
        deferred: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]] = []
        parts.NAME_SEED.set(old.get("_name_seed", ""))
        parts.RETAIN_REPLACED.set(job.retain_replaced)
        parts.DEFERRED_DELETES.set(deferred)
        physical = old["PhysicalResourceId"]
        with self._one_at_a_time(job), noted(job, "update", physical) as note:
            physical, attributes = parts.update_resource(
                job.type,
                physical,
                before,
                job.properties,
                job.stack.name,
                job.logical,
                old.get("Attributes", {}),
            )
            note["physical"] = physical
        leftovers = [_call(function, arguments, named) for function, arguments, named in deferred]
        return Made(physical, {**old.get("Attributes", {}), **attributes}, parts.NAME_SEED.get(), leftovers)

    def delete(self, job: Job, physical: str) -> None:
        """Delete through ministack."""
        parts.DEFERRED_DELETES.set(None)
        with self._one_at_a_time(job), noted(job, "delete", physical):
            parts.delete_resource(job.type, physical, job.properties, job.stack.name, job.logical)

    def _one_at_a_time(self, job: Job) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if job.type in BLOCKING_TYPES else self._lock


class Kinds:
    """Which kind a type belongs to."""

    def __init__(self, custom: Kind) -> None:
        self._custom = custom
        self._plain = Plain()
        self._nested: Kind = self._plain

    def register_nested(self, nested: Kind) -> None:
        """Set the kind of nested stacks, which needs the other kinds itself."""
        self._nested = nested

    def of(self, kind: str) -> Kind:
        """The kind of a type."""
        if kind == STACK_TYPE:
            return self._nested
        if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource":
            return self._custom
        return self._plain


@contextlib.contextmanager
def noted(job: Job, what: str, physical: str = "") -> Iterator[dict[str, str]]:
    """Write the begin and the end, or the failure, of work on a resource into the journal."""
    note = {"physical": physical}

    def write(phase: str, reason: str = "") -> None:
        job.stack.journal.write(
            "resource",
            what=what,
            phase=phase,
            type=job.type,
            stack=job.stack.name,
            logical=job.logical,
            physical=note["physical"] or None,
            reason=reason,
        )

    write("begin")
    try:
        yield note
    except Exception as error:
        note["physical"] = note["physical"] or getattr(error, "physical", "")
        write("failed", str(error))
        raise
    write("end")


def _call(
    function: Callable[..., object], arguments: tuple[object, ...], named: dict[str, object]
) -> Callable[[], object]:
    return lambda: function(*arguments, **named)
