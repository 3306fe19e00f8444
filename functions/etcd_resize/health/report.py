"""The judgement: from the cluster as it was seen, and the journal, to a report. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import UNTUNED
from etcd_resize.model.records import MemberRecord
from etcd_resize.model.urls import host_of

HEALTHY, DEGRADED, UNAVAILABLE = "healthy", "degraded", "unavailable"
DAY_SECONDS = 86400.0
WARNING_DAYS = 30.0
"""A certificate that has less left is told of; the alarm of template.yaml goes by the same number."""


@dataclass(frozen=True)
class Found:
    """All that a report is made of. Times in seconds, sizes in bytes.

    ``size``: the members that the stack wants. ``quota``: of a member that the journal does not know. ``view`` is None
    if no member answers, ``problem`` then says why. ``accepted`` are the client URLs that the guard accepted last.
    ``writes``: how long a put through each voter took, by member ID; ``unwritten``: why one was not answered.
    ``snapshot_at`` is when the newest snapshot was stored, None without one; ``snapshot_limit`` is the age that it may
    have, None for any. ``shown_until``: the end of the certificate that this function shows the members, 0 without one.
    """

    cluster: str
    size: int
    now: float
    quota: int
    view: ClusterView | None = None
    problem: str = ""
    accepted: tuple[str, ...] = ()
    recorded: Sequence[tuple[Identity, MemberRecord]] = ()
    writes: Mapping[int, float] = field(default_factory=dict)
    unwritten: Mapping[int, str] = field(default_factory=dict)
    snapshot_at: float | None = None
    snapshot_limit: float | None = None
    shown_until: float = 0.0


@dataclass(frozen=True)
class MemberReport:
    """One member. ``lag``: raft entries that it has applied less than the member that is furthest.

    ``write_seconds`` is None where no write was tried or it failed; ``certificate_days`` None without TLS, or for a
    member that is not of this stack. ``problem``: why it is not healthy.
    """

    member: Member
    leads: bool
    healthy: bool
    lag: int
    quota_used: float
    write_seconds: float | None = None
    certificate_days: float | None = None
    problem: str = ""

    @property
    def url(self) -> str:
        """Where it was asked, or where its peers would find it."""
        return next(iter((*self.member.client_urls, *self.member.peer_urls)))


@dataclass(frozen=True)
class Report:
    """The cluster at one moment.

    ``state`` is ``healthy`` (every member is, and all that are wanted are there), ``degraded`` (a quorum serves) or
    ``unavailable``. ``ours`` of the ``members`` are this stack's, by the journal. ``ghosts``: those of them that the
    last size which the guard accepted does not have; ``strays``: members that the journal has and the cluster has
    not. In the middle of a resize the member that comes or goes is among them for a while. ``problems`` are sentences,
    the gravest first; ``warnings`` are of what will go wrong. ``certificate_days``: what the function's own certificate
    has left. ``snapshot_used``: how much of the age that it may have the newest snapshot has, 1 for all of it; without
    one, the cluster's own age counts.
    """

    cluster: str
    state: str
    size: int
    ours: int = 0
    members: tuple[MemberReport, ...] = ()
    view: ClusterView | None = None
    alarms: tuple[str, ...] = ()
    ghosts: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    snapshot_age: float | None = None
    snapshot_used: float | None = None
    certificate_days: float | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


_UNIT_SECONDS = {"minute": 60.0, "hour": 3600.0, "day": DAY_SECONDS}
INTERVALS = 2
"""Of the schedule: as old may the newest snapshot be."""


def snapshot_limit(rate: str, hours: int) -> float | None:
    """How old, in seconds, the newest snapshot may be: so many ``hours``, or for 0 twice the interval of the schedule.

    ``rate`` is one of EventBridge's, like ``rate(1 hour)``. None for ``off``, and for a ``cron`` without hours.
    """
    if hours:
        return hours * 3600.0
    form = re.fullmatch(r"rate\(([0-9]+) (minute|hour|day)s?\)", rate)
    return INTERVALS * int(form[1]) * _UNIT_SECONDS[form[2]] if form else None


def _snapshot_used(found: Found) -> float | None:
    since = found.snapshot_at
    if since is None:
        since = min((record.at for _, record in found.recorded), default=None)
    return None if since is None or not found.snapshot_limit else (found.now - since) / found.snapshot_limit


def judge(found: Found) -> Report:
    """The report of what was found."""
    unseen = Report(
        found.cluster,
        UNAVAILABLE,
        found.size,
        snapshot_age=None if found.snapshot_at is None else max(0.0, found.now - found.snapshot_at),
        snapshot_used=_snapshot_used(found),
        certificate_days=_own_days(found),
        problems=(found.problem,),
        warnings=tuple(_warnings((), found)),
    )
    return _seen(unseen, found, found.view) if found.view else unseen


def _seen(unseen: Report, found: Found, view: ClusterView) -> Report:
    """The report with what is to be said when a member answered."""
    members = tuple(_member(member, found, view) for member in view.members)
    present = [(identity, record) for identity, record in found.recorded if record.state != "left"]
    ours = [member for member in view.members if any(_is(identity, member) for identity, _ in present)]
    hosts = set(map(host_of, found.accepted))
    ghosts = tuple(member.label for member in ours if hosts.isdisjoint(map(host_of, member.peer_urls)))
    strays = tuple(_strays(view, present)) if view.has_quorum else ()
    problems = tuple(_problems(view, members, ghosts, strays))
    if not problems and len(ours) != found.size:
        problems = (f"{found.size} members are wanted, and {len(ours)} are there",)
    return replace(
        unseen,
        state=UNAVAILABLE if not view.has_quorum else DEGRADED if problems else HEALTHY,
        ours=len(ours),
        members=members,
        view=view,
        alarms=view.alarms,
        ghosts=ghosts,
        strays=strays,
        problems=problems,
        warnings=tuple(_warnings(members, found)),
    )


def _own_days(found: Found) -> float | None:
    return (found.shown_until - found.now) / DAY_SECONDS if found.shown_until else None


def _member(member: Member, found: Found, view: ClusterView) -> MemberReport:
    health = member.health
    problem = health.problem or found.unwritten.get(member.id, "")
    furthest = max(one.health.applied - one.health.pending for one in view.members)
    certificate = [
        record.expires for identity, record in found.recorded if record.expires and _is(identity, member)
    ]
    return MemberReport(
        member=member,
        leads=member == view.leader,
        healthy=health.serving and not problem,
        lag=furthest - (health.applied - health.pending) if health.reachable else 0,
        quota_used=health.db_size / _quota(member, found),
        write_seconds=found.writes.get(member.id),
        certificate_days=(max(certificate) - found.now) / DAY_SECONDS if certificate else None,
        problem=problem,
    )


def _quota(member: Member, found: Found) -> int:
    """The one that its machine was made with: a member keeps it until it is replaced."""
    made_with = [
        {**UNTUNED, **dict(record.settings)}
        for identity, record in found.recorded
        if record.state != "left" and _is(identity, member)
    ]
    return int(made_with[-1]["QuotaBackendBytes"]) if made_with else found.quota


def _is(identity: Identity, member: Member) -> bool:
    return identity.address in map(host_of, member.peer_urls)


def _strays(view: ClusterView, present: Sequence[tuple[Identity, MemberRecord]]) -> Iterable[str]:
    for identity, record in present:
        if record.state == "added" and not any(_is(identity, member) for member in view.members):
            machine = f" on {record.instance}" if record.instance else ""
            yield f"{identity.name} at {identity.address}{machine}"


def _warnings(members: Sequence[MemberReport], found: Found) -> Iterable[str]:
    used = _snapshot_used(found)
    if used is not None and used > 1 and found.snapshot_limit:
        is_what = "there is no snapshot" if found.snapshot_at is None else "the newest snapshot is too old"
        yield f"{is_what}, and one of the last {found.snapshot_limit / 3600:g} hours is wanted"
    own = _own_days(found)
    if own is not None and own < WARNING_DAYS:
        yield f"the function's certificate ends in {own:.0f} days: raise TlsGeneration"
    for one in members:
        if one.certificate_days is not None and one.certificate_days < WARNING_DAYS:
            label, days = one.member.label, f"{one.certificate_days:.0f}"
            yield f"the certificate of {label} ends in {days} days: flip its colour in Members"


def _problems(
    view: ClusterView, members: Sequence[MemberReport], ghosts: Sequence[str], strays: Sequence[str]
) -> Iterable[str]:
    if not view.has_quorum:
        yield "no quorum: nothing can be written, and no member added or removed"
    for alarm in view.alarms:
        yield f"alarm {alarm}"
    for one in members:
        if not one.healthy:
            yield f"{one.member.label}: {one.problem}"
    for learner in view.learners:
        yield f"{learner.label} is a learner: it has no vote"
    for ghost in ghosts:
        yield f"{ghost} is in the cluster, and no stack knows it"
    for stray in strays:
        yield f"{stray} should be in the cluster, and is not"
