"""A stack whose cluster has etcd's own auth enabled, and a password that must be nowhere but in Secrets Manager."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.identity import User
from playground.account import PlaygroundError
from playground.local import Playground
from tests.support.desk import Desk
from tests.support.pages import blocks
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

(SETUP,) = blocks("docs/operations.md")["Before you type"]
PAGE = blocks("docs/etcd-auth.md")
PASSWORD_MADE, TELL, ENABLE, CLIENTS, WITHOUT, BACK = PAGE["Enabling it"]
(CHANGE,) = PAGE["Changing the password"]

PASSWORD = 'n0-One:may_$ee"this"'  # noqa: S105 — what must be nowhere
CHANGED = PASSWORD[::-1]
WRONG = "another one altogether"
ROOT = "root of all"
SECRET = "auth/json:SecretString:password"  # noqa: S105 — where it is, too


def test_a_cluster_with_auth_is_resized_and_the_password_is_nowhere(
    playground: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    """By the commands of docs/etcd-auth.md; the shrink is that without a user, while etcd still asks for one."""
    secrets = playground.client("secretsmanager")
    secrets.create_secret(Name="auth/json", SecretString=json.dumps({"password": PASSWORD}))
    secrets.create_secret(Name="auth/wrong", SecretString=WRONG)
    world = new_world(playground, "auth")
    world.resize(1)
    desk = Desk(world, tmp_path)
    desk.keep(SETUP, {"--stack-name etcd": "--stack-name auth"})
    enable(desk)
    refused = world.deploy(2, EtcdPasswordSecret="auth/wrong")
    assert (refused.ok, refused.status) == (False, "UPDATE_ROLLBACK_COMPLETE")
    assert "etcd does not take the user resizer with this password" in refused.reason
    assert len(view(world).members) == 1
    world.resize(2, EtcdPasswordSecret=SECRET)
    assert len(view(world).voters) == 2
    desk.type(CLIENTS, answers=f"{ROOT}\n" * 6)
    with pytest.raises(PlaygroundError, match="user not found"):
        playground.invoke("auth", "ClusterMaintenance", {"action": "snapshot"})
    desk.type(WITHOUT, answers=f"{ROOT}\n" * 2)
    assert playground.invoke("auth", "ClusterMaintenance", {"action": "snapshot"})["Snapshot"]
    disable, without_user = BACK
    desk.deploy(
        [without_user], {"sam deploy --parameter-overrides": "sam deploy --parameter-overrides ClusterSize=1"}
    )
    assert len(view(world).members) == 1
    change(desk)
    assert len(view(world, CHANGED).members) == 1
    desk.type([disable], answers=f"{ROOT}\n")
    bucket = playground.outputs("auth")["SnapshotsBucket"]
    shown = [text for text in told(playground, "auth", bucket) if any(one in text for one in spellings())]
    assert shown == []
    world.delete()
    assert found(playground) == []


def enable(desk: Desk) -> None:
    """With a password that is harder to hide than the one that the page makes."""
    make, keep = PASSWORD_MADE
    desk.type([make])
    password = desk.folder / "password"
    assert re.fullmatch("[0-9a-f]{48}", password.read_text())
    password.write_text(PASSWORD)
    desk.type([keep])
    desk.deploy(TELL)
    assert "Authentication Enabled" in desk.type(ENABLE, answers=f"{ROOT}\n" * 2)
    assert not password.exists()


def change(desk: Desk) -> None:
    (desk.folder / "password").write_text(CHANGED)
    desk.type(CHANGE, answers=f"{CHANGED}\n{CHANGED}\n{ROOT}\n")


def view(world: World, password: str = PASSWORD) -> ClusterView:
    """The cluster, as the page's user sees it."""
    with closing(EtcdGateway(world.endpoints, world.papers(), User("resizer", password))) as gateway:
        return gateway.view()


def told(playground: Playground, stack: str, bucket: str) -> Iterator[str]:
    """All that CloudFormation, S3 and EC2 show of a stack and those nested in it, as text."""
    api, s3 = playground.client("cloudformation"), playground.client("s3")
    for one in api.describe_stacks()["Stacks"]:
        if one["StackName"].startswith(stack):
            yield json.dumps(one, default=str)
            yield json.dumps(api.get_template(StackName=one["StackId"])["TemplateBody"], default=str)
            for described in (api.describe_stack_events, api.describe_stack_resources):
                yield json.dumps(described(StackName=one["StackId"]), default=str)
    for item in s3.list_object_versions(Bucket=bucket)["Versions"]:
        if "/snapshots/" not in item["Key"]:  # etcd itself keeps users there, by bcrypt
            stored = s3.get_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])["Body"].read()
            yield stored.decode()
    yield json.dumps(playground.client("ec2").describe_instances(), default=str)


def found(playground: Playground) -> list[str]:
    """The files of the playground in which a password is: its journal, the functions' log, the machines."""
    return [
        str(path)
        for path in playground.directory.rglob("*")
        if path.is_file() and any(one.encode() in path.read_bytes() for one in spellings())
    ]


def spellings() -> list[str]:
    """The passwords as they are, in JSON, in JSON within JSON, and within something in base64."""
    found = []
    for secret in (PASSWORD, CHANGED, WRONG):
        once = json.dumps(secret)[1:-1]
        found += [secret, once, json.dumps(once)[1:-1]]
        for shift in range(3):  # the groups of four that come from the secret alone
            encoded = base64.b64encode(bytes(shift) + secret.encode()).decode()
            found.append(encoded[4 * bool(shift) : -4])
    return found
