"""What is done to a cluster between two resizes, on a schedule or by hand: a snapshot, a defragmentation.

Nothing here changes the membership, and nothing is asked of CloudFormation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcd_resize import planning
from etcd_resize.errors import GaveUp, InvalidRequest
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.steps import Defragment, Snapshot
from etcd_resize.service.event import Answer, Outside, cluster_of, take_snapshot
from etcd_resize.service.pursuit import Hand, Planner, Pursuit
from etcd_resize.service.trust import kept_credentials

if TYPE_CHECKING:
    from etcd_resize.gateway import Gateway

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Maintained:
    """Which cluster: its name in the journal, and client URLs of its members."""

    cluster: str
    endpoints: tuple[str, ...]


def maintain(outside: Outside, maintained: Maintained, event: object, budget: float) -> Answer:
    """What ``{"action": …}`` asks for; the answer has what became of it. ``budget``: seconds that are left.

    Raises InvalidRequest for another event, and what the action raises.
    """
    wanted = event.get("action") if isinstance(event, Mapping) else None
    if not isinstance(wanted, str) or wanted not in ACTIONS:
        raise InvalidRequest(f'the event is not {{"action": …}} with one of {", ".join(ACTIONS)}')
    logger.info("%s of %s", wanted, maintained.cluster)
    with _connected(outside, maintained) as gateway:
        return ACTIONS[wanted](outside, maintained, gateway, outside.clock.monotonic() + budget)


@contextmanager
def _connected(outside: Outside, maintained: Maintained) -> Iterator[Gateway]:
    # nothing is signed here: that is the provider's
    credentials, _ = kept_credentials(outside.vault, maintained.cluster)
    gateway = outside.connect(maintained.endpoints, credentials, None)
    try:
        yield gateway
    finally:
        gateway.close()


def snapshot(outside: Outside, maintained: Maintained, gateway: Gateway, deadline: float) -> Answer:
    """Copy the data of a healthy voter, rather not the leader, into the bucket."""
    answered: Answer = {}

    def take(step: Snapshot) -> None:
        answered["Snapshot"] = take_snapshot(outside, gateway, maintained.cluster, step.source)
        answered["Source"] = step.source.name

    _pursue(outside, maintained, gateway, deadline, {Snapshot: take}, planning.plan_snapshot)
    return answered


def defragment(outside: Outside, maintained: Maintained, gateway: Gateway, deadline: float) -> Answer:
    """Defragment one member after the other, the leader last; how many bytes each had, and has.

    What fails in the middle has done no harm: those that come before it are done, the others are as they were. None is
    begun with less time left than the slowest one took.
    """
    sizes: dict[str, int] = {}
    longest = 0.0

    def defragment_one(step: Defragment) -> None:
        nonlocal longest
        begin = outside.clock.monotonic()
        if begin + longest > deadline:
            raise GaveUp(f"no time is left for {step.member.label}, done are {', '.join(sizes) or 'none'}")
        gateway.defragment(step.member)
        longest = max(longest, outside.clock.monotonic() - begin)
        sizes[step.member.name] = step.member.health.db_size

    hands: dict[type, Hand] = {Defragment: defragment_one}
    view = _pursue(outside, maintained, gateway, deadline, hands, planning.plan_defragmentation)
    after = {member.name: member.health.db_size for member in view.members}
    told = [f"{name} from {size} to {after[name]} bytes" for name, size in sizes.items()]
    return {"Defragmented": "; ".join(told)}


def _pursue(
    outside: Outside,
    maintained: Maintained,
    gateway: Gateway,
    deadline: float,
    hands: Mapping[type, Hand],
    plan: Planner,
) -> ClusterView:
    look = cluster_of(gateway, outside.journal.cluster(maintained.cluster), maintained.cluster)
    return Pursuit(look, hands, outside.clock, deadline).run(plan)


ACTIONS: dict[str, Callable[[Outside, Maintained, Gateway, float], Answer]] = {
    "snapshot": snapshot,
    "defragment": defragment,
}
