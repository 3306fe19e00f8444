"""Snapshots between two resizes: taken by hand as on a schedule, whole, and by a role that may do nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from etcd_resize.snapshot import check_head, verified
from playground.local import Playground
from tests.support.permissions import Role, calls
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def maintain(playground: Playground, stack: str, event: object) -> dict[str, Any]:
    """What the stack's ``ClusterMaintenance`` answers to an event."""
    answer = playground.client("lambda").invoke(
        FunctionName=f"{stack}-maintenance", Payload=json.dumps(event).encode()
    )
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    return told


def test_a_snapshot_by_hand_is_whole_and_its_role_allows_no_more(
    playground: Playground, new_world: Callable[[Playground, str], World]
) -> None:
    world = new_world(playground, "snaps")
    world.resize(1)
    begin = time.time()
    told = maintain(playground, "snaps", {"action": "snapshot"})
    assert told["Source"] == "snaps-1"
    bucket, _, key = told["Snapshot"].removeprefix("s3://").partition("/")
    assert bucket == playground.outputs("snaps")["SnapshotsBucket"]
    data = playground.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    assert b"".join(verified([data])) == data
    check_head(lambda offset, length: data[offset : offset + length], len(data))
    role = Role.of_stack(playground, "snaps", "Maintenance")
    assert [call for call in calls(playground, begin) if not role.granting(call)] == []
    told = maintain(playground, "snaps", {"action": "delete"})
    assert "with one of" in told["errorMessage"]
