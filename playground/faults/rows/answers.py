"""Answers that get lost or come twice, events that come twice, in the wrong order, or from somebody else."""

from __future__ import annotations

import json
import uuid
from typing import Any

from playground.faults.cloud import wait_until
from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.world import World

Event = dict[str, Any]

STRANGER = "arn:aws:cloudformation:us-east-1:000000000000:stack/stranger/11111111-2222-3333-4444-555555555555"


def lost_in_a_grow(world: World, _: Mailbox) -> None:
    """The learner is added, and CloudFormation never hears of it."""
    _lose_the_first(world, 2)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")


def lost_by_the_guard(world: World, _: Mailbox) -> None:
    """The guard has agreed, and CloudFormation never hears of it."""
    _lose_the_first(world, 1)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")


def _lose_the_first(world: World, size: int) -> None:
    """Lose the first answer of a resize."""
    world.order("answers", "lose")
    with world.resizing(size):
        wait_until(lambda: not world.ordered("answers"), "an answer was lost")
        world.give_up()


def lost_by_a_removal(world: World, _: Mailbox) -> None:
    """The member is out, its machine may go, and CloudFormation never hears of it: it tries again."""
    world.order("hold", "Delete Custom::EtcdVoter")
    with world.resizing(1):
        world.wait_for("answer", resource="Custom::EtcdCluster", request="Update", status="SUCCESS")
        world.order("answers", "lose")
        world.lift("hold")
        wait_until(lambda: not world.ordered("answers"), "an answer was lost")
        world.give_up()
    world.expect_status("UPDATE_COMPLETE")


def twice(world: World, _: Mailbox) -> None:
    """Every answer of a grow and of a shrink is sent twice."""
    for size in (2, 1):
        world.order("answers", *["twice"] * 12)
        world.resize(size)
        world.expect_status("UPDATE_COMPLETE")


def at_the_same_time(world: World, size: int) -> None:
    """Every event reaches two functions at once."""
    world.order("copies", "once more")
    world.resize(size)
    world.expect_status("UPDATE_COMPLETE")
    world.expect(world.is_whole(size), f"the cluster has not {size} healthy members and nobody else")


def one_after_the_other(world: World, mailbox: Mailbox) -> None:
    """Every event of a grow once more, then of a shrink, and at last those of the grow when their member is out."""
    grown = _recorded(world, 2)
    before = _members(world)
    for event in grown:
        answer = world.invoke(mailbox, event)
        world.expect(answer.get("Status") == "SUCCESS", f"again: {event['RequestType']} {answer}")
    told = next(event for event in grown if event["ResourceType"] == "Custom::EtcdMember")
    first, second = (world.invoke(mailbox, told).get("Data", {}) for _ in range(2))
    world.expect(first and first == second, "the same Create was answered in two ways")
    world.expect(_members(world) == before, "a repeated event of a grow has changed the members")
    shrunk = _recorded(world, 1)
    for event in shrunk:
        answer = world.invoke(mailbox, event)
        world.expect(answer.get("Status") == "SUCCESS", f"again: {event['RequestType']} {answer}")
    left = _members(world)
    for event in grown:
        answer = world.invoke(mailbox, event)
        if event["ResourceType"] != "Custom::EtcdCluster":
            said = f"a {event['ResourceType']} was created after its Delete: {answer}"
            world.expect(answer.get("Status") == "FAILED", said)
    world.expect(_members(world) == left, "a Create that came after its Delete has changed the members")


def deleted_while_created(point: str) -> Any:
    """The update is cancelled: CloudFormation sends the Delete while the function is still at the Create."""

    def run(world: World, _: Mailbox) -> None:
        world.order("points", f"{point} pause")
        world.begin(2)
        world.reached(point)
        world.cancel()
        world.rest()
        world.expect_status("UPDATE_ROLLBACK_COMPLETE")
        world.order("points", "before-answer note")
        world.order("go-on")
        world.reached("before-answer")

    return run


def never_was(world: World, mailbox: Mailbox) -> None:
    """Deletes of a member, a voter and a cluster that nobody ever made."""
    before = _members(world)
    for event in _deletes(_recorded(world, 2), cluster="nobody", stack=""):
        answer = world.invoke(mailbox, event)
        world.expect(answer.get("Status") == "SUCCESS", f"{event['ResourceType']}: {answer}")
    world.resize(1)
    world.expect(_members(world) == before, "a Delete for what never was has changed the members")


def from_another_stack(world: World, mailbox: Mailbox) -> None:
    """Another stack deletes, and creates, this stack's member, voter and cluster."""
    events = _recorded(world, 2)
    before = _members(world)
    for event in _deletes(events, cluster=world.stack, stack=STRANGER):
        answer = world.invoke(mailbox, event)
        world.expect(answer.get("Status") == "SUCCESS", f"{event['ResourceType']}: {answer}")
    world.expect(_members(world) == before, "another stack's Delete has changed the members")
    create = next(event for event in events if event["ResourceType"] == "Custom::EtcdMember")
    answer = world.invoke(mailbox, {**create, "StackId": STRANGER, "RequestId": str(uuid.uuid4())})
    world.expect(answer.get("Status") == "FAILED", f"another stack was given this stack's member: {answer}")
    world.expect(_members(world) == before, "another stack's Create has changed the members")
    # had the stranger's Delete marked the cluster as given up, this shrink would not be refused
    world.kill(1)
    world.order("hold", "Delete Custom::EtcdVoter")
    world.resize(1)
    world.expect_status("UPDATE_ROLLBACK_COMPLETE")
    world.lift("hold")
    bucket = world.cloud.outputs(world.id)["SnapshotsBucket"]
    s3 = world.cloud.client("s3")
    known = json.loads(s3.get_object(Bucket=bucket, Key=f"{world.stack}/cluster.json")["Body"].read())
    world.expect(not known["deleting"], "another stack's Delete has marked this cluster as given up")
    world.restart(1)
    world.wait_whole(2)


def _recorded(world: World, size: int) -> list[Event]:
    """The events of a resize, as they came."""
    world.order("events")
    world.resize(size)
    world.expect_status("UPDATE_COMPLETE")
    events = [json.loads(line) for line in world.ordered("events")]
    world.lift("events")
    return events


def _deletes(events: list[Event], *, cluster: str, stack: str) -> list[Event]:
    """The Deletes of what these events made, of a cluster and in a stack of that name."""
    made = []
    for event in events:
        properties = {**event["ResourceProperties"], "ClusterName": cluster}
        name = f"{properties['Name']}@{properties['Address']}" if "Name" in properties else "cluster"
        made.append(
            {
                **{key: value for key, value in event.items() if key != "OldResourceProperties"},
                "RequestType": "Delete",
                "RequestId": str(uuid.uuid4()),
                "StackId": stack or event["StackId"],
                "PhysicalResourceId": f"{cluster}/{name}",
                "ResourceProperties": properties,
            }
        )
    return made[::-1]


def _members(world: World) -> list[tuple[int, str, bool]]:
    return sorted((member.id, member.name, member.is_learner) for member in world.view().members)


def _row(
    name: str, cause: str, after: str, size: int, again: int, run: Any, *, outage: bool = False
) -> Fault:
    return Fault(name, "answers", cause, after, size, again, run, outage=outage)


ROLLS_BACK = "the update rolls back"
FAULTS = (
    _row("answer lost in a grow", "the answer to Create never arrives", ROLLS_BACK, 1, 2, lost_in_a_grow),
    _row(
        "answer lost by the guard", "the answer to Update never arrives", ROLLS_BACK, 2, 1, lost_by_the_guard
    ),
    _row(
        "answer lost by a removal",
        "the answer to the Voter's Delete never arrives",
        "CloudFormation sends it again, and the update completes",
        2,
        2,
        lost_by_a_removal,
    ),
    _row("answers twice", "every answer is sent twice", "both updates complete", 1, 2, twice),
    _row(
        "events at the same time, grow",
        "two functions get the same event at once",
        "one learner, one voter",
        1,
        1,
        lambda world, _: at_the_same_time(world, 2),
    ),
    _row(
        "events at the same time, shrink",
        "two functions get the same event at once",
        "one removal",
        2,
        2,
        lambda world, _: at_the_same_time(world, 1),
    ),
    _row(
        "events one after the other",
        "each event of a grow and of a shrink comes again, the Create also after its Delete",
        "the same answers, no change of the members",
        1,
        2,
        one_after_the_other,
    ),
    *(
        _row(
            f"Delete while its Create runs, {point}",
            f"the update is cancelled while the function is {point}",
            "no learner is left",
            1,
            2,
            deleted_while_created(point),
        )
        for point in ("before-intention", "before-add", "after-add")
    ),
    _row(
        "Delete for what never was",
        "three Deletes for a cluster unheard of",
        "nothing changes",
        1,
        2,
        never_was,
    ),
    _row(
        "events of another stack",
        "another stack deletes and creates this stack's member",
        "nothing changes, and the Create is refused",
        1,
        1,
        from_another_stack,
        outage=True,
    ),
)
