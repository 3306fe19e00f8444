"""Whole runs on real etcd, with a cloud that needs no CloudFormation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from etcd_resize.model.urls import client_url
from playground import report
from playground.connections import Connections
from playground.demo_run import Demo
from playground.view import changes, draw
from playground.writer import Timing
from tests.demo.hand_made_cloud import HandMadeCloud
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

CloudOf = Callable[..., HandMadeCloud]


@pytest.fixture
def make_cloud(etcd: Path, addresses: list[str], tmp_path: Path) -> Iterator[CloudOf]:
    with ExitStack() as ending:

        def make(**settings: object) -> HandMadeCloud:
            cloud = HandMadeCloud(etcd, tmp_path / "etcd", addresses, **settings)  # type: ignore[arg-type]
            ending.callback(cloud.stop)
            return cloud

        yield make


def test_a_run_that_goes_well(make_cloud: CloudOf, tmp_path: Path) -> None:
    demo = Demo((1, 2, 1))
    cloud = make_cloud(before_answer=lambda _: wait_for_writes(demo, 100))
    outcome = demo.run(cloud)

    assert report.problems(outcome) == []
    assert report.exit_status(outcome) == 0
    assert cloud.deployed == [
        {"VpcId": "vpc-1", "Tls": "off", "ClusterSize": "1"},
        {"ClusterSize": "2"},
        {"ClusterSize": "1"},
    ]
    picture = report.write(outcome, tmp_path / "demo/result.json", draw(demo.frame()))
    result = json.loads((tmp_path / "demo/result.json").read_text())
    assert [(row["from"], row["to"], row["members"]) for row in result["steps"]] == [
        (0, 1, ["etcd-1"]),
        (1, 2, ["etcd-1", "etcd-2"]),
        (2, 1, ["etcd-1"]),
        (1, 0, []),
    ]
    assert all(row["leader"] in row["members"] for row in result["steps"][:-1])
    writes = result["writes"]
    assert (writes["failed"], writes["lost"]) == (0, 0)
    assert writes["acked"] >= 300
    assert writes["acked"] == sum(row["acked"] for row in result["steps"])
    assert [event["what"] for event in result["events"] if event["kind"] == "machine"] == [
        *("start", "start"),
        *("stop", "stop"),
    ]
    assert result["etcd"].startswith("3.")
    assert "Nothing failed, and nothing was lost." in picture.read_text()


def wait_for_writes(demo: Demo, writes: int) -> None:
    wanted = demo.frame().writes.acked + writes
    wait_until(lambda: demo.frame().writes.acked >= wanted, f"{writes} more writes")


def test_the_leader_can_be_the_one_that_leaves(make_cloud: CloudOf) -> None:
    demo = Demo((1, 2, 1), leader_leaves=True)
    led_by: list[str] = []

    def note(cloud: HandMadeCloud) -> None:
        wait_for_writes(demo, 20)
        led_by.extend(cloud.handed_over)

    outcome = demo.run(make_cloud(before_answer=note))
    assert report.problems(outcome) == []
    assert led_by == ["etcd-2"], "the shrink had to take the leadership away first"


def test_a_member_dies_while_it_leads_and_is_replaced(make_cloud: CloudOf) -> None:
    demo = Demo((3,), kind="replace")
    cloud = make_cloud(before_answer=lambda _: wait_for_writes(demo, 50))
    outcome = demo.run(cloud)
    assert report.problems(outcome) == []
    assert [step["Members"].count("green") for step in cloud.deployed if "Members" in step] == [1]
    assert outcome.figures.retried > 0, "nobody missed the one that died"
    found = report.result(outcome)
    assert (found["demo"], found["steps"][1]["members"]) == ("replace", ["etcd-1", "etcd-2", "etcd-3"])


def test_a_deployment_that_fails_ends_the_resizing_and_tells_its_reason(make_cloud: CloudOf) -> None:
    demo = Demo((1, 3, 5))
    cloud = make_cloud(fails={3: "etcd-2 never started"}, before_answer=lambda _: wait_for_writes(demo, 20))
    outcome = demo.run(cloud)
    assert [(done.step.before, done.step.after, done.ok) for done in outcome.steps] == [
        *((0, 1, True), (1, 3, False), (1, 0, True)),
    ]
    assert report.problems(outcome) == [
        "The step 'grow 1 → 3' failed: etcd-2 never started",
        "1 of 4 steps were not made.",
    ]
    assert outcome.lost == (), "what was acknowledged is read back all the same"


def test_a_deployment_that_fails_without_a_reason_is_told_by_its_last_line(make_cloud: CloudOf) -> None:
    outcome = Demo((1,)).run(make_cloud(fails={1: ""}))
    assert report.problems(outcome) == [
        "The step 'create the stack with 1' failed: Error: the change set cannot be made",
        "No write was acknowledged at all.",
    ]


def test_a_machine_that_is_left_is_a_problem(make_cloud: CloudOf) -> None:
    demo = Demo((1,))
    cloud = make_cloud(leave_behind=True, before_answer=lambda _: wait_for_writes(demo, 20))
    assert report.problems(demo.run(cloud)) == [
        "The machine etcd-1 is still there (running).",
        "The machine etcd-1 is still protected.",
    ]


def test_a_lost_key_is_told(make_cloud: CloudOf, addresses: list[str]) -> None:
    demo = Demo((1,))

    def take_away(_: HandMadeCloud) -> None:
        wait_for_writes(demo, 20)
        connections = Connections()
        connections._client(client_url(addresses[0])).delete(demo._writer.keys.key(3))
        connections.close()

    outcome = demo.run(make_cloud(before_answer=take_away))
    found = report.problems(outcome)
    assert any(sentence.startswith("1 acknowledged keys are lost, the first: /demo/") for sentence in found)
    assert report.exit_status(outcome) == 1


def test_a_cluster_that_dies_is_told_in_plain_sentences(make_cloud: CloudOf) -> None:
    demo = Demo((1,), timing=Timing(attempt=0.2, patience=0.5), settle=0.5)

    def die(cloud: HandMadeCloud) -> None:
        wait_for_writes(demo, 20)
        next(iter(cloud.processes.values())).kill()
        wait_until(lambda: demo.frame().writes.failed > 0, "a failed write")

    outcome = demo.run(make_cloud(before_answer=die))
    found = "\n".join(report.problems(outcome))
    assert "there should be 1 healthy voters" in found
    assert "acknowledged by no endpoint in time" in found
    assert "could not be read back" in found
    assert any("failed" in line for line in changes(demo.frame(), demo.frame(), writes=True))
