"""One plan, pursued until it is done: look, plan, take the first step, look again.

This is the only loop of the package. It knows no resource and no rule; it knows deadlines and patience,
and it turns what lasts too long into a refusal with the reason that was last seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from etcd_resize.errors import GaveUp, Refused, Retryable
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.steps import (
    Defragment,
    Hold,
    Plan,
    Protect,
    Refuse,
    Remove,
    Snapshot,
    Step,
    Unprotect,
    Wait,
)
from etcd_resize.planning import Progress

POLL_SECONDS = 0.1
"""Between two looks. etcd answers a look in a few milliseconds; more often would be noise for it."""
LOG_SECONDS = 10.0
"""A wait is logged this often, so that a watcher sees that it lives."""

logger = logging.getLogger(__name__)

Planner: TypeAlias = Callable[[ClusterView, Progress], Plan]
Hand: TypeAlias = Callable[[Any], None]


class Clock(Protocol):
    """Time, as an argument."""

    def monotonic(self) -> float:
        """Seconds that only ever grow."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass
class Pursuit:
    """``look`` gives a view or raises Retryable; ``hands`` carry out a step by its type.

    ``deadline`` is in the clock's monotonic seconds; it bounds the waiting, not a step that has begun.
    """

    look: Callable[[], ClusterView]
    hands: Mapping[type, Hand]
    clock: Clock
    deadline: float
    progress: Progress = field(default_factory=Progress)
    _obstacle: str = ""
    _since: float = 0.0
    _logged: float = 0.0
    _healthy_since: float | None = None
    _printed: str = ""

    def run(self, plan: Planner) -> ClusterView:
        """Pursue until nothing is left to do; the view that showed it. Raises Refused, or GaveUp."""
        while True:
            try:
                view = self.look()
                wanted = plan(view, self.progress)
                self._print(wanted)
                if not wanted.steps:
                    return view
                self._take(wanted.steps[0])
            except Retryable as obstacle:
                self._wait(Wait("retry", str(obstacle)))

    def carry_out(self, plan: Plan) -> None:
        """Take all steps of a plan that needs no look in between."""
        self._print(plan)
        for step in plan.steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        if isinstance(step, Refuse):
            raise Refused(step.reason)
        if isinstance(step, Wait):
            self._wait(step)
            return
        if isinstance(step, Hold):
            self._hold()
            return
        self.hands[type(step)](step)
        self._obstacle = ""
        self.progress = _after(step, self.progress)

    def _hold(self) -> None:
        now = self.clock.monotonic()
        if self._healthy_since is None:
            self._healthy_since = now
        self.progress = replace(self.progress, healthy_for=now - self._healthy_since)
        self._pause("it was not healthy for long enough")

    def _wait(self, obstacle: Wait) -> None:
        now = self.clock.monotonic()
        self._healthy_since = None
        self.progress = replace(self.progress, healthy_for=0.0)
        if obstacle.cause != self._obstacle:
            self._obstacle, self._since = obstacle.cause, now
        self.progress = replace(self.progress, waited_for=obstacle.cause, waited=now - self._since)
        if now - self._since >= obstacle.patience:
            raise GaveUp(f"{obstacle.reason} (waited {now - self._since:.0f} s)")
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            logger.info("waiting: %s", obstacle.reason)
        self._pause(obstacle.reason)

    def _pause(self, reason: str) -> None:
        left = self.deadline - self.clock.monotonic()
        if left <= 0:
            raise GaveUp(f"{reason} (gave up at the deadline)")
        self.clock.sleep(min(POLL_SECONDS, left))

    def _print(self, plan: Plan) -> None:
        if str(plan) != self._printed:
            self._printed = str(plan)
            logger.info("plan: %s", plan)


def _after(step: Step, progress: Progress) -> Progress:
    if isinstance(step, Remove):
        return replace(progress, waited_for="", waited=0.0)
    if isinstance(step, Snapshot):
        return replace(progress, snapshot_taken=True)
    if isinstance(step, Defragment):
        return replace(progress, defragmented=progress.defragmented | {step.member.id})
    if isinstance(step, Protect):
        return replace(progress, protected=True)
    if isinstance(step, Unprotect):
        return replace(progress, released=progress.released | {step.instance})
    return progress
