"""What docs/operations.md tells to type, typed line by line."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from etcd_resize.errors import Refused
from etcd_resize.gateway import EtcdGateway
from etcd_resize.health.examine import WRITTEN_KEY
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.service import Maintained, Outside, maintain
from tests.support.etcd import Etcd, HandMade, program, wait_healthy
from tests.support.fakes import FakeBucket, FakeMachines
from tests.support.pages import blocks

pytestmark = pytest.mark.integration

QUOTA_BYTES = 4 * 1024 * 1024
VALUE = "x" * 500_000


(NO_SPACE,) = blocks("docs/operations.md")["No space"]


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_a_full_database_takes_writes_again_after_the_commands_of_no_space(
    version: str, tmp_path: Path, addresses: list[str]
) -> None:
    identity = Identity("full", "full-1", addresses[0])
    settings = (("ETCD_QUOTA_BACKEND_BYTES", str(QUOTA_BYTES)),)
    initial = ((identity.name, identity.peer_url),)
    spec = MemberSpec(identity, initial, "new", "full", settings=settings)
    etcd = Etcd(program(version), tmp_path, spec.environment())
    gateway = EtcdGateway([identity.client_url])
    try:
        (member,) = wait_healthy([identity.client_url], 1).members
        with pytest.raises(Refused, match="database space exceeded"):
            fill(gateway, member)
        assert gateway.view().alarms == (f"NOSPACE on {member.label}",)
        run("\n".join(NO_SPACE), program(version).parent, identity.client_url)
        gateway.write(member, WRITTEN_KEY, "small")
        after = gateway.view()
        assert after.alarms == ()
        assert after.members[0].health.db_size < QUOTA_BYTES
    finally:
        gateway.close()
        etcd.kill()


def fill(gateway: EtcdGateway, member: Member) -> None:
    for _ in range(50):
        gateway.write(member, WRITTEN_KEY, VALUE)


def run(script: str, programs: Path, endpoints: str) -> None:
    environment = {
        "PATH": os.pathsep.join((str(programs), os.defpath)),
        "ETCDCTL_API": "3",
        "ETCDCTL_ENDPOINTS": endpoints,
    }
    subprocess.run(
        ["sh", "-euxc", script], env=environment, check=True, capture_output=True, text=True, timeout=60
    )


def test_a_defragmentation_makes_every_database_smaller_and_the_leader_goes_last(
    hand_made: Callable[[int], HandMade], etcd: Path
) -> None:
    made = hand_made(3)
    gateway = EtcdGateway(made.endpoints)
    leader = lead(gateway, "m1")
    for _ in range(16):
        gateway.write(leader, WRITTEN_KEY, VALUE)
    compact = [line for line in NO_SPACE if "defrag" not in line and "disarm" not in line]
    run("\n".join(compact), etcd.parent, leader.client_urls[0])
    before = sizes(gateway)
    bucket = FakeBucket()
    outside = Outside(EtcdGateway, bucket, bucket, FakeMachines(), time, bucket.vault)
    told = maintain(outside, Maintained("hand", made.endpoints), {"action": "defragment"}, 60)
    after = sizes(gateway)
    gateway.close()
    assert all(after[name] < size / 4 for name, size in before.items())
    assert told["Defragmented"] == "; ".join(
        f"{name} from {before[name]} to {after[name]} bytes" for name in ("m2", "m3", "m1")
    )


def lead(gateway: EtcdGateway, name: str) -> Member:
    """Let that member lead, if it does not yet."""
    view = gateway.view()
    wanted = view.named(name)
    assert wanted
    assert view.leader
    if wanted != view.leader:
        gateway.move_leader(view.leader, wanted)
    return wanted


def sizes(gateway: EtcdGateway) -> dict[str, int]:
    return {member.name: member.health.db_size for member in gateway.view().members}
