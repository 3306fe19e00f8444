"""The verdict, the result and the summary, from what was measured."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from etcd_resize.model.cluster import ClusterView, Health, Member
from playground import page
from playground.report import (
    MachineLeft,
    Outcome,
    StepDone,
    events,
    exit_status,
    problems,
    result,
    summary,
    write,
)
from playground.steps import Step
from playground.writer import Figures

STARTED = 1_000.0
SERVING = Health(serving=True, leader=1, version="3.5.16")


def cluster(*members: Member) -> ClusterView:
    return ClusterView(cluster_id=7, members=members, has_quorum=True)


def voter(number: int, health: Health = SERVING) -> Member:
    url = f"http://127.82.9.{number}"
    return Member(number, f"etcd-{number}", (f"{url}:2380",), (f"{url}:2379",), health=health)


def good() -> Outcome:
    """A run 1, 2 that went well."""
    figures = Figures(acked=10, p50_ms=2.0, p99_ms=8.0, max_ms=9.0, longest_gap_ms=11.0)
    return Outcome(
        started=STARTED,
        steps=[
            StepDone(Step(0, 1), ok=True, seconds=9.5, seen=cluster(voter(1)), figures=figures),
            StepDone(Step(1, 2), ok=True, seconds=8.25, seen=cluster(voter(1), voter(2)), figures=figures),
            StepDone(Step(2, 0), ok=True, seconds=7.0),
        ],
        planned=3,
        figures=replace(figures, acked=20),
        lost=(),
        etcd="3.5.16",
        python="3.11.7",
    )


def test_a_good_run_has_no_problem() -> None:
    assert problems(good()) == []
    assert exit_status(good()) == 0


LEARNER = replace(voter(2), is_learner=True)
SILENT = voter(2, Health(serving=False, problem="cannot be reached"))
SEEN_INSTEAD = (
    "After the step 'grow 1 → 2' there should be 2 healthy voters, "
    "but this was seen: etcd-1 voter, leader, healthy; etcd-2 "
)


def second_step(**changed: Any) -> list[StepDone]:
    first, second, last = good().steps
    return [first, replace(second, **changed), last]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"steps": second_step(ok=False, reason="no quorum")}, "The step 'grow 1 → 2' failed: no quorum"),
        ({"steps": second_step(seen=cluster(voter(1), LEARNER))}, SEEN_INSTEAD + "learner, healthy."),
        ({"steps": second_step(seen=cluster(voter(1), SILENT))}, SEEN_INSTEAD + "voter, cannot be reached."),
        (
            {"steps": second_step(figures=Figures())},
            "No write was acknowledged during the step 'grow 1 → 2'.",
        ),
        ({"planned": 4}, "1 of 4 steps were not made."),
        (
            {"figures": Figures(acked=20, failed=1), "failures": ("k: x",)},
            "1 writes were acknowledged by no endpoint in time, the first: k: x",
        ),
        ({"figures": Figures()}, "No write was acknowledged at all."),
        ({"lost": ("/demo/1",)}, "1 acknowledged keys are lost, the first: /demo/1"),
        (
            {"lost": None, "unreadable": "nobody answers"},
            "The acknowledged keys could not be read back: nobody answers",
        ),
        ({"missing": ["A member held too few."]}, "A member held too few."),
        (
            {"machines": (MachineLeft("etcd-2", "running", protected=False),)},
            "The machine etcd-2 is still there (running).",
        ),
    ],
)
def test_each_thing_that_goes_wrong_is_one_sentence(changed: dict[str, Any], sentence: str) -> None:
    run = replace(good(), **changed)
    assert problems(run) == [sentence]
    assert exit_status(run) == 1
    assert result(run)["problems"] == [sentence]


def test_a_machine_left_protected_is_told_too() -> None:
    run = good()
    run.machines = (MachineLeft("etcd-2", "exited", protected=True),)
    assert problems(run)[-1] == "The machine etcd-2 is still protected."


def test_the_result_holds_what_was_promised() -> None:
    found = result(good())
    assert found["ok"] is True
    first = {key: found["steps"][1][key] for key in ("from", "to", "seconds", "members", "leader")}
    assert first == {"from": 1, "to": 2, "seconds": 8.25, "members": ["etcd-1", "etcd-2"], "leader": "etcd-1"}
    assert found["writes"] == {
        "acked": 20,
        "failed": 0,
        "lost": 0,
        "retried": 0,
        "errors": {},
        "p50_ms": 2.0,
        "p99_ms": 8.0,
        "max_ms": 9.0,
        "longest_gap_ms": 11.0,
    }
    assert (found["demo"], found["etcd"], found["etcd_before"]) == ("resize", "3.5.16", "3.5.16")
    assert (found["python"], found["started"]) == ("3.11.7", STARTED)
    assert found["events"] == []


OLDER = replace(SERVING, version="3.4.23")


def upgraded(before: Health, after: Health = SERVING) -> Outcome:
    """A run that creates one, and upgrades it."""
    created, _, deleted = good().steps
    step = Step(1, 1, upgrades=True, words="flip it")
    flipped = replace(created, step=step, seen=cluster(voter(1, after)), figures=Figures(acked=10, retried=2))
    steps = [replace(created, seen=cluster(voter(1, before))), flipped, deleted]
    return replace(good(), demo="upgrade", steps=steps)


def test_an_upgrade_names_the_version_before_and_after() -> None:
    run = upgraded(OLDER)
    found = result(run)
    assert (found["demo"], found["etcd_before"], found["etcd"]) == ("upgrade", "3.4.23", "3.5.16")
    assert [(row["what"], row["etcd"]) for row in found["steps"]] == [
        ("create the stack with 1", "3.4.23"),
        ("flip it", "3.5.16"),
        ("delete the stack", ""),
    ]
    assert found["steps"][1]["retried"] == 2
    assert "etcd 3.4.23 → 3.5.16" in told(run)
    assert "An etcd cluster upgraded: 3.4.23 → 3.5.16" in page.render(found)


def test_an_upgrade_that_changed_no_version_has_failed() -> None:
    assert problems(upgraded(SERVING)) == ["After the step 'flip it' etcd is 3.5.16, as before it."]
    assert problems(upgraded(OLDER)) == []


def told(run: Outcome) -> str:
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(summary(run))
    return console.export_text()


RECORDS = [
    {"at": 990.0, "kind": "machine", "what": "start", "instance": "i-old"},
    {
        "at": 1002.5,
        "kind": "answer",
        "request": "Create",
        "resource": "Custom::EtcdMember",
        "status": "SUCCESS",
        "seconds": 0.5,
        "data": {"UserData": "x" * 5000},
    },
    {
        "at": 1002.0,
        "kind": "event",
        "request": "Create",
        "resource": "Custom::EtcdMember",
        "properties": {"Name": "etcd-1"},
        "physical": None,
    },
    {"at": 1003.0, "kind": "machine", "what": "start", "instance": "i-1", "address": "127.82.9.1"},
    {"at": 1004.0, "kind": "resource", "what": "create", "type": "AWS::IAM::Role"},
    {"at": 1005.0, "kind": "stack", "status": "CREATE_COMPLETE"},
]


def test_events_are_those_of_this_run_in_order_and_short() -> None:
    found = events(RECORDS, STARTED)
    assert [(event["at"], event["kind"]) for event in found] == [
        *((2.0, "event"), (2.5, "answer"), (3.0, "machine")),
    ]
    assert len(json.dumps(found)) < 600


def test_the_summary_is_written_as_plain_text(tmp_path: Path) -> None:
    picture = write(good(), tmp_path / "demo/result.json", "the last picture")
    text = picture.read_text()
    assert picture.name == "summary.txt"
    assert "\x1b" not in text
    for expected in ("the last picture", "etcd 3.5.16", "20 acknowledged", "0 lost", "p99 8.0 ms"):
        assert expected in text
    assert json.loads((tmp_path / "demo/result.json").read_text()) == result(good())


def test_the_summary_ends_with_what_went_wrong() -> None:
    run = good()
    run.lost = ("/demo/1",)
    assert "1 acknowledged keys are lost" in told(run).splitlines()[-1]
