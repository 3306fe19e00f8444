"""One create or update of one stack: forward, then either the clean-up or the way back.

A create is an update of nothing, so both are one class. The phases, each as CloudFormation has it:

    go_forward   create and update in the order of the dependencies. Nothing is deleted, so everything can be put back.
    clean_up     after the whole update has succeeded: delete what was replaced or removed.
    roll_back    after a failure: a create deletes what it made. An update sends the old properties again, and leaves
                 what it made to the clean-up.

A nested stack is a deployment of its own, which goes forward in the middle of its parent's. Its clean-up and its way
back wait for the parent's (`Pending`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from playground.cloud import parts
from playground.cloud.deletion import CLEAN_UP_TRIES, Deletion, failed_sentence
from playground.cloud.graph import Cancel, Graph, walk
from playground.cloud.kinds import Failed, Job, Kinds, Made, Pending
from playground.cloud.stack import REVISION_KEYS, Record, Revision, Stack

REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."
PROVIDER_REPLACED = "Requested update required the provider to create a new physical resource"


@dataclasses.dataclass
class Change:
    """What this deployment did to one resource."""

    type: str
    old: Record | None
    """The record of the resource that was there before, of whatever type."""
    before: Record
    """The old properties as they were sent."""
    after: Record = dataclasses.field(default_factory=dict)
    """The new properties as they were sent; empty until then."""
    new: Record | None = None
    """The record of what is there now, None if the attempt failed."""
    left: Record | None = None
    """What a failed attempt may have left behind."""
    leftovers: list[Callable[[], object]] = dataclasses.field(default_factory=list)
    pending: Pending | None = None

    @property
    def verb(self) -> str:
        """CREATE or UPDATE, as the resource's events say."""
        return "CREATE" if self.old is None else "UPDATE"

    @property
    def replaced(self) -> bool:
        """Whether the old resource still exists beside the new one."""
        old, new = self.old, self.new
        return bool(
            old
            and new
            and (old["PhysicalResourceId"] != new["PhysicalResourceId"] or old["ResourceType"] != self.type)
        )

    @property
    def made(self) -> Record | None:
        """What a rollback deletes."""
        return self.new if self.old is None or self.replaced else None


class Deployment:
    """A create (`previous` is None) or an update of one stack.

    `previous` is the stack as it was: `_resources` and REVISION_KEYS. The stack's record has the new revision already.
    """

    def __init__(
        self, stack: Stack, kinds: Kinds, previous: Mapping[str, object] | None, cancel: Cancel | None = None
    ) -> None:
        self.stack = stack
        self.cancel = cancel or Cancel()
        self.reason = ""
        """Why it failed, in CloudFormation's words."""
        self.rolled_back = False
        self.stuck = ""
        self.keep_retained = True
        """Whether a rollback honours DeletionPolicy Retain for what it created (RetainExceptOnCreate unset)."""
        self._kinds = kinds
        self._previous = previous
        self._verb = "CREATE" if previous is None else "UPDATE"
        self._old_resources: dict[str, Record] = dict((previous or {}).get("_resources") or {})  # type: ignore[call-overload]
        self._old = Revision(stack, previous or {})
        self._new = Revision(stack, stack.record)
        self._changes: dict[str, Change] = {}
        self._failed: dict[str, list[str]] = {"CREATE": [], "UPDATE": []}
        self._reverts_left: set[str] = set()
        stack.record["_resources"] = dict(self._old_resources)

    # ---- forward ----

    def go_forward(self) -> bool:
        """Create and update everything. Returns whether it all succeeded; the stack's status says so only if it did."""
        outputs: list[Record] = []
        exports: dict[str, Record] = {}
        try:
            if walk(self._new.dependencies(), self._apply):
                outputs, exports = self._new.outputs()
        except Exception as error:  # noqa: BLE001 - an output that does not resolve fails the stack, however it fails
            self.reason = str(error) or repr(error)
            self.stack.become(f"{self._verb}_FAILED", self.reason)
        self.reason = self.reason or self._sentence() or ("User Initiated" if self.cancel.is_set() else "")
        if self.reason:
            return False
        self.stack.record["Outputs"] = outputs
        parts.exports.update(exports)
        self.stack.become(
            "CREATE_COMPLETE" if self._verb == "CREATE" else "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        )
        return True

    def _apply(self, logical: str) -> bool:
        """Create or update one resource. False, and everything else is asked to stop, if that fails."""
        if self.cancel.is_set():
            return False
        old = self._old_resources.get(logical)
        before = self._old.sent(logical, old["ResourceType"], old["Properties"]) if old else {}
        change = Change(self._new.type_of(logical), old, before)
        try:
            return self._change(logical, change)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the reason in the event
            self._changes[logical] = change
            self._fail(logical, change, error)
            return False

    def _change(self, logical: str, change: Change) -> bool:
        properties, dynamic = self._new.resolve(logical, change.old)
        kind = self._kinds.of(change.type)
        job = self._job(logical, change.type, self._new.sent(logical, change.type, properties))
        same_type = change.old is not None and change.old["ResourceType"] == change.type
        if change.old and same_type and kind.unchanged(job, change.old, change.before):
            return True
        self._changes[logical] = change
        physical = change.old["PhysicalResourceId"] if change.old else ""
        self._say(logical, change, "IN_PROGRESS", physical=physical)
        if change.old and (
            not same_type or parts.replacing_change(change.type, change.before, job.properties)
        ):
            self._say(logical, change, "IN_PROGRESS", REPLACING, physical)
        change.after = job.properties
        made = kind.update(job, change.old, change.before) if change.old and same_type else kind.create(job)
        self._keep(logical, change, made, properties, dynamic)
        return True

    def _keep(self, logical: str, change: Change, made: Made, properties: Record, dynamic: Record) -> None:
        """Record the resource that is there now."""
        change.leftovers, change.pending = made.leftovers, made.pending
        change.new = {
            "LogicalResourceId": logical,
            "PhysicalResourceId": made.physical,
            "ResourceType": change.type,
            "ResourceStatus": f"{change.verb}_COMPLETE",
            "Properties": properties,
            "Attributes": made.attributes,
            "Timestamp": parts.now_iso(),
            "_dynamic": dynamic,
            "_name_seed": made.seed,
        }
        self.stack.resources[logical] = change.new
        if change.old is None:
            self._say(logical, change, "IN_PROGRESS", "Resource creation Initiated", made.physical)
        elif change.replaced:
            self._say(logical, change, "IN_PROGRESS", PROVIDER_REPLACED, made.physical)
        self._say(logical, change, "COMPLETE", physical=made.physical)

    def _fail(self, logical: str, change: Change, error: Exception) -> None:
        """Record a failure, and ask whatever else is under way to stop."""
        old_physical = change.old["PhysicalResourceId"] if change.old else ""
        physical = error.physical if isinstance(error, Failed) else ""
        if physical and physical != old_physical:
            change.left = {
                "PhysicalResourceId": physical,
                "ResourceType": change.type,
                "Properties": change.after,
                "ResourceStatus": f"{change.verb}_FAILED",
            }
        change.pending = error.pending if isinstance(error, Failed) else None
        self._failed[change.verb].append(logical)
        self._say(logical, change, "FAILED", str(error) or repr(error), physical or old_physical)
        self.cancel.set()

    # ---- the clean-up ----

    def clean_up(self) -> None:
        """Delete what is not needed any more, and end the update."""
        if self.rolled_back:
            doomed = self._made()
            graph, policy, end = self._new.dependencies(), self._rollback_policy, "UPDATE_ROLLBACK_COMPLETE"
        else:
            doomed = self._superseded()
            graph, policy, end = self._old.dependencies(), self._clean_up_policy, "UPDATE_COMPLETE"
        deletion = Deletion(
            self.stack,
            self._kinds,
            doomed,
            policy=policy,
            tries=CLEAN_UP_TRIES,
            also=self._clean_up_leftovers,
        )
        nested = [logical for logical, change in self._changes.items() if change.pending]
        walk(
            {"": (), **dict.fromkeys(nested, ())},
            lambda logical: self._clean_up_part(logical, deletion, graph),
        )
        for logical in deletion.failed:
            if self.stack.resources.get(logical) is doomed[logical]:
                del self.stack.resources[logical]  # CloudFormation forgets it
        self.stack.become(end)

    def _superseded(self) -> dict[str, Record]:
        """The records of what was removed or replaced."""
        replaced = {
            logical: change.old for logical, change in self._changes.items() if change.old and change.replaced
        }
        gone = self._old_resources.keys() - self._new.definitions.keys()
        return replaced | {logical: self._old_resources[logical] for logical in gone}

    def _made(self) -> dict[str, Record]:
        """The records of what this deployment made, and of what its failures may have left behind."""
        made = {logical: change.made or change.left for logical, change in self._changes.items()}
        return {logical: record for logical, record in made.items() if record}

    def _clean_up_part(self, logical: str, deletion: Deletion, graph: Graph) -> bool:
        """The clean-up of one nested stack, or of what is this stack's own: all of them go on side by side."""
        if not logical:
            deletion.run(graph)
            return True
        change = self._changes[logical]
        if change.pending:
            change.pending.clean_up()
            self._say(
                logical, change, "COMPLETE", physical=change.old["PhysicalResourceId"] if change.old else ""
            )
        return True

    def _clean_up_leftovers(self, logical: str) -> None:
        """The deletes that a handler of ministack asked for."""
        change = self._changes.get(logical)
        if change is None:
            return
        for delete in () if self.rolled_back else change.leftovers:
            try:
                delete()
            except Exception as error:  # noqa: BLE001 - a clean-up goes on
                physical = change.old["PhysicalResourceId"] if change.old else ""
                self.stack.event(logical, change.type, "DELETE_FAILED", str(error) or repr(error), physical)

    def _clean_up_policy(self, logical: str) -> str:
        if logical in self._new.definitions:
            return self._new.policy(logical, "UpdateReplacePolicy")
        return self._old.policy(logical, "DeletionPolicy")

    # ---- the way back ----

    def roll_back(self) -> None:
        """Undo: a create deletes what it made, an update goes back to the old revision and waits for its clean-up."""
        if self.rolled_back:
            if self.stuck:
                self.continue_rollback()
            return
        self.rolled_back = True
        if self._verb == "CREATE":
            self._roll_back_create()
        else:
            self._reverts_left = {logical for logical, change in self._changes.items() if change.old}
            self.continue_rollback()

    def _roll_back_create(self) -> None:
        self.stack.become("ROLLBACK_IN_PROGRESS", f"{self.reason} Rollback requested by user.")
        made = self._made()
        self.stack.resources.update(made)
        deletion = Deletion(self.stack, self._kinds, made, policy=self._rollback_policy)
        deletion.run(self._new.dependencies())
        if deletion.failed:
            self.stuck = failed_sentence("delete", deletion.failed)
        self.stack.become("ROLLBACK_FAILED" if self.stuck else "ROLLBACK_COMPLETE", self.stuck)

    def continue_rollback(self, skip: frozenset[str] = frozenset()) -> None:
        """Send back every updated resource that is not back yet. UPDATE_ROLLBACK_FAILED if one refuses."""
        self.stack.become("UPDATE_ROLLBACK_IN_PROGRESS", self.reason)
        for logical in skip & self._reverts_left:
            self._put_back(logical)
        walk(self._old.dependencies(), self._revert)
        if self._reverts_left:
            self.stuck = failed_sentence("update", sorted(self._reverts_left))
            # ContinueUpdateRollback lets these be skipped
            self.stack.record["_rollback_failed"] = dict.fromkeys(self._reverts_left)
            self.stack.become("UPDATE_ROLLBACK_FAILED", self.stuck)
            return
        self.stuck = ""
        for logical in self._changes.keys() - self._old_resources.keys():
            self.stack.resources.pop(logical, None)
        self.stack.record.update({key: (self._previous or {}).get(key) for key in REVISION_KEYS})
        self.stack.become("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")

    def _revert(self, logical: str) -> bool:
        """Send one resource back to its old properties. Always True: the others are sent back all the same."""
        if logical not in self._reverts_left:
            return True
        change = self._changes[logical]
        old = change.old or {}
        physical = old["PhysicalResourceId"]
        self._say(logical, change, "IN_PROGRESS", physical=physical)
        try:
            self._send_back(logical, change, old)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the reason in the event
            self._say(logical, change, "FAILED", str(error) or repr(error), physical)
            return True
        self._put_back(logical)
        return True

    def _send_back(self, logical: str, change: Change, old: Record) -> None:
        if change.pending:
            change.pending.roll_back()
            if change.pending.stuck:
                raise Failed(change.pending.stuck)
            return
        kind = self._kinds.of(change.type)
        if change.replaced or old["ResourceType"] != change.type:
            return  # the old one is still there
        if change.new is None and not (kind.reverts_failed_updates and change.after):
            return  # nothing was changed
        job = self._job(logical, change.type, change.before)
        job.cancel = Cancel()
        kind.update(job, change.new or old, change.after)

    def _put_back(self, logical: str) -> None:
        change = self._changes[logical]
        old = change.old or {}
        self.stack.resources[logical] = {
            **old,
            "ResourceStatus": "UPDATE_COMPLETE",
            "Timestamp": parts.now_iso(),
        }
        self._reverts_left.discard(logical)
        self._say(logical, change, "COMPLETE", physical=old["PhysicalResourceId"])

    def _rollback_policy(self, logical: str) -> str:
        policy = self._new.policy(logical, "DeletionPolicy")
        return "Retain" if policy == "Retain" and self.keep_retained else "Delete"

    def hold(self) -> None:
        """Leave a failed deployment as it is, with what its failures left behind, for a later delete of the stack."""
        self.stack.resources.update(self._made())

    # ---- common ----

    def _job(self, logical: str, kind: str, properties: Record) -> Job:
        policy = self._new.policy(logical, "UpdateReplacePolicy")
        return Job(
            self.stack,
            logical,
            kind,
            properties,
            self.cancel,
            retain_replaced=policy in parts.RETAINING_POLICIES,
        )

    def _say(self, logical: str, change: Change, step: str, reason: str = "", physical: str = "") -> None:
        self.stack.event(logical, change.type, f"{change.verb}_{step}", reason, physical)

    def _sentence(self) -> str:
        return " ".join(
            failed_sentence(verb.lower(), sorted(failed)) for verb, failed in self._failed.items() if failed
        )
