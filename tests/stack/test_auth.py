"""A stack whose cluster has etcd's own auth enabled, and a password that must be nowhere but in Secrets Manager."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.identity import User
from playground import papers
from playground.local import Playground
from tests.support.etcd import program
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PASSWORD = 'n0-One:may_$ee"this"'  # noqa: S105 — what must be nowhere
WRONG = "another one altogether"
SECRET = "auth/root:SecretString:password"  # noqa: S105 — where it is


def test_a_cluster_with_auth_is_resized_and_the_password_is_nowhere(
    playground: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    secrets = playground.client("secretsmanager")
    secrets.create_secret(Name="auth/root", SecretString=json.dumps({"password": PASSWORD}))
    secrets.create_secret(Name="auth/wrong", SecretString=WRONG)
    world = new_world(playground, "auth")
    world.resize(1, EtcdUser="root", EtcdPasswordSecret=SECRET)
    enable(world, tmp_path)
    refused = world.deploy(2, EtcdPasswordSecret="auth/wrong")
    assert (refused.ok, refused.status) == (False, "UPDATE_ROLLBACK_COMPLETE")
    assert "etcd does not take the user root with this password" in refused.reason
    assert len(view(world).members) == 1
    world.resize(2, EtcdPasswordSecret=SECRET)
    assert len(view(world).voters) == 2
    world.resize(1)
    assert len(view(world).members) == 1
    bucket = playground.outputs("auth")["SnapshotsBucket"]
    shown = [text for text in told(playground, "auth", bucket) if any(one in text for one in spellings())]
    assert shown == []
    world.delete()
    assert found(playground) == []


def enable(world: World, folder: Path) -> None:
    """As docs/etcd-auth.md has it."""
    credentials = world.papers()
    assert credentials, "there is no client bundle"
    shown = papers.as_files(credentials, folder / "papers")
    etcdctl = [str(program("3.5").with_name("etcdctl")), f"--endpoints={','.join(world.endpoints)}"]
    for words in (
        ("user", "add", f"root:{PASSWORD}"),
        ("user", "grant-role", "root", "root"),
        ("auth", "enable"),
    ):
        subprocess.run([*etcdctl, *words], check=True, env={"ETCDCTL_API": "3", **shown}, capture_output=True)


def view(world: World) -> ClusterView:
    """The cluster, as root sees it."""
    with closing(EtcdGateway(world.endpoints, world.papers(), User("root", PASSWORD))) as gateway:
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
    for secret in (PASSWORD, WRONG):
        once = json.dumps(secret)[1:-1]
        found += [secret, once, json.dumps(once)[1:-1]]
        for shift in range(3):  # the groups of four that come from the secret alone
            encoded = base64.b64encode(bytes(shift) + secret.encode()).decode()
            found.append(encoded[4 * bool(shift) : -4])
    return found
