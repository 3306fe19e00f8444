"""What a Create, an Update and a Delete mean for each of the three resources.

Gather, plan, apply: the decisions are in ``planning``, the loop in ``pursuit``; ``member``, ``voter`` and
``cluster`` say which plan an event pursues, and what is written to the journal before and after it.
"""

from __future__ import annotations

import logging

from etcd_resize.request import CLUSTER, MEMBER, VOTER, Request
from etcd_resize.service.cluster import ClusterEvent
from etcd_resize.service.event import Answer, Outside
from etcd_resize.service.maintenance import Maintained, maintain
from etcd_resize.service.member import MemberEvent
from etcd_resize.service.voter import VoterEvent

__all__ = ["Answer", "Maintained", "Outside", "handle", "maintain"]

_EVENTS: dict[str, type[MemberEvent | VoterEvent | ClusterEvent]] = {
    MEMBER: MemberEvent,
    VOTER: VoterEvent,
    CLUSTER: ClusterEvent,
}

logger = logging.getLogger(__name__)


def handle(outside: Outside, request: Request, budget: float) -> Answer:
    """The attributes to answer with. ``budget``: seconds that are left for this event.

    Raises Refused, Retryable or InvalidRequest; the text is the reason for the stack's events.
    """
    if request.properties is None:
        logger.info("nothing to delete: its properties were refused when it was to be created")
        return {}
    event = _EVENTS[request.resource](outside, request, min(budget, request.properties.timeout))
    actions = {"Create": event.create, "Update": event.update, "Delete": event.delete}
    return actions[request.action](request.properties)  # type: ignore[arg-type]
