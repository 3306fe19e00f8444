"""What the three resources have in common: the outside, the time that is left, whose member it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from etcd_resize import planning
from etcd_resize.aws import Journal, Machines, Snapshots, Vault
from etcd_resize.errors import GaveUp, Refused, Retryable
from etcd_resize.model.cluster import ClusterView, Member, hex_id
from etcd_resize.model.identity import Credentials, Identity, User
from etcd_resize.model.machine import REVOKED_KEY
from etcd_resize.model.records import ClusterRecord, Ghost, MemberRecord
from etcd_resize.model.steps import (
    AddLearner,
    MoveLeader,
    Plan,
    Promote,
    Protect,
    Remove,
    Revoke,
    Snapshot,
    Unprotect,
)
from etcd_resize.model.urls import host_of
from etcd_resize.planning import Progress
from etcd_resize.request import MemberProperties, Request, VoterProperties
from etcd_resize.service.pursuit import Clock, Hand, Planner, Pursuit
from etcd_resize.service.trust import Trusted

if TYPE_CHECKING:  # it imports grpc, which an event that is refused at once does not need
    from etcd_resize.gateway import Gateway

GOODBYE_SECONDS = 5.0
"""How long the deletion of a whole stack waits for a cluster that does not answer."""

logger = logging.getLogger(__name__)

Answer: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Outside:
    """Everything that is not a value.

    ``connect`` takes client URLs, what is shown to those with TLS, and the user as whom to ask if there is one.
    """

    connect: Callable[[Sequence[str], Credentials | None, User | None], Gateway]
    journal: Journal
    snapshots: Snapshots
    machines: Machines
    clock: Clock
    vault: Vault


def cluster_of(gateway: Gateway, known: ClusterRecord | None, cluster: str) -> Callable[[], ClusterView]:
    """A look at the cluster; it raises Refused if that is not the one that the journal knows under the name."""

    def look() -> ClusterView:
        view = gateway.view()
        if known and known.cluster_id != view.cluster_id:
            raise Refused(
                f"the endpoints belong to the cluster {hex_id(view.cluster_id)}, but {cluster} is"
                f" {hex_id(known.cluster_id)} by the journal: give the endpoints of that one"
            )
        return view

    return look


def take_snapshot(outside: Outside, gateway: Gateway, cluster: str, source: Member, mark: str = "") -> str:
    """Copy the data of ``source`` into the bucket; where it is then.

    Its name tells the time, the revision that it has at the least, and the member. A ``mark`` before that keeps it
    from the bucket's lifecycle, whose prefix is the first digit of the time.
    """
    taken = datetime.fromtimestamp(outside.clock.time(), UTC)
    name = f"{mark}{taken:%Y%m%dT%H%M%SZ}-r{gateway.revision(source)}-{source.name}"
    where = outside.snapshots.store(cluster, name, gateway.snapshot(source))
    logger.info("snapshot from %s: %s", source.label, where)
    return where


class Event:
    """One event being handled. ``budget``: seconds it may take, the request's own timeout included."""

    def __init__(self, outside: Outside, request: Request, budget: float) -> None:
        self.outside = outside
        self.request = request
        self.journal = outside.journal
        self.clock = outside.clock
        self.started = outside.clock.time()
        self.deadline = outside.clock.monotonic() + budget
        self._recorded: dict[int, list[tuple[Identity, MemberRecord]]] = {}

    # --- the cluster ---

    @contextmanager
    def pursuing(self, cluster: str, endpoints: Sequence[str]) -> Iterator[Pursuit]:
        """A pursuit on the cluster behind ``endpoints``, which must be the one that the journal knows."""
        trusted, properties = self.trusted(cluster), self.request.properties
        gateway = self.outside.connect(
            endpoints, trusted.credentials() if trusted else None, properties.user if properties else None
        )
        look = cluster_of(gateway, self.journal.cluster(cluster), cluster)
        try:
            yield Pursuit(look, self._hands(gateway, cluster), self.clock, self.deadline)
        finally:
            gateway.close()

    def trusted(self, cluster: str) -> Trusted | None:
        """The certificates of the cluster; None without TLS."""
        trust = self.request.properties.trust if self.request.properties else None
        return Trusted(self.outside.vault, self.clock, cluster, trust) if trust else None

    def _hands(self, gateway: Gateway, cluster: str) -> Mapping[type, Hand]:
        def add(step: AddLearner) -> None:
            gateway.add_learner(step.identity.peer_url)

        def promote(step: Promote) -> None:
            gateway.promote(step.member)

        def remove(step: Remove) -> None:
            gateway.remove(step.member)

        def move(step: MoveLeader) -> None:
            gateway.move_leader(step.leader, step.target)

        def snapshot(step: Snapshot) -> None:
            take_snapshot(self.outside, gateway, cluster, step.source, "last-" if step.last else "")

        def protect(step: Protect) -> None:
            self.outside.machines.protect(step.instance)

        def unprotect(step: Unprotect) -> None:
            self.outside.machines.unprotect(step.instance)

        def revoke(step: Revoke) -> None:
            if trusted := self.trusted(cluster):
                gateway.publish(REVOKED_KEY, trusted.revoke(dict(step.serials)))

        return {
            AddLearner: add,
            Promote: promote,
            Remove: remove,
            MoveLeader: move,
            Snapshot: snapshot,
            Protect: protect,
            Unprotect: unprotect,
            Revoke: revoke,
        }

    def accepted_endpoints(self, cluster: str) -> tuple[str, ...]:
        """Client URLs of the members that the guard accepted last, after it and before it in the chain.

        Who is replaced, or leaves because it was, may be the only one that its own properties name.
        """
        known = self.journal.cluster(cluster)
        return known.endpoints if known else ()

    # --- whose member it is ---

    def record(self, state: str, member_id: int = 0, answer: Mapping[str, str] | None = None) -> MemberRecord:
        """A record in this event's name."""
        return MemberRecord(
            state=state,
            stack_id=self.request.stack_id,
            request_id=self.request.request_id,
            at=self.clock.time(),
            member_id=member_id,
            answer=tuple((answer or {}).items()),
        )

    def claim(self, described: Identity) -> tuple[Identity, MemberRecord | None]:
        """The member that a Delete is about, and its record if this stack has put it into the cluster.

        The physical ID says who it is. One that is not ours was made up for a Create that never answered:
        then the properties say it. Without a record of this stack nothing may be removed.
        """
        identity = self.request.previous_identity or described
        record = self.journal.member(identity)
        if identity != described or record is None or record.stack_id != self.request.stack_id:
            logger.info("nothing to delete: %s was not put there by this stack", identity)
            return identity, None
        return identity, record

    def is_rollback_to(self, wanted: Identity) -> bool:
        """Whether an Update goes back to a member that was about to be replaced: a rollback, to which nobody objects.

        CloudFormation names either the old member, whose properties come back, or the new one.
        """
        previous, old = self.request.previous_identity, self.request.old
        if previous == wanted:
            return isinstance(old, MemberProperties | VoterProperties) and old.identity != wanted
        record = self.journal.member(wanted)
        return bool(
            previous
            and record
            and record.stack_id == self.request.stack_id
            and record.successor == str(previous)
        )

    def ghosts(
        self, cluster: str, members: Iterable[Member], outlived: Callable[[str, Member], bool]
    ) -> Iterator[Ghost]:
        """Those of ``members`` that the journal ascribes to a stack of which ``outlived`` says that it is no more."""
        for member in members:
            for identity, record in self._recorded_at(cluster, member):
                if record.member_id in {0, member.id} and outlived(record.stack_id, member):
                    yield Ghost(identity, member.id, record.instance)

    def _recorded_at(self, cluster: str, member: Member) -> list[tuple[Identity, MemberRecord]]:
        """What the journal says of the member's address; asked once an event, not at every look."""
        if member.id not in self._recorded:
            hosts = [host_of(url) for url in member.peer_urls]
            self._recorded[member.id] = [
                found
                for host in hosts
                for found in self.journal.recorded(cluster, host)
                if found[1].state != "left"
            ]
        return self._recorded[member.id]

    def bury(self, ghosts: Iterable[Ghost]) -> None:
        """Write down that they are out; what cannot be done here, terminating their machines, is said."""
        for ghost in ghosts:
            logger.warning("a ghost was taken out: %s", ghost)
            if record := self.journal.member(ghost.identity):
                self.write_off(ghost.identity, record)

    def write_off(self, identity: Identity, record: MemberRecord) -> None:
        """Write down that the member is out."""
        self.journal.record_member(identity, replace(record, state="left", at=self.clock.time()))

    def doomed(self, cluster: str, *, bootstrapped: bool) -> bool:
        """Whether the whole cluster goes: its stack is being deleted, or was never created to its end."""
        known = self.journal.cluster(cluster) if bootstrapped else None
        return known is not None and (known.deleting or not known.established)

    def leave(
        self,
        cluster: str,
        endpoints: Sequence[str],
        plan: Planner,
        otherwise: Callable[[Progress], Plan] | None,
    ) -> None:
        """Pursue a leave. ``otherwise``: what to do of a doomed cluster that does not answer any more."""
        if otherwise:
            self.deadline = min(self.deadline, self.clock.monotonic() + GOODBYE_SECONDS)
        with self.pursuing(cluster, endpoints) as pursuit:
            try:
                view = pursuit.run(plan)
                if otherwise is None and self.trusted(cluster):
                    self._revoke(pursuit, view, cluster)
            except GaveUp as reason:
                if otherwise is None:
                    raise
                logger.warning("the cluster goes with its stack: %s", reason)
                pursuit.carry_out(otherwise(pursuit.progress))

    def _revoke(self, pursuit: Pursuit, view: ClusterView, cluster: str) -> None:
        """Nobody who has left gets in any more. What fails here is made up for when the next one leaves."""
        try:
            pursuit.carry_out(planning.plan_revocation(view, self.journal.recorded(cluster)))
        except (Refused, Retryable) as reason:
            logger.warning("certificates of members that are out are not revoked yet: %s", reason)
