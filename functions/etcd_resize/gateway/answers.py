"""From what each endpoint answered to one view of the cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.cluster import ClusterView, Health, Member, hex_id


@dataclass(frozen=True)
class Probe:
    """What one endpoint answered. ``members`` is as fresh as a linearizable read if ``serving``."""

    cluster_id: int
    member_id: int
    is_learner: bool
    health: Health
    members: tuple[Member, ...]
    errors: tuple[str, ...]


def probe(status: Any, listed: Iterable[Any], problem: str, read_seconds: float) -> Probe:
    """What an endpoint answered: its status, its list, and what came instead of a read that took ``read_seconds``."""
    serving = not problem and status.leader != 0
    return Probe(
        cluster_id=status.header.cluster_id,
        member_id=status.header.member_id,
        is_learner=status.isLearner,
        health=Health(
            serving=serving,
            reachable=True,
            leader=status.leader,
            version=status.version,
            applied=status.raftIndex,
            term=status.raftTerm,
            db_size=status.dbSize,
            pending=max(0, status.raftIndex - status.raftAppliedIndex),
            db_in_use=status.dbSizeInUse,
            read_seconds=0.0 if problem else read_seconds,
            problem=problem or ("" if serving else "it knows no leader"),
        ),
        members=tuple(map(_member, listed)),
        errors=tuple(status.errors),
    )


def _member(listed: Any) -> Member:
    return Member(
        id=listed.ID,
        name=listed.name,
        peer_urls=tuple(listed.peerURLs),
        client_urls=tuple(listed.clientURLs),
        is_learner=listed.isLearner,
    )


def newest_list(probes: Mapping[str, Probe | str]) -> tuple[Member, ...]:
    """The members, by whoever knows best. ``probes``: by client URL, what was answered, or why nothing was.

    Retryable if nobody answers, Refused if they belong to different clusters.
    """
    answered = {url: probe for url, probe in probes.items() if isinstance(probe, Probe)}
    if not answered:
        told = "; ".join(f"{url}: {problem}" for url, problem in list(probes.items())[:3])
        raise Retryable(f"no endpoint answers: {told}")
    _same_cluster(answered)
    return max(answered.values(), key=_freshness).members


def _freshness(probe: Probe) -> tuple[bool, bool, int]:
    return (bool(probe.members), probe.health.serving and not probe.is_learner, probe.health.applied)


def _same_cluster(answered: Mapping[str, Probe]) -> None:
    clusters: dict[int, str] = {}
    for url, probe in answered.items():
        clusters.setdefault(probe.cluster_id, url)
    if len(clusters) > 1:
        told = ", ".join(f"{url} to {hex_id(cluster_id)}" for cluster_id, url in clusters.items())
        raise Refused(f"the endpoints belong to different clusters: {told}; give those of one cluster only")


def assemble(listed: tuple[Member, ...], probes: Mapping[str, Probe | str]) -> ClusterView:
    """The view: each listed member with its health. Retryable if the list is empty."""
    answered = {probe.member_id: probe for probe in probes.values() if isinstance(probe, Probe)}
    if not listed:
        raise Retryable("only learners answer, and they do not list the members")
    members = tuple(replace(member, health=_health(member, answered, probes)) for member in listed)
    names = {member.id: member.label for member in members}
    return ClusterView(
        cluster_id=next(iter(answered.values())).cluster_id,
        members=members,
        has_quorum=any(member.health.serving and not member.is_learner for member in members),
        alarms=tuple(sorted({alarm for probe in answered.values() for alarm in _alarms(probe, names)})),
    )


def _health(member: Member, answered: Mapping[int, Probe], probes: Mapping[str, Probe | str]) -> Health:
    if member.id in answered:
        return answered[member.id].health
    told = [said for url in member.client_urls if isinstance(said := probes.get(url), str)]
    otherwise = "another member answers at its URL" if member.started else "it has not started"
    return Health(serving=False, problem=told[0] if told else otherwise)


def _alarms(probe: Probe, names: dict[int, str]) -> Iterator[str]:
    """etcd reports an alarm among a status's errors, as ``memberID:<decimal> alarm:NOSPACE``."""
    for error in probe.errors:
        fields = dict(part.split(":", 1) for part in error.split() if ":" in part)
        if "alarm" in fields:
            member = fields.get("memberID", "0")
            number = int(member) if member.isdigit() else 0
            yield f"{fields['alarm']} on {names.get(number, hex_id(number))}"
