"""The built layer and function on the runtime that they are built for: Python 3.13, Lambda's own client."""

from __future__ import annotations

import base64
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url
from playground import tools, tree
from playground.cloud.userdata import read
from playground.faults.mailbox import Mailbox
from playground.local import Playground
from tests.support.addresses import RUNTIME, free_port
from tests.support.built import Build
from tests.support.etcd import Etcd, HandMade, view
from tests.support.events import event, member_properties, voter_properties
from tests.support.runtime import Runtime
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.artifact, pytest.mark.timeout(600)]  # the tree may have to be built first

LAYERS = {
    "x86_64": ("PackagesX8664", "CertificatesX8664"),
    "aarch64": ("PackagesArm64", "CertificatesArm64"),
}
BUCKET = "artifact"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """S3 for the journal."""
    with Playground(tmp_path_factory.mktemp("cloud"), network=RUNTIME, port=free_port()) as running:
        running.client("s3").create_bucket(Bucket=BUCKET)
        yield running


@pytest.fixture(scope="module")
def runtime(shipped: Build, cloud: Playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    if lacking := tree.missing():
        pytest.skip(lacking)
    try:
        tools.runtime()
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))
    settings = {name: value for name, value in cloud.settings.items() if name.startswith("AWS_")}
    environment = {**settings, "BUCKET": BUCKET, "ANSWERS_ON_LOOPBACK": "1"}
    folder = tmp_path_factory.mktemp("runtime")
    with Runtime(shipped, LAYERS[platform.machine()], environment, cloud.certificate, folder) as running:
        yield running


def test_a_member_joins_and_leaves(
    runtime: Runtime,
    cloud: Playground,
    hand_made: Callable[[int], HandMade],
    etcd: Path,
    addresses: list[str],
    tmp_path: Path,
) -> None:
    there = hand_made(1)
    name = f"c-{addresses[0]}".replace(".", "-")  # the journal of another test's cluster is not this one's
    newcomer, endpoints = Identity(name, f"{name}-2", addresses[1]), client_url(addresses[0])
    with Mailbox(cloud.certificate) as mailbox:

        def send(sent: dict[str, Any]) -> dict[str, Any]:
            """Handle an event; the answer that CloudFormation gets."""
            url, answered = mailbox.address()
            assert runtime.invoke({**sent, "ResponseURL": url}) == ("response", None), runtime.log()
            return answered(0)

        theirs = {"ProtectMachine": "false", "Bootstrapped": "false"}
        wanted = member_properties(newcomer, endpoints, **theirs)
        created = send(event("Create", "Custom::EtcdMember", wanted))
        assert created["Status"] == "SUCCESS", created["Reason"]
        assert created["PhysicalResourceId"] == str(newcomer)
        assert sorted(member.is_learner for member in view(there.endpoints).members) == [False, True]

        environment = read(base64.b64decode(created["Data"]["UserData"])).environment
        machine = Etcd(etcd, tmp_path / "machine", environment)
        try:
            voter = voter_properties(newcomer, created["Data"]["MemberId"], endpoints, **theirs)
            promoted = send(event("Create", "Custom::EtcdVoter", voter))
            assert promoted["Status"] == "SUCCESS", promoted["Reason"]
            assert {member.name for member in view(there.endpoints).voters} == {"m1", newcomer.name}

            leaving = event("Delete", "Custom::EtcdVoter", voter, physical_id=str(newcomer))
            left = send(leaving)
            assert left["Status"] == "SUCCESS", left["Reason"]
            assert {member.name for member in view(there.endpoints).members} == {"m1"}
            wait_until(lambda: not machine.running, "the removed member ends by itself")
            snapshots = cloud.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/snapshots/")
            kept = [one["Key"] for one in snapshots["Contents"] if one["Size"] > 0]
            assert all(key.endswith(f"-{newcomer.name}.db") for key in kept)
            refused = send(event("Create", "Custom::EtcdMember", {**wanted, "Name": "a b"}))
            assert refused["Status"] == "FAILED"
            assert "Name 'a b' is not" in refused["Reason"]
        finally:
            machine.kill()
