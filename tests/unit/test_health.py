"""The health report: what is healthy, degraded and unavailable, who is a ghost or a stray, and how it is told."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from etcd_resize.health import handler as handler_module
from etcd_resize.health.examine import DEFAULT_QUOTA, WRITTEN_KEY, Sources, examine
from etcd_resize.health.render import as_data, as_metrics, as_text
from etcd_resize.health.report import Report, snapshot_limit
from etcd_resize.model.cluster import Health, hex_id
from etcd_resize.model.identity import Identity
from etcd_resize.model.records import Accepted, ClusterRecord, MemberRecord
from etcd_resize.model.urls import client_url
from tests.support.events import STACK
from tests.support.fakes import SERVING, FakeBucket, FakeClock, FakeCluster

ADDRESSES = [f"10.0.0.{number}" for number in range(1, 6)]


@dataclass
class World:
    """A cluster of three, ``m1`` to ``m3``, that the journal knows."""

    clock: FakeClock = field(default_factory=FakeClock)
    bucket: FakeBucket = field(default_factory=FakeBucket)

    def __post_init__(self) -> None:
        self.etcd = FakeCluster.bootstrapped(self.clock, ADDRESSES[:3])
        self.accept(ADDRESSES[:3])
        for member, address in zip(self.etcd.members, ADDRESSES, strict=False):
            self.record(member.name, address, member.id)

    def accept(self, addresses: list[str]) -> None:
        accepted = Accepted(len(addresses), tuple(map(client_url, addresses)), ())
        self.bucket.clusters["etcd"] = ClusterRecord(self.etcd.cluster_id, accepted=(accepted,))

    def record(self, name: str, address: str, member_id: int = 0, **changes: object) -> None:
        record = MemberRecord("added", STACK, "request", 0.0, member_id, instance=f"i-{name}")
        self.bucket.members[f"etcd/{name}@{address}"] = replace(record, **changes)  # type: ignore[arg-type]

    def report(self, size: int = 3) -> Report:
        bucket = self.bucket
        return examine(Sources(self.etcd.connect, bucket, bucket, bucket.vault, self.clock), "etcd", size)

    def metrics(self, size: int = 3) -> dict[str, float]:
        return {one.name: one.value for one in as_metrics(self.report(size)) if not one.member}


@pytest.fixture
def world() -> World:
    return World()


def test_a_healthy_cluster_is_told_in_the_words_of_etcdctl(world: World) -> None:
    text = as_text(world.report())
    ids = [hex_id(member.id) for member in world.etcd.members]
    assert text[:4] == [
        f"member {ids[0]} is healthy: got healthy result from http://10.0.0.1:2379",
        f"member {ids[1]} is healthy: got healthy result from http://10.0.0.2:2379",
        f"member {ids[2]} is healthy: got healthy result from http://10.0.0.3:2379",
        "cluster is healthy",
    ]
    assert text[4] == (
        f"{ids[0]}: name=m1 peerURLs=http://10.0.0.1:2380 clientURLs=http://10.0.0.1:2379 isLeader=true"
    )
    assert len(text) == 7


def test_one_dead_member_of_three_is_a_degraded_cluster(world: World) -> None:
    dead = world.etcd.members[1]
    world.etcd.down.add(dead.id)
    report = world.report()
    assert report.state == "degraded"
    told = f"member {hex_id(dead.id)} is unreachable: no answer from http://10.0.0.2:2379: cannot be reached"
    assert told in as_text(report)
    assert world.metrics()["MembersUnhealthy"] == 1
    assert world.metrics()["HasLeader"] == 1


def test_without_a_quorum_the_cluster_is_unavailable_and_nothing_is_written(world: World) -> None:
    world.etcd.down |= {member.id for member in world.etcd.members[1:]}
    report = world.report()
    assert report.state == "unavailable"
    assert "cluster is unavailable" in as_text(report)
    assert world.metrics()["HasLeader"] == 0
    assert world.etcd.written == {}


def test_a_cluster_that_does_not_answer_is_a_report_and_counts_as_all_unhealthy(world: World) -> None:
    world.etcd.down |= {member.id for member in world.etcd.members}
    report = world.report()
    assert (report.state, report.members) == ("unavailable", ())
    assert "no endpoint answers" in report.problems[0]
    assert world.metrics()["MembersUnhealthy"] == 3
    assert world.metrics()["HasLeader"] == 0


def test_another_cluster_at_our_addresses_is_not_taken_for_ours(world: World) -> None:
    world.bucket.clusters["etcd"] = replace(world.bucket.clusters["etcd"], cluster_id=0xABC)
    report = world.report()
    assert report.state == "unavailable"
    assert "is abc by the journal" in report.problems[0]


def test_a_member_that_no_accepted_size_has_is_a_ghost(world: World) -> None:
    world.accept(ADDRESSES[:2])
    report = world.report(2)
    assert report.ghosts == (world.etcd.members[2].label,)
    assert report.state == "degraded"
    assert world.metrics(2)["MembersOff"] == 1


def test_a_machine_whose_member_is_out_is_a_stray(world: World) -> None:
    world.record("m4", "10.0.0.4", 4)
    assert world.report().strays == ("m4 at 10.0.0.4 on i-m4",)
    world.record("m4", "10.0.0.4", 4, state="left")
    assert world.report().strays == ()


def test_members_of_others_are_in_the_report_and_do_not_count_as_ours(world: World) -> None:
    """Of a cluster that was joined through ExistingEndpoints."""
    for name in ("m1@10.0.0.1", "m2@10.0.0.2"):
        del world.bucket.members[f"etcd/{name}"]
    report = world.report(1)
    assert (report.state, report.ours, len(report.members), report.ghosts) == ("healthy", 1, 3, ())


def test_fewer_members_than_wanted_is_a_degraded_cluster(world: World) -> None:
    report = world.report(5)
    assert report.state == "degraded"
    assert report.problems == ("5 members are wanted, and 3 are there",)


def test_what_each_member_says_of_itself_is_in_the_data(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"m1": (900, 0), "m2": (900, 40), "m3": (870, 0)}

    def health(member: object) -> Health:
        applied, pending = figures[member.name]  # type: ignore[attr-defined]
        return Health(
            serving=True,
            reachable=True,
            leader=world.etcd.leader,
            version="3.5.16",
            applied=applied,
            term=7,
            db_size=DEFAULT_QUOTA // 4,
            pending=pending,
            db_in_use=4096,
            read_seconds=0.001,
        )

    monkeypatch.setattr(world.etcd, "health", health)
    data = json.loads(json.dumps(as_data(world.report())))
    assert [one["lag"] for one in data["members"]] == [0, 40, 30]
    assert [one["applied"] for one in data["members"]] == [900, 860, 870]
    first = data["members"][0]
    assert (first["leader"], first["learner"], first["term"], first["version"]) == (True, False, 7, "3.5.16")
    assert (first["db_size"], first["db_in_use"], first["quota_used"]) == (DEFAULT_QUOTA // 4, 4096, 0.25)
    assert (first["read_seconds"], first["write_seconds"]) == (0.001, 0.002)
    assert world.metrics()["QuotaUsed"] == 25


def test_a_quota_is_the_one_that_the_member_s_machine_was_made_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = DEFAULT_QUOTA // 2
    monkeypatch.setattr(world.etcd, "health", lambda _: replace(SERVING, db_size=size))
    told = ({"QuotaBackendBytes": str(size * 8)}, {"Dialect": "cloud-init"})
    for settings, address, member in zip(told, ADDRESSES, world.etcd.members, strict=False):
        world.record(member.name, address, member.id, settings=tuple(settings.items()))
    del world.bucket.members[f"etcd/m3@{ADDRESSES[2]}"]
    bucket = world.bucket
    sources = Sources(world.etcd.connect, bucket, bucket, bucket.vault, world.clock)
    report = examine(sources, "etcd", 3, quota=size)
    assert [one.quota_used for one in report.members] == [1 / 8, 1 / 2, 1]


def test_the_write_is_one_key_that_is_overwritten(world: World) -> None:
    world.report()
    world.clock.now += 60
    world.report()
    assert world.etcd.written == {WRITTEN_KEY: "1060"}


def test_an_alarm_of_etcd_degrades_the_cluster(world: World) -> None:
    world.etcd.alarms = ("NOSPACE on m2",)
    report = world.report()
    assert (report.state, report.problems) == ("degraded", ("alarm NOSPACE on m2",))
    assert world.metrics()["EtcdAlarms"] == 1


def test_the_certificate_that_ends_first_and_the_newest_snapshot_are_metrics(world: World) -> None:
    assert not {"CertificateDays", "SnapshotAgeSeconds"} & set(world.metrics())
    for number, days in ((1, 40), (2, 3), (3, 90)):
        member = world.etcd.members[number - 1]
        expires = world.clock.now + days * 86400
        world.record(member.name, f"10.0.0.{number}", member.id, expires=expires)
    world.bucket.snapshots.append("etcd/20260101T000000Z")
    world.bucket.stored_at = world.clock.now - 90
    assert world.metrics()["CertificateDays"] == 3
    assert world.metrics()["SnapshotAgeSeconds"] == 90


@pytest.mark.parametrize(
    ("rate", "hours", "seconds"),
    [
        ("rate(1 hour)", 0, 7200),
        ("rate(15 minutes)", 0, 1800),
        ("rate(2 days)", 0, 4 * 86400),
        ("rate(1 hour)", 6, 6 * 3600),
        ("cron(0 3 * * ? *)", 0, None),
        ("cron(0 3 * * ? *)", 48, 48 * 3600),
        ("off", 0, None),
        ("", 0, None),
    ],
)
def test_a_snapshot_may_be_twice_as_old_as_its_schedule_s_interval(
    rate: str, hours: int, seconds: float | None
) -> None:
    assert snapshot_limit(rate, hours) == seconds


def test_a_snapshot_that_is_overdue_is_warned_of_and_one_that_never_came_as_well(world: World) -> None:
    bucket, cluster = world.bucket, world.etcd
    sources = Sources(cluster.connect, bucket, bucket, bucket.vault, world.clock)

    def told() -> tuple[float, tuple[str, ...]]:
        report = examine(sources, "etcd", 3, snapshot_limit=7200)
        (used,) = [one.value for one in as_metrics(report) if one.name == "SnapshotAgeUsed"]
        assert report.state == "healthy"
        return used, report.warnings

    for key, record in bucket.members.items():
        bucket.members[key] = replace(record, at=world.clock.now)
    world.clock.now += 7200
    assert told() == (100, ())
    world.clock.now += 72
    assert told() == (101, ("there is no snapshot, and one of the last 2 hours is wanted",))
    bucket.snapshots.append("etcd/20260101T000000Z")
    bucket.stored_at = world.clock.now
    assert told() == (0, ())
    world.clock.now += 3 * 3600
    assert told() == (150, ("the newest snapshot is too old, and one of the last 2 hours is wanted",))
    assert "SnapshotAgeUsed" not in world.metrics()


def test_a_certificate_is_warned_of_thirty_days_before_its_end_and_the_cluster_is_healthy_still(
    world: World,
) -> None:
    days = {"m1": 29.0, "m2": 31.0, "m3": 400.0}
    for (name, left), address, member in zip(days.items(), ADDRESSES, world.etcd.members, strict=False):
        world.record(name, address, member.id, expires=world.clock.time() + left * 86400)
    report = world.report()
    label = f"m1 ({hex_id(world.etcd.members[0].id)})"
    wanted = f"the certificate of {label} ends in 29 days: flip its colour in Members"
    assert report.warnings == (wanted,)
    assert report.state == "healthy"
    assert as_text(report)[-1] == wanted
    assert as_data(report)["warnings"] == [wanted]
    world.clock.sleep(2 * 86400)
    assert len(world.report().warnings) == 2
    kept = {"authority": "a", "certificate": "c", "key": "k", "expires": str(world.clock.time() + 86400)}
    world.bucket.vault.kept["etcd/pki/function"] = json.dumps(kept).encode()
    assert world.report().warnings[0] == "the function's certificate ends in 1 days: raise TlsGeneration"


def test_the_certificate_that_the_function_shows_is_shown_and_its_end_counts(world: World) -> None:
    kept = {"authority": "a", "certificate": "c", "key": "k", "generation": 1, "expires": "87400"}
    world.bucket.vault.kept["etcd/pki/function"] = json.dumps(kept).encode()
    assert world.metrics()["CertificateDays"] == 1
    shown = world.etcd.shown[-1]
    assert shown
    assert (shown.authority, shown.certificate, shown.key) == ("a", "c", "k")


def test_an_empty_journal_is_a_sentence(world: World) -> None:
    world.bucket.clusters.clear()
    world.bucket.members.clear()
    assert world.report().problems == ("the journal knows no member of etcd",)


def test_the_function_answers_the_report_and_logs_metrics_and_a_line_a_member(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "STACK": "prod", "CLUSTER": "etcd", "CLUSTER_SIZE": "3", "BUCKET": "b", "QUOTA_BYTES": str(DEFAULT_QUOTA),
        "SNAPSHOT_RATE": "rate(1 hour)", "SNAPSHOT_MAX_AGE_HOURS": "0",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(handler_module, "examine", lambda *_: world.report())
    logger = logging.getLogger("etcd-resize")  # powertools keeps one, with the output of whoever asked first
    for name, nothing in (("init", False), ("powertools_handler", None), ("handlers", [])):
        monkeypatch.setattr(logger, name, nothing, raising=False)
    dead = world.etcd.members[2]
    world.etcd.down.add(dead.id)
    handler_module.handler({}, SimpleNamespace(aws_request_id="r-1"))
    assert '"request":"r-1"' in capsys.readouterr().out
    answer = handler_module.handler({}, SimpleNamespace(aws_request_id="r-2"))
    assert answer["state"] == "degraded"
    assert "cluster is degraded" in answer["text"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    metrics = [line for line in lines if "_aws" in line]
    (cluster,) = [line for line in metrics if "Member" not in line]
    (described,) = cluster["_aws"]["CloudWatchMetrics"]
    assert (described["Namespace"], described["Dimensions"]) == ("EtcdResize", [["Stack"]])
    assert (cluster["Stack"], cluster["MembersUnhealthy"]) == ("prod", [1.0])
    assert {line["Member"]: line["Healthy"] for line in metrics if "Member" in line} == {
        "m1": [1.0],
        "m2": [1.0],
        "m3": [0.0],
    }
    told = [line for line in lines if "_aws" not in line]
    assert {(line["stack"], line["cluster"], line["request"]) for line in told} == {("prod", "etcd", "r-2")}
    assert [(line["member"], line["level"]) for line in told if "member" in line] == [
        ("m1", "INFO"),
        ("m2", "INFO"),
        ("m3", "WARNING"),
    ]


def test_a_journal_of_identities_finds_members_by_tls_if_the_function_has_a_certificate(world: World) -> None:
    kept = {"authority": "a", "certificate": "c", "key": "k", "generation": 1}
    world.bucket.vault.kept["etcd/pki/function"] = json.dumps(kept).encode()
    world.bucket.clusters.clear()
    report = world.report()
    assert report.problems[0].startswith("no endpoint answers: https://10.0.0.1:2379")
    assert Identity.parse("etcd/m1@10.0.0.1")
