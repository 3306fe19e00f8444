"""What is done to a cluster between two resizes, on a schedule or by hand: a snapshot.

Nothing here changes the membership, and nothing is asked of CloudFormation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from etcd_resize import planning
from etcd_resize.errors import InvalidRequest
from etcd_resize.model import Snapshot
from etcd_resize.request import Trust
from etcd_resize.service.event import Answer, Outside, cluster_of, take_snapshot
from etcd_resize.service.pursuit import Pursuit
from etcd_resize.service.trust import Trusted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Maintained:
    """Which cluster: its name in the journal, client URLs of its members, and with TLS whose authority signs."""

    cluster: str
    endpoints: tuple[str, ...]
    trust: Trust | None = None


def maintain(outside: Outside, maintained: Maintained, event: object, budget: float) -> Answer:
    """What ``{"action": …}`` asks for; the answer has what became of it. ``budget``: seconds that are left.

    Raises InvalidRequest for another event, and what the action raises.
    """
    wanted = event.get("action") if isinstance(event, Mapping) else None
    if not isinstance(wanted, str) or wanted not in ACTIONS:
        raise InvalidRequest(f'the event is not {{"action": …}} with one of {", ".join(ACTIONS)}')
    logger.info("%s of %s", wanted, maintained.cluster)
    return ACTIONS[wanted](outside, maintained, budget)


def snapshot(outside: Outside, maintained: Maintained, budget: float) -> Answer:
    """Copy the data of a healthy voter, rather not the leader, into the bucket."""
    cluster, trust = maintained.cluster, maintained.trust
    trusted = Trusted(outside.vault, outside.clock, cluster, trust) if trust else None
    gateway = outside.connect(maintained.endpoints, trusted.credentials() if trusted else None, None)
    answered: Answer = {}

    def take(step: Snapshot) -> None:
        answered["Snapshot"] = take_snapshot(outside, gateway, cluster, step.source)
        answered["Source"] = step.source.name

    try:
        look = cluster_of(gateway, outside.journal.cluster(cluster), cluster)
        deadline = outside.clock.monotonic() + budget
        Pursuit(look, {Snapshot: take}, outside.clock, deadline).run(planning.plan_snapshot)
    finally:
        gateway.close()
    return answered


ACTIONS: dict[str, Callable[[Outside, Maintained, float], Answer]] = {"snapshot": snapshot}
