"""From the event to a request: coercion, and one sentence that names all that is wrong."""

from __future__ import annotations

import pytest

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity, User
from etcd_resize.model.machine import TUNING, UNTUNED
from etcd_resize.request import CLUSTER, MEMBER, VOTER, MemberProperties, VoterProperties, answerable, parse
from etcd_resize.userdata import RENDERERS
from tests.support.events import cluster_properties, event, member_properties, voter_properties

WHO = Identity("etcd", "etcd-2", "10.0.0.2")
BEFORE = "http://10.0.0.1:2379"


def refused(resource: str, properties: dict[str, str], action: str = "Create") -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse(answerable(event(action, resource, properties)))
    return str(caught.value)


def test_strings_become_what_they_mean() -> None:
    request = parse(event("Create", VOTER, voter_properties(WHO, "c815853c77ea5901", BEFORE)))
    assert request.physical_id == "etcd/etcd-2@10.0.0.2"
    assert isinstance(request.properties, VoterProperties)
    assert request.properties.member_id == 0xC815853C77EA5901
    assert request.properties.protect is True
    assert request.properties.endpoints == (BEFORE,)


def test_the_machine_is_taken_word_for_word() -> None:
    request = parse(event("Create", MEMBER, member_properties(WHO, BEFORE, VolumeSize="30")))
    assert isinstance(request.properties, MemberProperties)
    assert dict(request.properties.machine)["VolumeSize"] == "30"


def test_all_that_is_wrong_is_named_in_one_sentence() -> None:
    properties = member_properties(WHO, BEFORE, VolumeSize="huge", ProtectMachine="yes")
    del properties["ClusterName"]
    properties["Adress"] = properties.pop("Address")
    assert refused(MEMBER, properties) == (
        "Custom::EtcdMember: missing: ClusterName, Address; unknown: 'Adress' (Address?); ProtectMachine 'yes' is"
        " neither true nor false; VolumeSize 'huge' is not a whole number from 8 to 16384"
    )


@pytest.mark.parametrize("size", ["0", "8", "three", "2.5", "-1", "", "999999999999"])
def test_a_size_outside_one_to_seven_is_refused(size: str) -> None:
    said = refused(CLUSTER, cluster_properties("etcd", ["10.0.0.1"], ClusterSize=size))
    assert said == f"Custom::EtcdCluster: ClusterSize {size!r} is not a whole number from 1 to 7"


@pytest.mark.parametrize(
    "endpoints",
    ["10.0.0.1:2379", "ftp://10.0.0.1:2379", "http://10.0.0.1", "http://a@10.0.0.1:2379", "http://10.0.0.1:2379/x",
     "http://10.0.0.1:99999", "http://[::1"],
)  # fmt: skip
def test_an_endpoint_of_another_form_is_refused(endpoints: str) -> None:
    said = refused(MEMBER, member_properties(WHO, endpoints))
    assert said.endswith("is not of the form https://host:2379,https://host:2379")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Name": "a/b"}, "Name 'a/b' is not up to 63 letters, digits, hyphens"),
        ({"Name": "x\nExecStart=/bin/sh"}, "Name 'x\\nExecStart=/bin/sh' is not up to 63 letters"),
        ({"Address": "10.0.0.300"}, "Address '10.0.0.300' is not an IPv4 address"),
        ({"ClusterName": "9lives"}, "ClusterName '9lives' is not a letter and up to 31"),
        ({"Dialect": "cloudinit"}, f"Dialect 'cloudinit' is none of {', '.join(RENDERERS)}"),
        ({"ImageId": "debian"}, "ImageId 'debian' is not an image ID like"),
        ({"TimeoutSeconds": "900"}, "TimeoutSeconds '900' is not a whole number from 5 to 840"),
    ],
)
def test_a_property_of_the_wrong_form_is_named(change: dict[str, str], said: str) -> None:
    assert said in refused(MEMBER, member_properties(WHO, BEFORE, **change))


def test_other_types_than_strings_are_refused_not_crashed_on() -> None:
    properties = {name: {"a": [1]} for name in member_properties(WHO)}
    assert "Custom::EtcdMember" in refused(MEMBER, properties)  # type: ignore[arg-type]


def test_a_delete_forgives_properties_that_a_create_refused() -> None:
    request = parse(event("Delete", MEMBER, {"Nonsense": "1"}, physical_id="made-up"))
    assert request.properties is None
    assert request.physical_id == "made-up"


def test_a_delete_keeps_the_id_it_came_with() -> None:
    request = parse(event("Delete", MEMBER, member_properties(WHO, BEFORE), physical_id="etcd/old@10.0.0.9"))
    assert request.physical_id == "etcd/old@10.0.0.9"
    assert request.previous_identity == Identity("etcd", "old", "10.0.0.9")


def test_an_event_of_another_kind_is_refused() -> None:
    assert "ResourceType 'Custom::Other' is none of" in refused("Custom::Other", {})
    assert refused(MEMBER, {}, action="Grow") == (
        "this is no event of CloudFormation: RequestType 'Grow' is none of Create, Update, Delete"
    )


def test_an_event_of_cloudformation_comes_through_as_it_is() -> None:
    sent = event("Create", MEMBER, member_properties(WHO))
    assert answerable(sent) == sent


@pytest.mark.parametrize(
    "sent", [None, [], "x", {}, {"ResponseURL": 1}, {"ResponseURL": "http://127.0.0.1/"}]
)
def test_an_event_that_names_nobody_to_answer_is_an_error(sent: object) -> None:
    with pytest.raises(InvalidRequest, match="nobody can be answered"):
        answerable(sent)


def test_an_envelope_of_a_wrong_form_is_answered_with_what_is_wrong() -> None:
    sent = {**event("Create", MEMBER, {}), "StackId": 7, "RequestId": "x" * 1000}
    del sent["LogicalResourceId"]
    with pytest.raises(InvalidRequest) as caught:
        parse(answerable(sent))
    assert str(caught.value) == "this is no event of CloudFormation: StackId; RequestId; LogicalResourceId"


@pytest.mark.parametrize("made_up", ["", "etcd-Member-ABC123", "a/b", "a/b@", "/b@c", "a/b@c/d", "a/@c"])
def test_an_id_that_is_not_ours_is_no_identity(made_up: str) -> None:
    assert Identity.parse(made_up) is None


# --- etcd's own users ---

PASSWORD = "pass word \n'\"{}"  # noqa: S105 — what must be in no sentence and no text of a request


@pytest.mark.parametrize(
    ("resource", "properties"),
    [
        (MEMBER, member_properties(WHO, BEFORE)),
        (VOTER, voter_properties(WHO, "abc", BEFORE)),
        (CLUSTER, cluster_properties("etcd", ["10.0.0.1"])),
    ],
)
def test_the_user_of_etcd_comes_with_every_resource_and_its_password_is_in_no_text_of_it(
    resource: str, properties: dict[str, str]
) -> None:
    given = parse(event("Create", resource, {**properties, "EtcdUser": "root", "EtcdPassword": PASSWORD}))
    assert given.properties
    assert given.properties.user == User("root", PASSWORD)
    assert PASSWORD not in f"{given!r} {given}"
    assert repr(PASSWORD)[1:-1] not in f"{given!r} {given}"
    none = parse(event("Create", resource, {**properties, "EtcdUser": "", "EtcdPassword": ""}))
    earlier = parse(event("Create", resource, properties))  # a stack of a version that had no users
    for request in (none, earlier):
        assert request.properties
        assert request.properties.user is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"EtcdUser": "root"}, "EtcdUser and EtcdPasswordSecret go together: give both, or none"),
        ({"EtcdPassword": PASSWORD}, "EtcdUser and EtcdPasswordSecret go together: give both, or none"),
        ({"EtcdUser": "a:b", "EtcdPassword": PASSWORD}, "EtcdUser 'a:b' is not up to 64 letters"),
        ({"EtcdUser": "root", "EtcdPassword": {PASSWORD: PASSWORD}}, "EtcdPassword is no text"),
        ({"EtcdPasswort": PASSWORD}, "unknown: 'EtcdPasswort' (EtcdPassword?)"),
    ],
)
def test_what_is_wrong_with_a_user_is_said_without_the_password(change: dict[str, str], said: str) -> None:
    told = refused(MEMBER, member_properties(WHO, BEFORE, **change))
    assert said in told
    assert PASSWORD not in told
    assert "pass word" not in told


def test_an_update_goes_on_whatever_the_password_was_before() -> None:
    now = member_properties(WHO, BEFORE, EtcdUser="root", EtcdPassword="new")
    old = member_properties(WHO, BEFORE, EtcdUser="root", EtcdPassword="x" * 100_000)
    request = parse(event("Update", MEMBER, now, physical_id=str(WHO), old=old))
    assert isinstance(request.old, MemberProperties)
    assert isinstance(request.properties, MemberProperties)
    assert request.properties.user == User("root", "new")


def test_a_delete_is_not_one_of_nothing_because_its_secret_has_changed() -> None:
    leaving = member_properties(WHO, BEFORE, EtcdUser="root", EtcdPassword="{" * 100_000)
    assert parse(event("Delete", MEMBER, leaving, physical_id=str(WHO))).properties


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"HeartbeatMilliseconds": "300"},
            "ElectionMilliseconds 1000 is less than 5 HeartbeatMilliseconds of 300",
        ),
        (
            {"ElectionMilliseconds": "50001"},
            "ElectionMilliseconds '50001' is not a whole number from 50 to 50000",
        ),
        ({"HeartbeatMilliseconds": "0"}, "HeartbeatMilliseconds '0' is not a whole number from 10 to 10000"),
        ({"QuotaBackendBytes": "99999999"}, "'99999999' is not a whole number from 100000000 to 8589934592"),
        (
            {"QuotaBackendBytes": "8589934593"},
            "'8589934593' is not a whole number from 100000000 to 8589934592",
        ),
        ({"AutoCompactionRetention": "1d"}, "is not a time like 1h or 30m, a number of revisions, or 0"),
        ({"AutoCompactionRetention": "1000"}, "AutoCompactionRetention 1000 has no unit, as in 1h or 30m"),
        ({"AutoCompactionMode": "revision"}, "AutoCompactionRetention 1h is no number of revisions"),
        ({"AutoCompactionMode": "off"}, "AutoCompactionMode 'off' is none of periodic, revision"),
    ],
)
def test_a_setting_of_etcd_s_that_is_nonsense_is_refused_by_the_member_and_by_the_guard(
    changes: dict[str, str], said: str
) -> None:
    assert said in refused(MEMBER, member_properties(WHO, BEFORE, **changes))
    assert said in refused(CLUSTER, cluster_properties("etcd", ["10.0.0.1"], **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"AutoCompactionMode": "revision", "AutoCompactionRetention": "10000"},
        {"AutoCompactionRetention": "30m"},
        {"AutoCompactionRetention": "0"},
        {"HeartbeatMilliseconds": "10000", "ElectionMilliseconds": "50000"},
        {"QuotaBackendBytes": "8589934592"},
    ],
)
def test_a_setting_of_etcd_s_reaches_etcd_as_it_is(changes: dict[str, str]) -> None:
    properties = parse(event("Create", MEMBER, member_properties(WHO, BEFORE, **changes))).properties
    assert isinstance(properties, MemberProperties)
    assert {dict(properties.tuning)[TUNING[name]] for name in changes} == set(changes.values())


def test_a_stack_of_before_these_settings_has_those_that_etcd_has_of_its_own() -> None:
    sent = member_properties(WHO, BEFORE)
    for name in TUNING:
        del sent[name]
    properties = parse(event("Update", MEMBER, sent, physical_id=str(WHO))).properties
    assert isinstance(properties, MemberProperties)
    assert {name: dict(properties.settings)[name] for name in TUNING} == UNTUNED
