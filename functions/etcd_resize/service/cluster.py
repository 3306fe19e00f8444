"""``Custom::EtcdCluster``: the guard. It sees the new size before anything is deleted.

In an update CloudFormation deletes last and does not stop at a failed Delete, so a shrink that is unsafe
must be refused here. What was accepted is journaled: a rollback to it is recognised and never refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial

from etcd_resize import answer, planning
from etcd_resize.errors import GaveUp
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import UNTUNED
from etcd_resize.model.records import Accepted, ClusterRecord, Ghost, MemberRecord
from etcd_resize.model.stacks import child_of
from etcd_resize.model.steps import Plan
from etcd_resize.model.urls import host_of, peer_url_of
from etcd_resize.planning import Progress
from etcd_resize.request import ClusterProperties
from etcd_resize.service.event import GOODBYE_SECONDS, Answer, Event

logger = logging.getLogger(__name__)


class ClusterEvent(Event):
    """One event of a ``Custom::EtcdCluster``."""

    def create(self, wanted: ClusterProperties) -> Answer:
        """The stack is complete once its cluster is healthy."""
        return self._accept(wanted, planning.plan_check)

    def update(self, wanted: ClusterProperties) -> Answer:
        """A shrink is prepared or vetoed, so is the leave of those who were replaced; a grown cluster is checked.

        A rollback is never refused.
        """
        record, old = self.journal.cluster(wanted.cluster), self.request.old
        now, before = (*(record.accepted if record else ()), None, None)[:2]
        if now and _same(now, wanted):
            self._renew(wanted)
            return {**dict(now.answer), **self._outdated(wanted)}
        if record and now and before and _same(before, wanted) and self._undoes(now, wanted):
            self.journal.record_cluster(wanted.cluster, replace(record, accepted=(before,)))
            return {**dict(before.answer), **self._outdated(wanted)}
        if not isinstance(old, ClusterProperties):
            return self._accept(wanted, planning.plan_check)
        gone = [url for url in reversed(old.endpoints) if url not in wanted.endpoints]
        only_shrinks = old.size > wanted.size and set(wanted.endpoints) <= set(old.endpoints)
        if not only_shrinks:
            # whom no child of ours stands for was dropped from ExistingEndpoints, and does not leave
            gone = [url for url in gone if self._is_ours(wanted.cluster, url)]
        if not gone:
            return self._accept(wanted, planning.plan_check)
        leaving = [peer_url_of(url) for url in gone]
        plan = partial(planning.plan_shrink, leaving=leaving, in_order=only_shrinks)
        return self._accept(wanted, plan, leaving)

    def _renew(self, wanted: ClusterProperties) -> None:
        """Another generation renews what the function and the user show, also where nobody is asked anything."""
        if trusted := self.trusted(wanted.cluster):
            trusted.credentials()

    def _outdated(self, wanted: ClusterProperties) -> Answer:
        """Which members were made with other settings than a machine would be made with now, and with which."""
        behind = []
        for url in wanted.endpoints:
            for identity, record in self.journal.recorded(wanted.cluster, host_of(url)):
                untold = UNTUNED if record.settings else {}
                known = {**untold, **dict(record.answer), **dict(record.settings)}
                differing = [name for name, value in wanted.settings if known.get(name, value) != value]
                if differing and record.state == "added":
                    behind.append(f"{identity.name} ({', '.join(differing)})")
        return {"Outdated": "; ".join(behind) or "none"}

    def _is_ours(self, cluster: str, url: str) -> bool:
        """Whether the journal ascribes the member with this client URL to a stack nested in this one."""
        recorded = self.journal.recorded(cluster, host_of(url))
        return any(child_of(self.request.stack_id, record.stack_id) for _, record in recorded)

    def delete(self, leaving: ClusterProperties) -> Answer:
        """The whole stack goes: the last snapshot, and the mark that lets the members go after it.

        A cluster that does not answer any more has no snapshot to give, and must not hold its stack. One
        that answers while the bucket does not is another matter: that fails, and the last voter stays.
        """
        record = self.journal.cluster(leaving.cluster)
        if record is None or not record.established or not leaving.bootstrapped:
            return {}
        if record.stack_id not in {"", self.request.stack_id}:
            logger.info("nothing to delete: %s is the cluster of another stack", leaving.cluster)
            return {}
        self.deadline = min(self.deadline, self.clock.monotonic() + GOODBYE_SECONDS)
        with self.pursuing(leaving.cluster, leaving.endpoints) as pursuit:
            try:
                pursuit.run(planning.plan_last_snapshot)
            except GaveUp as reason:
                logger.warning("there is no last snapshot: %s", reason)
        self.journal.record_cluster(leaving.cluster, replace(record, deleting=True))
        return {}

    def _orphans(self, wanted: ClusterProperties, view: ClusterView) -> Iterator[Ghost]:
        """Machines that EC2 still keeps for members of this stack that are out.

        The function was killed between a removal and the lifting of the protection, and CloudFormation has
        forgotten both. Without a quorum the list may be an old one, and nobody counts as out.
        """
        if not view.has_quorum:
            return
        for identity, record in self._with_machines:
            if view.at(identity.peer_url) is None and identity.address not in map(host_of, wanted.endpoints):
                yield Ghost(identity, record.member_id, record.instance)

    @cached_property
    def _with_machines(self) -> list[tuple[Identity, MemberRecord]]:
        """Those that the journal ascribes to this stack, with a machine, and does not say that they left."""
        properties = self.request.properties
        recorded = (
            self.journal.recorded(properties.cluster) if isinstance(properties, ClusterProperties) else []
        )
        return [
            (identity, record)
            for identity, record in recorded
            if record.instance and record.state != "left" and child_of(self.request.stack_id, record.stack_id)
        ]

    def _undoes(self, shrink: Accepted, wanted: ClusterProperties) -> bool:
        """Whether this is the rollback of a shrink that was accepted: none of those that were to leave has left.

        One that was dead, and was removed before its successor joined, is out whatever is rolled back.
        That all stays as it is needs nobody's consent; and the shrink, should it be tried again, is decided anew.
        """
        if shrink.size > wanted.size:
            return False
        recorded = [self.journal.recorded(wanted.cluster, host_of(url)) for url in wanted.endpoints]
        return all(
            not found or any(record.state != "left" or record.successor for _, record in found)
            for found in recorded
        )

    def _accept(
        self, wanted: ClusterProperties, plan: Callable[..., Plan], leaving: Sequence[str] = ()
    ) -> Answer:
        ghosts: dict[Identity, Ghost] = {}
        known = {*map(peer_url_of, wanted.endpoints), *leaving}

        def without_ghosts(view: ClusterView, progress: Progress) -> Plan:
            strangers = [member for member in view.members if known.isdisjoint(member.peer_urls)]
            found = self.ghosts(
                wanted.cluster, strangers, lambda stack_id, _: child_of(self.request.stack_id, stack_id)
            )
            ghosts.update({ghost.identity: ghost for ghost in (*found, *self._orphans(wanted, view))})
            return plan(view, progress, ghosts=tuple(ghosts.values()))

        # those that leave are asked too: they may be the only ones who can say that those who stay are down
        old = self.request.old
        before = old.endpoints if isinstance(old, ClusterProperties) else ()
        with self.pursuing(wanted.cluster, (*wanted.endpoints, *before)) as pursuit:
            view = pursuit.run(without_ghosts)
        self.bury(ghosts.values())
        before_it = self.journal.cluster(wanted.cluster)
        answered = {
            **_describe(view, leaving),
            "Ghosts": "; ".join(map(str, ghosts.values())),
            **self._outdated(wanted),
        }
        answer.check(self.request.physical_id, self.request.stack_id, self.request.logical_id, answered)
        accepted = ClusterRecord(
            cluster_id=view.cluster_id,
            established=True,
            accepted=(
                Accepted(wanted.size, wanted.endpoints, tuple(answered.items())),
                *(before_it.accepted[:1] if before_it else ()),
            ),
            stack_id=(before_it and before_it.stack_id) or self.request.stack_id,
        )
        self.journal.record_cluster(wanted.cluster, accepted)
        return answered


def _same(accepted: Accepted, wanted: ClusterProperties) -> bool:
    return (accepted.size, accepted.endpoints) == (wanted.size, wanted.endpoints)


def _describe(view: ClusterView, leaving: Sequence[str]) -> Answer:
    """The cluster as it will be: those at the peer URLs ``leaving`` are still in it, but not for long."""
    members = [member for member in view.members if set(leaving).isdisjoint(member.peer_urls)]
    after = replace(view, members=tuple(sorted(members, key=lambda member: member.name)))
    return {
        "Endpoints": ",".join(url for member in after.voters for url in member.client_urls),
        "Version": after.version,
        "Leader": after.leader.name if after.leader else "",
        "MemberList": answer.member_list(after),
    }
