"""The answer: its size, and the member list in the operators' form."""

from __future__ import annotations

import json

import pytest

from etcd_resize import answer
from etcd_resize.errors import Refused
from etcd_resize.model.cluster import ClusterView, Health, Member


def test_room_is_what_crhelper_s_envelope_leaves() -> None:
    data = {"A": "x"}
    sent = {
        "Status": "SUCCESS",
        "PhysicalResourceId": "etcd/m@10.0.0.1",
        "StackId": "arn:stack",
        "RequestId": "0" * 36,
        "LogicalResourceId": "Member",
        "Reason": "",
        "Data": {"A": "x" * (1 + answer.room("etcd/m@10.0.0.1", "arn:stack", "Member", data))},
        "NoEcho": False,
    }
    assert len(json.dumps(sent)) <= answer.ANSWER_LIMIT


def test_one_byte_over_is_refused() -> None:
    room = answer.room("id", "stack", "logical", {"A": ""})
    answer.check("id", "stack", "logical", {"A": "x" * room})
    with pytest.raises(Refused, match="1 bytes over the 4,096"):
        answer.check("id", "stack", "logical", {"A": "x" * (room + 1)})


def test_the_member_list_is_the_one_that_operators_know() -> None:
    view = ClusterView(
        1,
        (
            Member(
                0x713C502A7E25BD01,
                "instance1",
                ("http://172.31.29.103:2380",),
                ("http://172.31.29.103:2379",),
                health=Health(serving=True, leader=0x713C502A7E25BD01),
            ),
            Member(0xC815853C77EA5901, "", ("http://172.31.22.9:2380",), is_learner=True),
            Member(
                0x2, "instance4", ("http://172.31.22.8:2380",), ("http://172.31.22.8:2379",), is_learner=True
            ),
        ),
        has_quorum=True,
    )
    assert answer.member_list(view) == (
        "713c502a7e25bd01: name=instance1 peerURLs=http://172.31.29.103:2380"
        " clientURLs=http://172.31.29.103:2379 isLeader=true\n"
        "c815853c77ea5901[unstarted]: peerURLs=http://172.31.22.9:2380\n"
        "2: name=instance4 peerURLs=http://172.31.22.8:2380 clientURLs=http://172.31.22.8:2379 isLeader=false"
        " isLearner=true"
    )
