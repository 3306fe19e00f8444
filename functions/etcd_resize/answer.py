"""What goes back to CloudFormation, and whether it fits. PURE.

crhelper sends whatever it is given; CloudFormation takes at most 4,096 bytes, envelope included
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from etcd_resize.errors import Refused
from etcd_resize.model.cluster import ClusterView, Member, hex_id

ANSWER_LIMIT = 4096
_ENVELOPE = {"Status": "SUCCESS", "Reason": "", "NoEcho": False, "RequestId": "0" * 36}
_SPARE = 64
"""Bytes kept free: crhelper's JSON has the same fields, and this is for one that a later version adds."""


def room(physical_id: str, stack_id: str, logical_id: str, data: Mapping[str, str]) -> int:
    """Bytes that are left in an answer which carries ``data``."""
    body = {
        **_ENVELOPE,
        "PhysicalResourceId": physical_id,
        "StackId": stack_id,
        "LogicalResourceId": logical_id,
        "Data": dict(data),
    }
    return ANSWER_LIMIT - _SPARE - len(json.dumps(body))


def check(physical_id: str, stack_id: str, logical_id: str, data: Mapping[str, str]) -> None:
    """Refuse an answer that CloudFormation would not take."""
    left = room(physical_id, stack_id, logical_id, data)
    if left < 0:
        raise Refused(
            f"the answer for {physical_id} is {-left} bytes over the 4,096 that CloudFormation takes"
        )


def member_list(view: ClusterView) -> str:
    """The members as ``etcdctl member list`` of etcd 2 wrote them, one a line."""
    return "\n".join(_member_line(member, view) for member in view.members)


def _member_line(member: Member, view: ClusterView) -> str:
    peers = ",".join(member.peer_urls)
    if not member.started:
        return f"{hex_id(member.id)}[unstarted]: peerURLs={peers}"
    leads = str(member == view.leader).lower()
    learns = " isLearner=true" if member.is_learner else ""
    clients = ",".join(member.client_urls)
    return f"{hex_id(member.id)}: name={member.name} peerURLs={peers} clientURLs={clients} isLeader={leads}{learns}"
