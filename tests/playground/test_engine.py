"""The engine against CloudFormation's behaviour, one stack without machines a test."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.playground.client import Cloud

pytestmark = pytest.mark.stack

HEAD = """
Parameters:
  Provider: {Type: String}
  Value: {Type: String, Default: a}
  Fails: {Type: String, Default: ''}
  Identity: {Type: String, Default: ''}
  Marker: {Type: String, Default: ''}
  More: {Type: String, Default: 'no'}
Conditions:
  More: !Equals [!Ref More, 'yes']
Resources:
"""

SLOW = "CreateSeconds: 0.5, DeleteSeconds: 0.5"


def custom(name: str, extra: str = "", after: str = "", condition: str = "") -> str:
    lines = [f"  {name}:", "    Type: Custom::Test"]
    lines += [f"    DependsOn: {after}"] if after else []
    lines += [f"    Condition: {condition}"] if condition else []
    lines += [
        f"    Properties: {{ServiceToken: !Ref Provider, ServiceTimeout: 20{', ' + extra if extra else ''}}}",
        "",
    ]
    return "\n".join(lines)


def test_what_depends_on_nothing_is_created_and_deleted_at_the_same_time(cloud: Cloud) -> None:
    template = HEAD + custom("A", SLOW) + custom("B", SLOW) + custom("C", after="[A, B]")
    assert cloud.create("parallel", template) == "CREATE_COMPLETE"
    assert cloud.delete("parallel") == "DELETE_COMPLETE"
    records = [
        r for r in cloud.playground.journal.records() if r.get("stack") == "parallel" and "logical" in r
    ]
    order = [(r["kind"], r["request"], r["logical"]) for r in records]
    assert {o[2] for o in order[:2]} == {"A", "B"}
    assert [o[0] for o in order[:4]] == ["event", "event", "answer", "answer"]
    assert order[4:8] == [
        ("event", "Create", "C"),
        ("answer", "Create", "C"),
        ("event", "Delete", "C"),
        ("answer", "Delete", "C"),
    ]
    assert [o[0] for o in order[8:]] == ["event", "event", "answer", "answer"]


def test_a_delete_shows_as_soon_as_it_is_answered(cloud: Cloud) -> None:
    """Else `sam delete` takes the status from before for the end."""
    cloud.create("shown", HEAD + custom("A", SLOW))
    identity = cloud.describe("shown")["StackId"]
    cloud.api.delete_stack(StackName="shown")
    assert cloud.describe("shown")["StackStatus"] == "DELETE_IN_PROGRESS"
    assert cloud.wait(identity) == "DELETE_COMPLETE"


def test_a_failed_create_gets_a_delete_with_the_id_of_its_answer(cloud: Cloud) -> None:
    template = HEAD + custom("A") + custom("B", "Identity: mine, CreateFails: no luck", after="A")
    assert cloud.create("failed", template) == "ROLLBACK_COMPLETE"
    assert cloud.requests("failed") == [
        ("Create", "A", None),
        ("Create", "B", None),
        ("Delete", "B", "mine"),
        ("Delete", "A", "id-A"),
    ]
    assert cloud.playground.reason("failed") == "no luck"
    assert cloud.statuses("failed") == ["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]
    assert "The following resource(s) failed to create: [B]." in str(cloud.raw_events("failed"))


def test_a_create_that_is_never_answered_gets_a_delete_with_a_made_up_id(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Silent: Create").replace("ServiceTimeout: 20", "ServiceTimeout: 1")
    assert cloud.create("silent", template) == "ROLLBACK_COMPLETE"
    (_, (request, _, physical)) = cloud.requests("silent")
    assert request == "Delete"
    assert physical
    assert physical.startswith("silent-A-")
    assert [answer["status"] for answer in cloud.answers("silent")] == ["TIMEOUT", "SUCCESS"]


def test_what_is_under_way_when_another_fails_is_cancelled_and_deleted(cloud: Cloud) -> None:
    template = HEAD + custom("Slow", "CreateSeconds: 3") + custom("Fast", "CreateFails: broken")
    assert cloud.create("cancelled", template) == "ROLLBACK_COMPLETE"
    assert cloud.answers("cancelled")[1]["reason"] == "Resource creation cancelled"
    assert {(r, logical) for r, logical, _ in cloud.requests("cancelled")[2:]} == {
        ("Delete", "Slow"),
        ("Delete", "Fast"),
    }
    assert cloud.playground.reason("cancelled") == "broken"


def test_an_answer_over_4096_bytes_fails(cloud: Cloud) -> None:
    assert cloud.create("long", HEAD + custom("A", "CreateBytes: 5000")) == "ROLLBACK_COMPLETE"
    assert cloud.playground.reason("long") == "Response object is too long."


def test_an_update_touches_only_what_changed(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Value: !Ref Value") + custom("B", "Other: !GetAtt A.Value") + custom("C")
    cloud.create("touch", template)
    assert cloud.update("touch", template, Value="b") == "UPDATE_COMPLETE"
    assert cloud.requests("touch")[3:] == [("Update", "A", "id-A"), ("Update", "B", "id-B")]
    assert cloud.statuses("touch")[1:] == [
        "CREATE_COMPLETE",
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_COMPLETE",
    ]


def test_a_changed_physical_id_is_a_replacement_deleted_in_the_clean_up(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Identity: !Ref Identity, Value: !Ref Value") + custom("B", "Other: !Ref A")
    cloud.create("replaced", template, Identity="one")
    assert cloud.update("replaced", template, Identity="two") == "UPDATE_COMPLETE"
    assert cloud.requests("replaced")[2:] == [
        ("Update", "A", "one"),
        ("Update", "B", "id-B"),
        ("Delete", "A", "one"),
    ]
    assert cloud.resources("replaced")["A"] == "two"
    events = cloud.events("replaced")
    assert events[-4:] == [
        ("replaced", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("A", "DELETE_IN_PROGRESS"),
        ("A", "DELETE_COMPLETE"),
        ("replaced", "UPDATE_COMPLETE"),
    ]


def test_a_failed_update_sends_the_old_properties_and_deletes_the_new_resources(cloud: Cloud) -> None:
    template = (
        HEAD
        + custom("A", "Value: !Ref Value")
        + custom("B", "Identity: !Ref Identity", after="A")
        + custom("New", "B: !Ref B", condition="More")
        + custom("C", "N: !If [More, !Ref New, !Ref B], Value: !Ref Value, UpdateFails: !Ref Fails")
    )
    cloud.create("undone", template, Identity="one")
    status = cloud.update("undone", template, Identity="two", Value="b", More="yes", Fails="no way")
    assert status == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.requests("undone")[3:] == [
        ("Update", "A", "id-A"),
        ("Update", "B", "one"),
        ("Create", "New", None),
        ("Update", "C", "id-C"),
        ("Update", "A", "id-A"),
        ("Update", "C", "id-C"),
        ("Delete", "New", "id-New"),
        ("Delete", "B", "two"),
    ]
    assert cloud.resources("undone") == {"A": "id-A", "B": "one", "C": "id-C"}
    assert cloud.playground.reason("undone") == "no way"
    assert cloud.statuses("undone")[-4:] == [
        "UPDATE_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
    ]
    last = [
        r
        for r in cloud.playground.journal.records()
        if r["kind"] == "event" and r["stack"] == "undone" and r["logical"] == "A"
    ]
    assert last[-1]["properties"]["Value"] == "a"


def test_a_failed_update_that_answered_with_a_new_id_gets_a_delete_for_it(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Identity: !Ref Identity, UpdateFails: !Ref Fails")
    cloud.create("half", template, Identity="one")
    assert cloud.update("half", template, Identity="two", Fails="half way") == "UPDATE_ROLLBACK_COMPLETE"
    assert cloud.requests("half")[1:] == [
        ("Update", "A", "one"),
        ("Update", "A", "one"),
        ("Delete", "A", "two"),
    ]
    assert cloud.resources("half") == {"A": "one"}


def test_a_replaced_resource_that_is_retained_stays(cloud: Cloud) -> None:
    retained = custom("A", "Identity: !Ref Identity").replace(
        "Custom::Test", "Custom::Test\n    UpdateReplacePolicy: Retain"
    )
    cloud.create("kept", HEAD + retained, Identity="one")
    assert cloud.update("kept", HEAD + retained, Identity="two") == "UPDATE_COMPLETE"
    assert [request for request, _, _ in cloud.requests("kept")] == ["Create", "Update"]
    assert ("A", "DELETE_SKIPPED") in cloud.events("kept")


def test_a_failed_delete_in_the_clean_up_is_tried_three_times_then_dropped(
    cloud: Cloud, marker: Path
) -> None:
    marker.touch()
    keep = custom("Below", condition="More") + custom(
        "Top", f"DeleteFailsWhile: {marker}, B: !Ref Below", condition="More"
    )
    template = HEAD + custom("A") + keep
    cloud.create("dropped", template, More="yes")
    assert cloud.update("dropped", template, More="no") == "UPDATE_COMPLETE"
    assert cloud.requests("dropped")[3:] == [("Delete", "Top", "id-Top")] * 3 + [
        ("Delete", "Below", "id-Below")
    ]
    assert cloud.resources("dropped") == {"A": "id-A"}
    assert cloud.events("dropped").count(("Top", "DELETE_FAILED")) == 3


def test_a_failed_delete_of_a_stack_holds_back_nothing_and_is_taken_on_again(
    cloud: Cloud, marker: Path
) -> None:
    marker.touch()
    template = HEAD + custom("Below") + custom("Top", f"DeleteFailsWhile: {marker}, B: !Ref Below")
    cloud.create("stubborn", template)
    assert cloud.delete("stubborn") == "DELETE_FAILED"
    assert cloud.resources("stubborn") == {"Top": "id-Top"}
    assert cloud.playground.reason("stubborn") == "the marker is there"
    marker.unlink()
    assert cloud.delete("stubborn") == "DELETE_COMPLETE"
    assert [r for r, _, _ in cloud.requests("stubborn")] == ["Create", "Create", "Delete", "Delete", "Delete"]


def test_a_rollback_that_is_stuck_can_be_continued(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Value: !Ref Value, UpdateFails: !Ref Fails")
    cloud.create("stuck", template, Fails="always")
    assert cloud.update("stuck", template, Fails="always", Value="b") == "UPDATE_ROLLBACK_FAILED"
    cloud.api.continue_update_rollback(StackName="stuck", ResourcesToSkip=["A"])
    assert cloud.wait("stuck") == "UPDATE_ROLLBACK_COMPLETE"


def test_what_is_retained_is_skipped(cloud: Cloud) -> None:
    template = HEAD + custom("A").replace(
        "Type: Custom::Test", "Type: Custom::Test\n    DeletionPolicy: Retain"
    )
    cloud.create("retained", template)
    identity = cloud.describe("retained")["StackId"]
    assert cloud.delete("retained") == "DELETE_COMPLETE"
    assert ("A", "DELETE_SKIPPED") in cloud.events(identity)
    assert [r for r, _, _ in cloud.requests("retained")] == ["Create"]


def test_a_stack_can_be_deleted_while_it_is_created(cloud: Cloud) -> None:
    template = HEAD + custom("A") + custom("B", "CreateSeconds: 10", after="A")
    cloud.api.create_stack(
        StackName="hasty",
        TemplateBody=template,
        Parameters=[{"ParameterKey": "Provider", "ParameterValue": cloud.provider}],
    )
    while ("Create", "B", None) not in cloud.requests("hasty"):
        time.sleep(0.05)
    assert cloud.delete("hasty") == "DELETE_COMPLETE"
    assert [(r, logical) for r, logical, _ in cloud.requests("hasty")][2:] == [
        ("Delete", "B"),
        ("Delete", "A"),
    ]


def test_an_update_that_is_cancelled_is_rolled_back(cloud: Cloud) -> None:
    template = HEAD + custom("A", "Value: !Ref Value, UpdateSeconds: !If [Changed, 10, 0]")
    template = template.replace("Resources:", "  Changed: !Equals [!Ref Value, b]\nResources:")
    cloud.create("halted", template)
    cloud.start_update("halted", template, Value="b")
    while ("Update", "A", "id-A") not in cloud.requests("halted"):
        time.sleep(0.05)
    cloud.api.cancel_update_stack(StackName="halted")
    assert cloud.wait("halted") == "UPDATE_ROLLBACK_COMPLETE"
    assert [answer["status"] for answer in cloud.answers("halted")] == ["SUCCESS", "CANCELLED", "SUCCESS"]


def test_a_change_set_sees_what_a_condition_switches(cloud: Cloud) -> None:
    template = HEAD + custom("A") + custom("B", condition="More")
    cloud.create("switched", template)
    changes = cloud.changes("switched", template, More="yes")
    assert [(c["Action"], c["LogicalResourceId"]) for c in changes] == [("Add", "B")]
    assert cloud.changes("switched", template, More="no") == []


def test_what_functions_print_is_in_one_log(cloud: Cloud) -> None:
    cloud.create("printed", HEAD + custom("Loud"))
    assert "handling Create Loud\n" in (cloud.playground.directory / "logs/function.log").read_text()


def test_a_secret_is_resolved_for_the_function_kept_out_of_the_journal_and_no_change_by_itself(
    cloud: Cloud,
) -> None:
    secrets = cloud.playground.client("secretsmanager")
    secrets.create_secret(Name="engine", SecretString="first secret")
    output = "Outputs: {Value: {Value: !GetAtt A.Value}}"
    template = HEAD + custom("A", "Value: '{{resolve:secretsmanager:engine}}', Before: !Ref Value")
    assert cloud.create("secretive", template + output) == "CREATE_COMPLETE"
    assert cloud.playground.outputs("secretive")["Value"] == "first secret"
    secrets.put_secret_value(SecretId="engine", SecretString="second secret")
    more = template + custom("B") + output
    assert cloud.update("secretive", more) == "UPDATE_COMPLETE"
    assert cloud.playground.outputs("secretive")["Value"] == "first secret"
    assert cloud.update("secretive", more, Value="b") == "UPDATE_COMPLETE"
    assert cloud.playground.outputs("secretive")["Value"] == "second secret"
    told = cloud.playground.journal.path.read_text()
    assert "first secret" not in told
    assert "second secret" not in told
    assert "****" in told
