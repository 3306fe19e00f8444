"""What a report is made of, gathered: the journal, each member by its own endpoint, a read and a write through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from etcd_resize.aws import Journal, Snapshots, Vault
from etcd_resize.errors import EtcdResizeError, Refused, Retryable
from etcd_resize.gateway import Gateway
from etcd_resize.health.report import Found, Report, judge
from etcd_resize.model.cluster import ClusterView, Member, hex_id
from etcd_resize.model.identity import Credentials
from etcd_resize.model.machine import UNTUNED
from etcd_resize.model.records import ClusterRecord
from etcd_resize.service.pursuit import Clock
from etcd_resize.service.trust import kept_credentials

WRITTEN_KEY = "/etcd-resize/health"
"""The one key that is written, over and over: the time of the last report. Compaction takes its past."""
DEFAULT_QUOTA = int(UNTUNED["QuotaBackendBytes"])
"""Bytes that etcd takes where nobody has set a quota (https://etcd.io/docs/v3.5/dev-guide/limit/)."""


@dataclass(frozen=True)
class Sources:
    """Where it is gathered from. ``connect`` takes client URLs, and what is shown to those with TLS."""

    connect: Callable[[Sequence[str], Credentials | None], Gateway]
    journal: Journal
    snapshots: Snapshots
    vault: Vault
    clock: Clock


def examine(
    sources: Sources,
    cluster: str,
    size: int,
    quota: int = DEFAULT_QUOTA,
    snapshot_limit: float | None = None,
) -> Report:
    """The report of the cluster, of which the stack wants ``size`` members.

    ``quota``: bytes that a member's database may have if the journal does not say with which its machine was made.
    ``snapshot_limit``: seconds that the newest snapshot may be old, None for any.

    Raises Refused when the bucket cannot be read. A cluster that does not answer is a report.
    """
    known = sources.journal.cluster(cluster)
    recorded = sources.journal.recorded(cluster)
    credentials, shown_until = kept_credentials(sources.vault, cluster)
    accepted = known.endpoints if known else ()
    ours = [
        replace(identity, tls=credentials is not None).client_url
        for identity, record in recorded
        if record.state != "left"
    ]
    found = Found(
        cluster,
        size,
        sources.clock.time(),
        quota,
        accepted=accepted,
        recorded=recorded,
        snapshot_at=sources.snapshots.newest(cluster),
        snapshot_limit=snapshot_limit,
        shown_until=shown_until,
    )
    endpoints = tuple(dict.fromkeys((*accepted, *ours)))
    if not endpoints:
        return judge(replace(found, problem=f"the journal knows no member of {cluster}"))
    with closing(sources.connect(endpoints, credentials)) as gateway:
        return judge(_seen(gateway, found, known))


def _seen(gateway: Gateway, found: Found, known: ClusterRecord | None) -> Found:
    """``found`` with what the members say, or with why they say nothing that counts."""
    try:
        view = gateway.view()
    except EtcdResizeError as problem:
        return replace(found, problem=str(problem))
    if known and known.cluster_id != view.cluster_id:
        ours, theirs = hex_id(known.cluster_id), hex_id(view.cluster_id)
        told = f"the cluster {theirs} answers, but {found.cluster} is {ours} by the journal"
        return replace(found, problem=told)
    writes, unwritten = _written(gateway, view, f"{found.now:.0f}")
    return replace(found, view=view, writes=writes, unwritten=unwritten)


def _written(gateway: Gateway, view: ClusterView, value: str) -> tuple[dict[int, float], dict[int, str]]:
    """How long a write through each voter that serves took, and why one was not answered."""
    writes: dict[int, float] = {}
    unwritten: dict[int, str] = {}
    for member in _asked(view):
        try:
            writes[member.id] = gateway.write(member, WRITTEN_KEY, value)
        except Retryable as problem:
            unwritten[member.id] = str(problem)
        except Refused:
            continue  # no space, of which etcd's alarm tells, or no right to the key: nothing is wrong with the member
    return writes, unwritten


def _asked(view: ClusterView) -> list[Member]:
    return [member for member in view.voters if member.health.serving and member.client_urls]
