"""Snapshots between two resizes: taken by hand as on a schedule, whole, and by a role that may do nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcd_resize.snapshot import verified
from playground.connections import Connections
from playground.local import Playground
from tests.support.desk import Desk
from tests.support.pages import blocks
from tests.support.permissions import Role, calls
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PAGE = blocks("docs/recovery.md")
(LIST,) = PAGE["Snapshots"]
(RESTORE,) = PAGE["A new stack from a snapshot"]
REVISIONS_BUMPED = 10**9
"""What a restore adds, so that no revision that was ever seen comes again."""


def maintain(playground: Playground, stack: str, event: object) -> dict[str, Any]:
    """What the stack's ``ClusterMaintenance`` answers to an event."""
    answer = playground.client("lambda").invoke(
        FunctionName=f"{stack}-maintenance", Payload=json.dumps(event).encode()
    )
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    return told


def snapshot(playground: Playground, stack: str) -> tuple[str, str]:
    """Take one now: its bucket and key."""
    told = maintain(playground, stack, {"action": "snapshot"})
    bucket, _, key = told["Snapshot"].removeprefix("s3://").partition("/")
    return bucket, key


def put(world: World, key: bytes) -> None:
    connections = Connections(world.papers)
    try:
        connections.put(world.endpoints[0], key, b"value", 5)
    finally:
        connections.close()


def keys(world: World) -> set[bytes]:
    connections = Connections(world.papers)
    try:
        return set(connections.read(world.endpoints[-1], b"k", b"l", 5))
    finally:
        connections.close()


def test_a_snapshot_by_hand_is_whole_and_a_new_stack_starts_from_it(
    playground: Playground, new_world: Callable[[Playground, str], World], tmp_path: Path
) -> None:
    world = new_world(playground, "snaps")
    world.resize(1)
    put(world, b"k-before")
    begin = time.time()
    bucket, key = snapshot(playground, "snaps")
    role = Role.of_stack(playground, "snaps", "MaintenanceRole")
    assert [call for call in calls(playground, begin) if not role.granting(call)] == []
    assert bucket == playground.outputs("snaps")["SnapshotsBucket"]
    s3 = playground.client("s3")
    data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert b"".join(verified([data])) == data
    name = key.rpartition("/")[2].removesuffix(".db")
    desk = Desk(world, tmp_path / "desk")
    assert f"{name}.db" in desk.type(LIST, {"<SnapshotsBucket>/etcd": f"{bucket}/snaps"})
    told = maintain(playground, "snaps", {"action": "delete"})
    assert "with one of" in told["errorMessage"]
    put(world, b"k-after")
    for machine in world.machines:
        playground.kill(machine)

    restored = new_world(playground, "etcd-2")
    named = {"<bucket>/etcd": f"{bucket}/snaps", "<name>": name, " …": " … ClusterName=etcd-2 ClusterSize=2"}
    Desk(restored, tmp_path / "desk-2").deploy(RESTORE, named)
    restored.wait_whole(2)
    assert keys(restored) == {b"k-before"}
    # those who watch from where they were are told that it is compacted, and read anew
    _, again = snapshot(playground, "etcd-2")
    assert int(again.split("-r")[1].split("-")[0]) > REVISIONS_BUMPED

    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key="damaged.db", Body=bytes(damaged))
    refused = new_world(playground, "damaged")
    done = refused.deploy(1, RestoreFrom=f"s3://{bucket}/damaged.db")
    assert not done.ok
    assert f"s3://{bucket}/damaged.db is damaged, its sha256 is another" in done.reason
    assert not [told for told in refused.story if told.startswith("start")]
