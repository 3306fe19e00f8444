"""What can be read off the templates: that the function outlives its last Delete, and what a machine must not be."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcd_resize.errors import InvalidRequest
from etcd_resize.health.render import as_metrics
from etcd_resize.health.report import Found, judge
from etcd_resize.model.cluster import ClusterView, Health, Member
from etcd_resize.model.machine import TUNING
from etcd_resize.request import CLUSTER, LARGEST_CLUSTER, MEMBER, VOTER, parse
from playground.tools import ROOT
from tests.support.events import TUNED, cluster_properties, event

ANSWERING = {
    "Provider": "the function itself",
    "ProviderRole": "what it may do",
    "ProviderLog": "where it says what it did",
    "ProviderSecurityGroup": "how it reaches members and AWS",
    "S3Endpoint": "the way its answers go",
    "Snapshots": "the journal",
    "MemberSecurityGroup": "the rule that lets it in to the members",
    "MembersReachMembers": "the rule that keeps the quorum together while members leave",
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as the long ones."""


def _intrinsic(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), _Loader)  # noqa: S506 — a SafeLoader of ours
    return document


TEMPLATE = load(ROOT / "template.yaml")
MEMBER_TEMPLATE = load(ROOT / "member.yaml")


def references(value: Any, names: set[str]) -> Iterator[str]:
    """The resources that a value refers to, as CloudFormation finds them."""
    if isinstance(value, list):
        for item in value:
            yield from references(item, names)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "Ref" and item in names:
            yield item
        elif key == "Fn::GetAtt":
            yield item[0]
        elif key == "Fn::Sub":
            text = item if isinstance(item, str) else item[0]
            yield from (name for name in names if f"${{{name}}}" in text or f"${{{name}." in text)
        yield from references(item, names)


def depends_on(template: dict[str, Any], name: str) -> set[str]:
    """All that must be there before ``name``, and is deleted only after it."""
    resources = template["Resources"]
    names, pending = set(resources), [name]
    found: set[str] = set()
    while pending:
        resource = resources[pending.pop()]
        explicit = resource.get("DependsOn", [])
        direct = {*references(resource.get("Properties", {}), names)}
        direct |= {explicit} if isinstance(explicit, str) else set(explicit)
        pending += direct - found
        found |= direct
    return found


MEMBERS = [f"Member{number}" for number in range(1, LARGEST_CLUSTER + 1)]


@pytest.mark.parametrize("resource", [*MEMBERS, "Cluster"])
def test_all_that_the_function_needs_is_deleted_after_the_last_delete(resource: str) -> None:
    assert set(ANSWERING) <= depends_on(TEMPLATE, resource)


def test_no_policy_of_the_function_is_a_resource_of_its_own() -> None:
    kinds = {resource["Type"] for resource in TEMPLATE["Resources"].values()}
    assert not kinds & {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"}


@pytest.mark.parametrize("number", range(2, LARGEST_CLUSTER + 1))
def test_each_member_waits_for_the_one_before_it(number: int) -> None:
    assert f"Member{number - 1}" in depends_on(TEMPLATE, f"Member{number}")


def test_the_guard_is_deleted_before_any_member_and_updated_after_all() -> None:
    assert set(MEMBERS) <= depends_on(TEMPLATE, "Cluster")
    assert not any("Cluster" in depends_on(TEMPLATE, member) for member in MEMBERS)


def test_a_member_leaves_before_its_machine_and_its_machine_before_its_address() -> None:
    interfaces = {"NetworkInterface", "GreenInterface"}
    assert depends_on(MEMBER_TEMPLATE, "Voter") == {"Instance", "Member", *interfaces}
    assert depends_on(MEMBER_TEMPLATE, "Instance") == {"Member", *interfaces}
    assert depends_on(MEMBER_TEMPLATE, "Member") == interfaces


def test_a_member_has_one_of_two_interfaces_alike_and_blue_is_what_it_was_before_there_were_colours() -> None:
    blue, green = (MEMBER_TEMPLATE["Resources"][name] for name in ("NetworkInterface", "GreenInterface"))
    assert (blue.pop("Condition"), green.pop("Condition")) == ("Blue", "Green")
    assert blue == green
    assert MEMBER_TEMPLATE["Parameters"]["Colour"]["Default"] == "blue"


def test_each_member_has_its_own_place_among_the_colours() -> None:
    colours = [TEMPLATE["Resources"][name]["Properties"]["Parameters"]["Colour"] for name in MEMBERS]
    assert colours == [{"Fn::Select": [number, {"Ref": "Members"}]} for number in range(LARGEST_CLUSTER)]
    assert TEMPLATE["Parameters"]["Members"]["Default"].split(",") == ["blue"] * LARGEST_CLUSTER


def test_nothing_of_the_machine_comes_from_a_parameter_that_a_resize_could_change() -> None:
    machine = MEMBER_TEMPLATE["Resources"]["Instance"]["Properties"]
    assert machine["ImageId"] == {"Fn::GetAtt": ["Member", "ImageId"]}
    assert machine["InstanceType"] == {"Fn::GetAtt": ["Member", "InstanceType"]}
    assert machine["UserData"] == {"Fn::GetAtt": ["Member", "UserData"]}
    parameters = set(MEMBER_TEMPLATE["Parameters"])
    used = {name: parameters.intersection(references(value, parameters)) for name, value in machine.items()}
    # both change without an interruption
    assert {name: refers for name, refers in used.items() if refers} == {
        "Tags": {"Provider"},
        "IamInstanceProfile": {"MachineInstanceProfile"},
    }


def test_a_machine_has_encrypted_volumes_imdsv2_only_and_no_way_in_for_ssh() -> None:
    machine = MEMBER_TEMPLATE["Resources"]["Instance"]["Properties"]
    assert machine["MetadataOptions"]["HttpTokens"] == {"Fn::GetAtt": ["Member", "HttpTokens"]}
    assert all(volume["Ebs"]["Encrypted"] is True for volume in machine["BlockDeviceMappings"])
    assert "KeyName" not in machine
    opened = [
        rule.get("Fn::If", [None, rule])[1]
        for rule in TEMPLATE["Resources"]["MemberSecurityGroup"]["Properties"]["SecurityGroupIngress"]
    ]
    opened.append(TEMPLATE["Resources"]["MembersReachMembers"]["Properties"])
    assert all(rule["Description"] for rule in opened)
    assert all(2379 <= rule["FromPort"] <= rule["ToPort"] <= 2380 for rule in opened)
    beyond_clients = [rule for rule in opened if rule["ToPort"] == 2380]
    assert [rule["SourceSecurityGroupId"] for rule in beyond_clients] == [
        {"Ref": "ExistingSecurityGroupId"},
        {"Ref": "MemberSecurityGroup"},
    ]


def test_the_bucket_is_encrypted_versioned_private_and_stays() -> None:
    bucket = TEMPLATE["Resources"]["Snapshots"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["Properties"]["BucketEncryption"]
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}


def test_a_snapshot_ends_with_its_retention_but_the_last_one_stays() -> None:
    rules = TEMPLATE["Resources"]["Snapshots"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if "ExpirationInDays" in rule]
    (rule,) = [one for one in expiring if "snapshots" in one["Prefix"]["Fn::Sub"]]
    assert rule["Prefix"] == {
        "Fn::Sub": "${ClusterName}/snapshots/2"
    }  # the last one's name begins with "last"
    assert rule["ExpirationInDays"] == {"Ref": "SnapshotRetentionDays"}
    assert rule["NoncurrentVersionExpiration"]


@pytest.mark.parametrize("rate", ["", "off", "rate(5 minutes)", "rate(1 day)", "cron(0 3 * * ? *)"])
def test_a_schedule_of_eventbridge_is_taken(rate: str) -> None:
    assert re.fullmatch(TEMPLATE["Parameters"]["SnapshotRate"]["AllowedPattern"], rate)


@pytest.mark.parametrize("rate", ["hourly", "rate(0 hours)", "rate(1 hour) ", "cron()"])
def test_another_schedule_is_refused_before_the_stack(rate: str) -> None:
    assert not re.fullmatch(TEMPLATE["Parameters"]["SnapshotRate"]["AllowedPattern"], rate)


def test_the_maintenance_goes_before_the_cluster_it_maintains() -> None:
    assert "Cluster" in depends_on(TEMPLATE, "ClusterMaintenance")


def roles() -> dict[str, Any]:
    """Every role of both templates, by name."""
    resources = {**TEMPLATE["Resources"], **MEMBER_TEMPLATE["Resources"]}
    return {name: one["Properties"] for name, one in resources.items() if one["Type"] == "AWS::IAM::Role"}


def test_every_function_has_a_role_of_its_own_and_no_machine_has_one_unless_the_user_names_it() -> None:
    functions = [
        one["Properties"]
        for one in TEMPLATE["Resources"].values()
        if one["Type"] in {"AWS::Serverless::Function", "AWS::Lambda::Function"}
    ]
    given = [function["Role"]["Fn::GetAtt"][0] for function in functions]
    assert sorted(given) == sorted(roles())
    assert MEMBER_TEMPLATE["Resources"]["Instance"]["Properties"]["IamInstanceProfile"] == {
        "Fn::If": ["HasInstanceProfile", {"Ref": "MachineInstanceProfile"}, {"Ref": "AWS::NoValue"}]
    }
    for template in (TEMPLATE, MEMBER_TEMPLATE):
        assert template["Parameters"]["MachineInstanceProfile"]["Default"] == ""


def test_the_password_comes_from_secrets_manager_and_is_no_parameter_output_or_environment() -> None:
    reference = {"Fn::Sub": "{{resolve:secretsmanager:${EtcdPasswordSecret}}}"}
    for template in (TEMPLATE, MEMBER_TEMPLATE):
        for name, resource in template["Resources"].items():
            if resource["Type"].startswith("Custom::"):
                told = resource["Properties"]["EtcdPassword"]
                assert told == {"Fn::If": ["HasEtcdPassword", reference, ""]}, name
            else:
                assert "resolve:" not in str(resource), name
        assert "resolve:" not in str([template["Parameters"], template["Outputs"]])


@pytest.mark.parametrize("template", [TEMPLATE, MEMBER_TEMPLATE])
def test_the_name_of_a_secret_cannot_end_the_reference_that_it_stands_in(template: dict[str, Any]) -> None:
    pattern = template["Parameters"]["EtcdPasswordSecret"]["AllowedPattern"]
    for name in ("", "etcd/root", "etcd/root:SecretString:password", "etcd:SecretString:password:AWSCURRENT",
                 "arn:aws:secretsmanager:eu-west-1:000000000000:secret:etcd/root-a1B2c3:SecretString:key"):  # fmt: skip
        assert re.fullmatch(pattern, name), name
    for name in ("a}}{{resolve:ssm:b", "a}", "{a", "a b", "${a}", "a\n"):
        assert not re.fullmatch(pattern, name), name


def test_every_role_takes_the_boundary_and_nobody_else_s_policy() -> None:
    for role in roles().values():
        assert role["PermissionsBoundary"] == {
            "Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]
        }
        assert "ManagedPolicyArns" not in role


def functions() -> dict[str, Any]:
    """Every function, by the name of its role."""
    return {
        one["Properties"]["Role"]["Fn::GetAtt"][0]: one["Properties"]
        for one in TEMPLATE["Resources"].values()
        if one["Type"] == "AWS::Serverless::Function"
    }


@pytest.mark.parametrize("role", functions())
def test_what_lambda_may_do_with_network_interfaces_is_refused_to_the_function_s_code(role: str) -> None:
    (policy,) = [
        policy["PolicyDocument"]["Statement"]
        for policy in roles()[role]["Policies"]
        if policy["PolicyName"] == "network-interfaces-by-lambda"
    ]
    allowed = [action for one in policy if one["Effect"] == "Allow" for action in one["Action"]]
    (denial,) = [one for one in policy if one["Effect"] == "Deny"]
    assert sorted(allowed) == sorted(denial["Action"])
    function = functions()[role]["FunctionName"]["Fn::Sub"]
    (source,) = denial["Condition"]["ArnEquals"].values()
    assert source["Fn::Sub"].endswith(f":function:{function}")


def test_every_suppressed_check_has_its_reason_beside_it() -> None:
    for template in (TEMPLATE, MEMBER_TEMPLATE):
        for resource in template["Resources"].values():
            for skipped in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
                assert len(skipped["comment"].split()) > 5, skipped["id"]


def test_every_parameter_is_described_and_grouped() -> None:
    for template in (TEMPLATE, MEMBER_TEMPLATE):
        assert all(parameter.get("Description") for parameter in template["Parameters"].values())
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])


def test_the_nested_stack_is_given_only_parameters_it_has_and_all_it_needs() -> None:
    wanted = {name for name, parameter in MEMBER_TEMPLATE["Parameters"].items() if "Default" not in parameter}
    for name in MEMBERS:
        given = set(TEMPLATE["Resources"][name]["Properties"]["Parameters"])
        assert wanted <= given <= set(MEMBER_TEMPLATE["Parameters"])


def test_the_custom_resources_have_exactly_the_properties_that_are_validated() -> None:
    for template, kinds in ((MEMBER_TEMPLATE, [MEMBER, VOTER]), (TEMPLATE, [CLUSTER])):
        for kind in kinds:
            (resource,) = [one for one in template["Resources"].values() if one["Type"] == kind]
            with pytest.raises(InvalidRequest) as caught:
                parse(event("Create", kind, dict.fromkeys(resource["Properties"], "\0")))
            assert "missing" not in str(caught.value)
            assert "unknown" not in str(caught.value)


@pytest.mark.parametrize("template", [TEMPLATE, MEMBER_TEMPLATE])
def test_the_settings_of_etcd_have_defaults_and_bounds_that_the_function_takes(
    template: dict[str, Any],
) -> None:
    bounds = {name: template["Parameters"][name] for name in TUNING}
    assert {TUNING[name]: str(one["Default"]) for name, one in bounds.items()} == dict(TUNED)
    heartbeat, election = bounds["HeartbeatMilliseconds"], bounds["ElectionMilliseconds"]
    for least in ("MinValue", "MaxValue"):
        values = {
            "HeartbeatMilliseconds": str(heartbeat[least]),
            "ElectionMilliseconds": str(election[least]),
            "QuotaBackendBytes": str(bounds["QuotaBackendBytes"][least]),
        }
        parse(event("Create", CLUSTER, cluster_properties("etcd", ["10.0.0.1"], **values)))
    pattern = bounds["AutoCompactionRetention"]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in ("0", "1h", "30m", "10000"))
    assert not any(re.fullmatch(pattern, value) for value in ("", "1d", "1.5h", "-1", "01h"))


def test_the_function_dies_before_cloudformation_gives_it_up() -> None:
    timeout = TEMPLATE["Resources"]["Provider"]["Properties"]["Timeout"]
    for template in (TEMPLATE, MEMBER_TEMPLATE):
        for resource in template["Resources"].values():
            if resource["Type"].startswith("Custom::"):
                assert timeout < resource["Properties"]["ServiceTimeout"] <= timeout + 60


def alarms() -> dict[str, Any]:
    """The alarms' properties, by logical ID."""
    return {
        name: one["Properties"]
        for name, one in TEMPLATE["Resources"].items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }


def reported() -> tuple[set[str], set[str]]:
    """The metrics of a report in which everything is known: the cluster's, and a member's."""
    healthy = Health(serving=True, reachable=True, leader=1, read_seconds=0.001)
    member = Member(1, "m1", ("https://10.0.0.1:2380",), ("https://10.0.0.1:2379",), health=healthy)
    view = ClusterView(1, (member,), has_quorum=True)
    found = Found(
        "c", 1, 100.0, 1, view, writes={1: 0.001}, snapshot_at=1.0, snapshot_limit=2.0, shown_until=200.0
    )
    metrics = as_metrics(judge(found))
    cluster = {metric.name for metric in metrics if not metric.member}
    return cluster, {metric.name for metric in metrics if metric.member}


def test_every_alarm_watches_a_metric_that_is_there() -> None:
    filtered = TEMPLATE["Resources"]["FailedSteps"]["Properties"]["MetricTransformations"][0]
    for name, alarm in alarms().items():
        if alarm["Namespace"] == "AWS/Lambda":
            assert alarm["MetricName"] == "Errors", name
        elif isinstance(alarm["MetricName"], dict):
            assert alarm["MetricName"] == filtered["MetricName"], name
            assert "Dimensions" not in alarm, name
        else:
            assert alarm["MetricName"] in reported()[0], name
            assert alarm["Dimensions"] == [{"Name": "Stack", "Value": {"Ref": "AWS::StackName"}}], name


def test_every_function_s_errors_have_an_alarm() -> None:
    watched = {
        dimension["Value"]["Ref"]
        for alarm in alarms().values()
        if alarm["Namespace"] == "AWS/Lambda"
        for dimension in alarm["Dimensions"]
    }
    kinds = TEMPLATE["Resources"]
    assert watched == {name for name in kinds if kinds[name]["Type"] == "AWS::Serverless::Function"}


def test_every_alarm_tells_the_topic_if_there_is_one_and_has_its_section_in_the_docs() -> None:
    told = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    page = (ROOT / "docs/operations.md").read_text()
    for name, alarm in alarms().items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == told
        assert f"\n### {name}" in page


def test_the_dashboard_shows_metrics_that_are_there() -> None:
    body = TEMPLATE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    cluster, member = reported()
    for widget in json.loads(body)["widgets"]:
        for metric in widget["properties"]["metrics"]:
            if isinstance(metric[0], str):
                assert metric[1] in cluster
            else:
                (shown,) = re.findall(r'MetricName="(\w+)"', metric[0]["expression"])
                assert shown in member


def test_what_the_application_repository_is_told_fits_its_rules_and_the_version_is_ours() -> None:
    told = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,140}", told["Name"])
    assert 0 < len(told["Description"]) <= 256
    assert re.fullmatch(r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", told["Author"])
    assert all(re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label) for label in told["Labels"])
    assert all((ROOT / told[name]).is_file() for name in ("LicenseUrl", "ReadmeUrl"))
    assert told["SpdxLicenseId"] == "Apache-2.0"
    assert "Apache License" in (ROOT / told["LicenseUrl"]).read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert told["SemanticVersion"] == project["version"]
    assert f"\n## [{told['SemanticVersion']}]" in (ROOT / "CHANGELOG.md").read_text()
