"""The stack operations: what ministack's API calls instead of its own deploy and delete loops.

Why not ministack's: it deploys one resource after the other, sends no Delete after a failed Create, and gives a nested
stack neither a rollback nor a clean-up. This engine behaves as CloudFormation does, and works on the records that
ministack's API serves. The pieces, each below the one before:

    engine.py      this: one operation a stack, on a thread of its own
    deployment.py  a create or an update: forward, clean-up, way back
    deletion.py    deleting resources, of a stack, a rollback or a clean-up
    kinds.py       one resource: ministack's own, custom (custom.py), a nested stack (nested.py)
    stack.py       a stack's record and what its template says
    graph.py       walking a dependency graph in parallel
    parts.py       what of ministack is used
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from playground.cloud import parts
from playground.cloud.custom import Custom
from playground.cloud.deletion import delete_stack
from playground.cloud.deployment import Deployment
from playground.cloud.kinds import Kinds
from playground.cloud.nested import Nested
from playground.cloud.stack import Record, Revision, Stack
from playground.journal import Journal

logger = logging.getLogger("playground")


class Engine:
    """The operations of CloudFormation. Each method runs to its end; what became of it, the stack's record tells."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kinds = Kinds(Custom())
        self._kinds.register_nested(Nested(self._kinds, journal))
        self._deployments: dict[str, Deployment] = {}
        """The last deployment of each stack, by stack id: what a cancel, a rollback or its continuation works on."""
        self._running: dict[str, threading.Event] = {}
        """Set when that deployment is over."""
        self._unwanted: set[str] = set()
        """Stacks whose delete waits for the end of their deployment: nothing is rolled back there."""

    def announce(self, name: str, status: str) -> None:
        """Show the status of an operation that was asked for; its event comes when it begins.

        While another operation is in progress, that one's status is shown until it ends.
        """
        stack = self._stack(name)
        if not stack.state.endswith("_IN_PROGRESS"):
            stack.record["StackStatus"] = status

    def deploy(
        self, name: str, previous: Mapping[str, object] | None, *, disable_rollback: bool, keep_retained: bool
    ) -> None:
        """Create or update a stack whose record has the new revision already; `previous` is what an update replaces."""
        stack = self._stack(name)
        stack.note()
        deployment = Deployment(stack, self._kinds, previous)
        deployment.keep_retained = keep_retained
        self._deployments[stack.id] = deployment
        over = self._running[stack.id] = threading.Event()
        try:
            if deployment.go_forward():
                if previous is not None:
                    deployment.clean_up()
            elif disable_rollback or stack.id in self._unwanted:
                deployment.hold()
                if stack.id not in self._unwanted:  # else it is being deleted: it never rests in between
                    stack.become("CREATE_FAILED" if previous is None else "UPDATE_FAILED", deployment.reason)
            else:
                self.roll_back(name)
        finally:
            over.set()

    def roll_back(self, name: str) -> None:
        """Roll the last, failed deployment of a stack back."""
        self._finish_rollback(name, lambda deployment: deployment.roll_back())

    def continue_rollback(self, name: str, skip: frozenset[str]) -> None:
        """Go on with a rollback that was stuck; what is in `skip` counts as rolled back."""
        self._finish_rollback(name, lambda deployment: deployment.continue_rollback(skip))

    def _finish_rollback(self, name: str, step: Callable[[Deployment], None]) -> None:
        stack = self._stack(name)
        deployment = self._deployments.get(stack.id)
        if deployment is None:
            return
        step(deployment)
        if stack.state == "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS":
            deployment.clean_up()

    def cancel(self, name: str) -> None:
        """Ask the running update of a stack to stop and roll back."""
        deployment = self._deployments.get(self._stack(name).id)
        if deployment:
            deployment.cancel.set()

    def delete(self, name: str, retain: frozenset[str], *, force: bool) -> None:
        """Delete a stack. `force` leaves behind what does not delete, `retain` what it names."""
        stack = self._stack(name)
        self._end_deployment(stack)
        revision = Revision(stack, stack.record)

        def policy(logical: str) -> str:
            failed_before = stack.resources.get(logical, {}).get("ResourceStatus") == "DELETE_FAILED"
            if logical in retain or (force and failed_before):
                return "Retain"
            return revision.policy(logical, "DeletionPolicy")

        delete_stack(stack, self._kinds, revision.dependencies(), policy)

    def _end_deployment(self, stack: Stack) -> None:
        """Stop the deployment that is under way, if there is one, and wait for its end."""
        running = self._running.get(stack.id)
        if running and not running.is_set():
            self._unwanted.add(stack.id)
            self.cancel(stack.name)
            running.wait()

    def fail(self, name: str, verb: str, error: Exception) -> None:
        """End an operation that broke by a fault of the engine's own, so that nobody waits for it for ever."""
        logger.error("The %s of stack %s broke", verb, name, exc_info=error)
        self._stack(name).become(f"{verb}_FAILED", f"Internal failure: {error!r}")

    def _stack(self, name: str) -> Stack:
        stack = Stack.find(name, self._journal)
        if stack is None:
            raise KeyError(name)
        return stack


def with_revision(record: Record, template: Record, parameters: Record) -> None:
    """Give a stack's record the revision that an operation is about to reach; ministack does that at the end only."""
    record["_template"] = template
    record["_resolved_params"] = parameters
    record["_conditions"] = parts.evaluate_conditions(template, parameters)
