"""The report as operators know it, as data, and as metrics. PURE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etcd_resize import answer
from etcd_resize.health.report import MemberReport, Report
from etcd_resize.model.cluster import hex_id


def as_text(report: Report) -> list[str]:
    """Lines as ``etcdctl cluster-health`` and ``etcdctl member list`` of etcd 2 wrote them, then what is wrong."""
    health = [_line(one) for one in report.members]
    listed = answer.member_list(report.view).splitlines() if report.view else []
    return [*health, f"cluster is {report.state}", *listed, *report.problems, *report.warnings]


def _line(one: MemberReport) -> str:
    who = f"member {hex_id(one.member.id)}"
    if one.healthy:
        return f"{who} is healthy: got healthy result from {one.url}"
    if one.member.health.reachable:
        return f"{who} is unhealthy: got unhealthy result from {one.url}: {one.problem}"
    return f"{who} is unreachable: no answer from {one.url}: {one.problem}"


def as_data(report: Report) -> dict[str, Any]:
    """The report for programs: plain JSON, times in seconds, sizes in bytes."""
    return {
        "cluster": report.cluster,
        "state": report.state,
        "cluster_id": hex_id(report.view.cluster_id) if report.view else None,
        "has_quorum": bool(report.view and report.view.has_quorum),
        "version": report.view.version if report.view else "",
        "wanted": report.size,
        "present": report.ours,
        "members": [_member(one) for one in report.members],
        "alarms": list(report.alarms),
        "ghosts": list(report.ghosts),
        "strays": list(report.strays),
        "snapshot_age": report.snapshot_age,
        "snapshot_used": report.snapshot_used,
        "certificate_days": report.certificate_days,
        "problems": list(report.problems),
        "warnings": list(report.warnings),
    }


def _member(one: MemberReport) -> dict[str, Any]:
    health = one.member.health
    return {
        "id": hex_id(one.member.id),
        "name": one.member.name,
        "endpoint": one.url,
        "healthy": one.healthy,
        "problem": one.problem,
        "leader": one.leads,
        "learner": one.member.is_learner,
        "version": health.version,
        "term": health.term,
        "applied": health.applied - health.pending,
        "lag": one.lag,
        "db_size": health.db_size,
        "db_in_use": health.db_in_use,
        "quota_used": one.quota_used,
        "read_seconds": health.read_seconds or None,
        "write_seconds": one.write_seconds,
        "certificate_days": one.certificate_days,
    }


@dataclass(frozen=True)
class Metric:
    """One value for CloudWatch. ``unit`` is one of its own names. ``member``: empty for the cluster's."""

    name: str
    unit: str
    value: float
    member: str = ""


def as_metrics(report: Report) -> list[Metric]:
    """What the alarms and the dashboard of template.yaml are made of. What is not known has no value."""
    return [*_of_the_cluster(report), *(metric for one in report.members for metric in _of_a_member(one))]


def _of_the_cluster(report: Report) -> Iterator[Metric]:
    members, view = report.members, report.view
    led = bool(view and view.has_quorum and view.leader)
    yield Metric("HasLeader", "Count", float(led))
    yield Metric("MembersHealthy", "Count", sum(one.healthy for one in members))
    # without an answer nobody is known to be healthy
    yield Metric(
        "MembersUnhealthy", "Count", sum(not one.healthy for one in members) if view else report.size
    )
    yield Metric("MembersOff", "Count", abs(report.size - report.ours) if view else 0)
    yield Metric("Ghosts", "Count", len(report.ghosts))
    yield Metric("EtcdAlarms", "Count", len(report.alarms))
    if members:
        yield Metric("QuotaUsed", "Percent", max(one.quota_used for one in members) * 100)
        yield Metric("LagEntries", "Count", max(one.lag for one in members))
    days = [one.certificate_days for one in members if one.certificate_days is not None]
    days += [] if report.certificate_days is None else [report.certificate_days]
    if days:
        yield Metric("CertificateDays", "Count", min(days))
    if report.snapshot_age is not None:
        yield Metric("SnapshotAgeSeconds", "Seconds", report.snapshot_age)
    if report.snapshot_used is not None:
        yield Metric("SnapshotAgeUsed", "Percent", report.snapshot_used * 100)


def _of_a_member(one: MemberReport) -> Iterator[Metric]:
    health, name = one.member.health, one.member.name or hex_id(one.member.id)
    yield Metric("Healthy", "Count", float(one.healthy), name)
    if health.reachable:
        yield Metric("Leads", "Count", float(one.leads), name)
        yield Metric("DbSize", "Bytes", health.db_size, name)
        yield Metric("Lag", "Count", one.lag, name)
    if health.read_seconds:
        yield Metric("ReadTime", "Milliseconds", health.read_seconds * 1000, name)
    if one.write_seconds is not None:
        yield Metric("WriteTime", "Milliseconds", one.write_seconds * 1000, name)
