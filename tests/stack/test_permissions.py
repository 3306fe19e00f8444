"""The function's role allows what a whole run asks for, and nothing else. Both sides are read from the outside."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from playground.local import Playground
from tests.support.permissions import Call, Grant, Role, calls
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

LAMBDA = "Lambda does it with the role, to put the function into its subnets; the function's code may not"
UNSEEN = {
    ("logs:CreateLogStream", ""): "Lambda writes the log with the role, not by a call of the function",
    ("logs:PutLogEvents", ""): "the same",
    ("s3:AbortMultipartUpload", "/*/snapshots/*"): "only when an upload of more than 8 MiB breaks off",
    ("s3:GetObject", "/*/userdata/*"): "a document too large for the answer: test_user_data.py",
    ("s3:PutObject", "/*/userdata/*"): "the same",
    ("ec2:AssignPrivateIpAddresses", ""): LAMBDA,
    ("ec2:CreateNetworkInterface", ""): LAMBDA,
    ("ec2:DeleteNetworkInterface", ""): LAMBDA,
    ("ec2:DescribeNetworkInterfaces", ""): LAMBDA,
    ("ec2:DescribeSubnets", ""): LAMBDA,
    ("ec2:UnassignPrivateIpAddresses", ""): LAMBDA,
}
"""What is allowed but not asked for in a run from 1 to 2 to 1 to nothing: the action, the objects, the reason."""
NOBODY = "instance/i-00000000000000000"
"""EC2 is asked by a dry run on it whether it answers at all; that it refuses is an answer."""


def test_the_role_allows_what_a_whole_run_asks_for_and_nothing_else(
    playground: Playground, new_world: Callable[[Playground, str], World]
) -> None:
    begin = time.time()
    world = new_world(playground, "may")
    world.resize(1)
    role = Role.of_stack(playground, "may")
    bucket = playground.outputs("may")["SnapshotsBucket"]
    instance = world.machines[0].instance
    world.resize(2)
    world.resize(1)
    world.delete()
    asked = calls(playground, begin)
    refused = {(call.action, call.resource.rpartition(":")[2]) for call in asked if not role.granting(call)}
    assert refused == {("ec2:ModifyInstanceAttribute", NOBODY)}
    used = {grant for call in asked for grant in role.granting(call)}
    unseen = {(grant.action, _objects(grant, bucket)) for grant in role.allowed if grant not in used}
    assert unseen == set(UNSEEN)
    assert_no_wildcard_but_where_there_is_no_resource(role)
    assert_a_function_gone_bad_is_refused(role, bucket, instance)


def assert_no_wildcard_but_where_there_is_no_resource(role: Role) -> None:
    assert not [grant for grant in role.allowed if "*" in grant.action]
    everything = {grant.action for grant in role.allowed if grant.resource == "*"}
    assert everything == {"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"}


def assert_a_function_gone_bad_is_refused(role: Role, bucket: str, instance: str) -> None:
    objects = f"arn:aws:s3:::{bucket}"
    ours = {"aws:ResourceTag/etcd-resize:provider": role.function}
    protection = {"ec2:Attribute/DisableApiTermination": "true"}
    mine = Call("ec2:ModifyInstanceAttribute", _machine_of(role, instance), {**ours, **protection})
    assert role.granting(mine)
    hostile = [
        Call(mine.action, mine.resource, {**ours, "ec2:Attribute/UserData": "IyEvYmluL3No"}),
        Call(mine.action, mine.resource, protection),
        Call(mine.action, mine.resource, {"aws:ResourceTag/etcd-resize:provider": "another's", **protection}),
        Call("ec2:TerminateInstances", mine.resource, ours),
        Call("ec2:CreateNetworkInterface", mine.resource.replace("instance", "subnet"), {}),
        Call("ec2:DescribeSubnets", "*", {}),
        Call("s3:GetObject", f"{objects}/may/snapshots/20260101T000000Z-may-1.db", {}),
        Call("s3:GetObject", "arn:aws:s3:::another/may/cluster.json", {}),
        Call("s3:DeleteObject", f"{objects}/may/cluster.json", {}),
        Call("s3:PutObject", f"{objects}/anything", {}),
        Call("s3:ListBucket", "arn:aws:s3:::another", {}),
        Call(
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:us-east-1:000000000000:secret:etcd/root",
            {},
        ),
        Call("iam:PassRole", "arn:aws:iam::000000000000:role/any", {}),
        Call("lambda:UpdateFunctionCode", role.function, {}),
    ]
    assert [call for call in hostile if role.granting(call)] == []


def _machine_of(role: Role, instance: str) -> str:
    """The machine's ARN, in the function's account and region."""
    _, partition, _, region, account, *_ = role.function.split(":")
    return f"arn:{partition}:ec2:{region}:{account}:instance/{instance}"


def _objects(grant: Grant, bucket: str) -> str:
    """Which of the bucket's objects the grant speaks of."""
    return grant.resource.removeprefix(f"arn:aws:s3:::{bucket}") if grant.action.startswith("s3:") else ""
