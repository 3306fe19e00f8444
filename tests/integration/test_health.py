"""The health report of real etcd: what members say of themselves, and what a dead one costs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from etcd_resize.gateway import EtcdGateway
from etcd_resize.health.examine import WRITTEN_KEY, Sources, examine
from etcd_resize.health.report import Report
from etcd_resize.model.cluster import hex_id
from etcd_resize.model.records import Accepted, ClusterRecord
from etcd_resize.model.urls import client_url
from tests.support.etcd import HandMade, program
from tests.support.fakes import FakeBucket, FakeClock

pytestmark = pytest.mark.integration


def report(addresses: list[str]) -> Report:
    bucket = FakeBucket()
    urls = tuple(map(client_url, addresses))
    bucket.clusters["hand"] = ClusterRecord(0, accepted=(Accepted(0, urls, ()),))
    with_id = EtcdGateway(urls)
    bucket.clusters["hand"] = ClusterRecord(with_id.view().cluster_id, accepted=(Accepted(0, urls, ()),))
    with_id.close()
    return examine(Sources(EtcdGateway, bucket, bucket, bucket.vault, FakeClock()), "hand", 0)


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_a_report_of_three_one_of_which_dies(version: str, tmp_path: Path, addresses: list[str]) -> None:
    three = dict(zip(("m1", "m2", "m3"), addresses, strict=False))
    made = HandMade(program(version), tmp_path, three)
    try:
        made.wait_healthy()
        whole = report(list(three.values()))
        assert [one.healthy for one in whole.members] == [True] * 3
        assert [one.leads for one in whole.members].count(True) == 1
        for one in whole.members:
            assert one.member.health.read_seconds > 0
            assert one.write_seconds
            assert 0 < one.member.health.db_in_use <= one.member.health.db_size
            assert 0 <= one.lag < 10
        assert _keys(addresses[0], program(version)) == [WRITTEN_KEY]
        follower = next(one.member.name for one in whole.members if not one.leads)
        made.named(follower).kill()
        less = report(list(three.values()))
        assert [one.member.name for one in less.members if not one.healthy] == [follower]
        dead = next(one for one in less.members if one.member.name == follower)
        assert f"{dead.member.name} ({hex_id(dead.member.id)}): cannot be reached" in less.problems
    finally:
        made.stop()


def _keys(address: str, etcd: Path) -> list[str]:
    """All keys of the cluster, as its own command line lists them."""
    done = subprocess.run(
        [etcd.with_name("etcdctl"), "--endpoints", client_url(address), "get", "", "--prefix", "--keys-only"],
        env={"ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()
