"""Ten thousand hostile events: each ends in one answer that fits, with a reason, and changes nothing.

One that is not from a stack of this function's account is answered nowhere at all.
"""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from etcd_resize import service
from etcd_resize.answer import ANSWER_LIMIT
from etcd_resize.errors import REASON_LIMIT, InvalidRequest
from etcd_resize.model.identity import Identity
from etcd_resize.request import CLUSTER, MEMBER, VOTER
from tests.support.events import (
    FUNCTION,
    STACK,
    cluster_properties,
    event,
    member_properties,
    voter_properties,
)
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines

EVENTS = 10_000
SECRET = "X-Amz-Signature=0123456789abcdef"  # noqa: S105 — what must never be in a log

WHO = Identity("etcd", "etcd-9", "10.0.0.9")
BEFORE = "http://10.0.0.1:2379,http://10.0.0.2:2379"
NASTY: list[Callable[[random.Random], Any]] = [
    lambda _: None,
    lambda _: True,
    lambda _: 3.5,
    lambda _: [],
    lambda _: {"Ref": {"deep": [{}] * 3}},
    lambda dice: "x" * dice.choice([1, 64, 5000, 100_000]),
    lambda _: "",
    lambda _: "\0",
    lambda _: "a\nExecStart=/bin/sh -c evil\n",
    lambda _: '"; rm -rf / #',
    lambda _: "$(reboot)`reboot`${HOME}%n%%",
    lambda _: "- !!python/object/apply:os.system [reboot]",
    lambda _: "\u202egnp.exe \U0001f4a5 é\ud800",
    lambda dice: "".join(chr(dice.randrange(1, 0xD7FF)) for _ in range(dice.randrange(1, 40))),
    lambda _: "../../../../etc/passwd",
    lambda _: "http://[::1]:99999/?a=b#c",
    lambda _: "-1",
    lambda _: "1e9",
    lambda _: "٣",
]


class Context:
    """Lambda's, with all the time in the world."""

    aws_request_id = "request"
    invoked_function_arn = FUNCTION

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def good(dice: random.Random) -> dict[str, Any]:
    """An event that could have been sent."""
    resource, properties = dice.choice([
        (MEMBER, member_properties(WHO, BEFORE)),
        (VOTER, voter_properties(WHO, "abc", BEFORE)),
        (CLUSTER, cluster_properties("etcd", ["10.0.0.1", "10.0.0.2"])),
    ])  # fmt: skip
    action = dice.choice(["Create", "Update", "Delete"])
    made = event(action, resource, dict(properties))
    if action != "Create":
        made["PhysicalResourceId"] = dice.choice([str(WHO), "etcd/cluster", "made-up"])
    made["ResponseURL"] = f"https://127.0.0.1:9/answer?{SECRET}"
    return made


def spoil(sent: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One to four places of it go wrong; at least one of them is a property or the envelope."""
    for _ in range(dice.randrange(1, 5)):
        place = dice.choice([sent, sent.get("ResourceProperties")])
        if not isinstance(place, dict):
            place = sent
        name = dice.choice([name for name in place if name != "ResponseURL"] or ["RequestType"])
        spoiling = dice.randrange(4)
        if spoiling == 0:
            place.pop(name, None)
        elif spoiling == 1:
            place[f"{name}x"] = place.pop(name, "")
        else:
            place[name] = dice.choice(NASTY)(dice)
    return sent


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("ANSWERS_ON_LOOPBACK", "1")
    sent: list[dict[str, Any]] = []

    def send(_: str, body: dict[str, Any], __: object) -> bool:
        sent.append(body)
        return True

    monkeypatch.setattr("etcd_resize.sender.send", send)
    return sent


def kept_from_pytest(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """All that is logged from now on; pytest's workers could not send lone surrogates to each other."""
    written = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(written)])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    return written


@pytest.mark.timeout(600)
def test_ten_thousand_bad_events_are_answered_and_change_nothing(
    answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from etcd_resize import handler  # noqa: PLC0415 — crhelper makes clients for a region when it is imported

    log = kept_from_pytest(monkeypatch)
    dice = random.Random(20261124)  # noqa: S311 — the same events in every run
    expected = 0
    for _ in range(EVENTS):
        clock = FakeClock()
        etcd = FakeCluster.bootstrapped(clock, ["10.0.0.1", "10.0.0.2"])
        before = list(etcd.members)
        bucket, machines = FakeBucket(), FakeMachines()
        outside = service.Outside(etcd.connect, bucket, bucket, machines, clock, bucket.vault)
        monkeypatch.setattr(handler, "outside", lambda outside=outside: outside)
        sent = spoil(good(dice), dice)
        if is_ours(sent):
            handler.handler(sent, Context())
            expected += 1
        else:
            with pytest.raises(InvalidRequest, match="not answered"):
                handler.handler(sent, Context())
        assert len(answers) == expected, sent
        if is_ours(sent):
            check(answers[-1], sent)
        if not is_ours(sent) or answers[-1]["Status"] == "FAILED":
            assert etcd.members == before, sent
        assert machines.history == []
        assert SECRET not in log.getvalue()
        log.seek(0)
        log.truncate()
    failed = sum(answer["Status"] == "FAILED" for answer in answers)
    assert EVENTS / 10 < EVENTS - expected < EVENTS / 2
    assert failed > EVENTS / 3  # the others are Deletes that forgive, and spoilt values that mean the same


def is_ours(sent: dict[str, Any]) -> bool:
    properties = sent.get("ResourceProperties")
    return (
        isinstance(properties, dict)
        and properties.get("ServiceToken") == FUNCTION
        and sent.get("StackId") == STACK
    )


def check(answer: dict[str, Any], sent: dict[str, Any]) -> None:
    assert len(json.dumps(answer)) <= ANSWER_LIMIT, sent
    assert len(answer["Reason"]) <= REASON_LIMIT
    if answer["Status"] == "FAILED":
        assert answer["Reason"], sent
        assert "Traceback" not in answer["Reason"]
        assert "a defect of the function" not in answer["Reason"], sent
