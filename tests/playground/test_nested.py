"""Nested stacks: full stacks with a rollback and a clean-up of their own, in step with their parent's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.playground.client import Cloud

pytestmark = pytest.mark.stack

PARAMETERS = """
Parameters:
  Provider: {Type: String}
  Value: {Type: String, Default: a}
  Identity: {Type: String, Default: one}
  Fails: {Type: String, Default: ''}
  ParentFails: {Type: String, Default: ''}
  Marker: {Type: String, Default: ''}
  Size: {Type: Number, Default: 1}
"""

CHILD = (
    PARAMETERS
    + """
  Before: {Type: String, Default: ''}
Resources:
  First:
    Type: Custom::Test
    Properties:
      ServiceToken: !Ref Provider
      ServiceTimeout: 20
      Identity: !Ref Identity
      Before: !Ref Before
      Value: !Ref Value
  Second:
    Type: Custom::Test
    Properties:
      ServiceToken: !Ref Provider
      ServiceTimeout: 20
      First: !Ref First
      CreateFails: !Ref Fails
      UpdateFails: !Ref Fails
      DeleteFailsWhile: !Ref Marker
Outputs:
  Value: {Value: !Sub '${Before}${First.Value}'}
"""
)

PARENT = (
    PARAMETERS
    + """
Conditions:
  Two: !Equals [!Ref Size, 2]
Resources:
  Child1:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: CHILD
      Parameters: {Provider: !Ref Provider, Identity: !Ref Identity, Value: !Ref Value}
  Child2:
    Type: AWS::CloudFormation::Stack
    Condition: Two
    Properties:
      TemplateURL: CHILD
      Parameters:
        Provider: !Ref Provider
        Before: !GetAtt Child1.Outputs.Value
        Fails: !Ref Fails
        Marker: !Ref Marker
  Guard:
    Type: Custom::Test
    Properties:
      ServiceToken: !Ref Provider
      ServiceTimeout: 20
      Size: !Ref Size
      UpdateFails: !Ref ParentFails
      Values: [!GetAtt Child1.Outputs.Value, !If [Two, !GetAtt Child2.Outputs.Value, !Ref AWS::NoValue]]
Outputs:
  Value: {Value: !GetAtt Child1.Outputs.Value}
"""
)


@pytest.fixture(scope="module")
def parent(cloud: Cloud) -> str:
    return PARENT.replace("CHILD", cloud.upload("child.yaml", CHILD))


def order(cloud: Cloud, stack: str) -> list[str]:
    """`Create Child1.First`, one a request."""
    return [
        f"{record['request']} {_child(record['stack'], stack)}.{record['logical']}"
        for record in cloud.playground.journal.records()
        if record["kind"] == "event" and record["stack"].startswith(stack)
    ]


def _child(name: str, stack: str) -> str:
    """The logical id of a nested stack: its name is `<stack>-<logical id>-<random>`."""
    return name.removeprefix(stack).rsplit("-", 1)[0].removeprefix("-")


def test_children_are_made_in_a_chain_and_removed_in_reverse(cloud: Cloud, parent: str) -> None:
    assert cloud.create("chain", parent, Size="2") == "CREATE_COMPLETE", cloud.playground.reason("chain")
    assert cloud.update("chain", parent, Size="1") == "UPDATE_COMPLETE"
    assert order(cloud, "chain") == [
        *("Create Child1.First", "Create Child1.Second", "Create Child2.First", "Create Child2.Second"),
        *("Create .Guard", "Update .Guard", "Delete Child2.Second", "Delete Child2.First"),
    ]
    assert cloud.playground.outputs("chain") == {"Value": "a"}


def test_a_child_that_fails_rolls_itself_back_and_the_parent_deletes_it(cloud: Cloud, parent: str) -> None:
    cloud.create("child-fails", parent)
    assert cloud.update("child-fails", parent, Size="2", Fails="out of luck") == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.playground.reason("child-fails") == "out of luck"
    failed = next(e for e in cloud.raw_events("child-fails") if e["ResourceStatus"] == "CREATE_FAILED")
    child = failed["PhysicalResourceId"]
    assert failed["ResourceStatusReason"] == (
        f"Embedded stack {child} was not successfully created: The following resource(s) failed to create: [Second]."
    )
    assert cloud.statuses(child) == [
        *("CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"),
        *("DELETE_IN_PROGRESS", "DELETE_COMPLETE"),
    ]
    assert order(cloud, "child-fails")[3:] == [
        *("Create Child2.First", "Create Child2.Second", "Delete Child2.Second", "Delete Child2.First"),
    ]
    assert set(cloud.resources("child-fails")) == {"Child1", "Guard"}


def test_a_replacement_in_a_child_is_cleaned_up_after_the_parents_update(cloud: Cloud, parent: str) -> None:
    cloud.create("late", parent)
    child = cloud.resources("late")["Child1"]
    assert cloud.update("late", parent, Identity="two", Value="b") == "UPDATE_COMPLETE"
    assert order(cloud, "late")[3:] == [
        *("Update Child1.First", "Update Child1.Second", "Update .Guard", "Delete Child1.First"),
    ]
    assert cloud.statuses(child)[-3:] == [
        *("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"),
    ]
    records = cloud.playground.journal.records()
    ends = [
        r["at"]
        for r in records
        if r["kind"] == "stack"
        and r["status"] == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        and r["stack"] == "late"
    ]
    deletes = [
        r["at"]
        for r in records
        if r["kind"] == "event" and r["request"] == "Delete" and r["stack"].startswith("late-")
    ]
    assert ends[0] <= deletes[0]


def test_a_child_that_had_succeeded_is_rolled_back_with_its_parent(cloud: Cloud, parent: str) -> None:
    cloud.create("turned", parent)
    child = cloud.resources("turned")["Child1"]
    status = cloud.update("turned", parent, Identity="two", Value="b", ParentFails="veto")
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.playground.reason("turned") == "veto"
    assert cloud.requests("turned")[3:] == [
        ("Update", "First", "one"),
        ("Update", "Second", "id-Second"),
        ("Update", "Guard", "id-Guard"),
        ("Update", "Second", "id-Second"),
        ("Update", "Guard", "id-Guard"),
        ("Delete", "First", "two"),
    ]
    assert cloud.resources(child)["First"] == "one"
    assert cloud.statuses(child)[-4:] == [
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
    ]
    assert cloud.playground.outputs("turned") == {"Value": "a"}
    assert cloud.update("turned", parent, Value="c") == "UPDATE_COMPLETE"


def test_a_child_whose_update_fails_says_why(cloud: Cloud, parent: str) -> None:
    cloud.create("says", parent, Size="2")
    child = cloud.resources("says")["Child2"]
    assert cloud.update("says", parent, Size="2", Value="b", Fails="not today") == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.playground.reason("says") == "not today"
    failed = next(e for e in cloud.raw_events("says") if e["ResourceStatus"] == "UPDATE_FAILED")
    assert f"Embedded stack {child} was not successfully updated." in failed["ResourceStatusReason"]


def test_a_child_that_does_not_change_is_not_touched(cloud: Cloud, parent: str) -> None:
    cloud.create("still", parent)
    child = cloud.resources("still")["Child1"]
    before = cloud.raw_events(child)
    assert cloud.update("still", parent, Size="2") == "UPDATE_COMPLETE"
    assert cloud.raw_events(child) == before
    assert ("Child1", "UPDATE_IN_PROGRESS") not in cloud.events("still")


def test_a_child_that_does_not_delete_is_tried_three_times_then_dropped(
    cloud: Cloud, parent: str, marker: Path
) -> None:
    marker.touch()
    cloud.create("clings", parent, Size="2", Marker=str(marker))
    child = cloud.resources("clings")["Child2"]
    assert cloud.update("clings", parent, Size="1", Marker=str(marker)) == "UPDATE_COMPLETE"
    assert (
        order(cloud, "clings")[6:]
        == ["Delete Child2.Second", "Delete Child2.First"] + ["Delete Child2.Second"] * 2
    )
    assert cloud.describe(child)["StackStatus"] == "DELETE_FAILED"
    assert "Child2" not in cloud.resources("clings")


def test_a_stack_whose_child_does_not_delete_ends_in_delete_failed(
    cloud: Cloud, parent: str, marker: Path
) -> None:
    marker.touch()
    cloud.create("remains", parent, Size="2", Marker=str(marker))
    assert cloud.delete("remains") == "DELETE_FAILED"
    assert set(cloud.resources("remains")) == {"Child2"}
    assert cloud.playground.reason("remains") == "the marker is there"
    marker.unlink()
    assert cloud.delete("remains") == "DELETE_COMPLETE"
