"""Stand-ins for the outside: time, the bucket, EC2, and etcd.

``FakeCluster`` follows the rules that etcd was measured to follow; ``tests/integration/test_gateway.py`` runs
the same tests against it and the real one, so that it cannot drift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import Gateway
from etcd_resize.model.cluster import (
    ClusterView,
    Health,
    Member,
    bootstrap_cluster_id,
    bootstrap_member_id,
    quorum,
)
from etcd_resize.model.identity import Credentials, Identity, User
from etcd_resize.model.machine import Restoration
from etcd_resize.model.records import ClusterRecord, MemberRecord
from etcd_resize.model.urls import client_url, is_tls, peer_url

SERVING = Health(serving=True, reachable=True, version="3.5.16")
DOWN = Health(serving=False, problem="cannot be reached")
SETTLING_SECONDS = 5.0
"""etcd adds nobody until every voter has been connected for so long."""


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps. ``ticks`` are called at each sleep."""

    now: float = 1000.0
    ticks: list[Callable[[], None]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for tick in self.ticks:
            tick()


@dataclass
class FakeVault:
    """Keys and certificates, in memory. ``broken``: what S3 answers to everything."""

    kept: dict[str, bytes] = field(default_factory=dict)
    lent: dict[str, bytes] = field(default_factory=dict)
    signed_with: str = ""
    broken: str = ""

    def read(self, cluster: str, name: str) -> bytes | None:
        return self.adopted(f"{cluster}/{name}")

    def write(self, cluster: str, name: str, document: bytes, *, only_new: bool = False) -> None:
        self._answer()
        key = f"{cluster}/{name}"
        if not (only_new and key in self.kept):
            self.kept[key] = document

    def lend(self, cluster: str, name: str) -> str:
        self._answer()
        key = f"{cluster}/{name}"
        url = f"https://bucket/{key}?signed={self.signed_with}{len(self.lent)}"
        self.lent[url] = self.kept[key]
        return url

    def adopted(self, key: str) -> bytes | None:
        self._answer()
        return self.kept.get(key)

    def _answer(self) -> None:
        if self.broken:
            raise Refused(self.broken)


@dataclass
class FakeBucket:
    """The journal and the snapshots, in memory. ``broken``: what S3 answers to everything."""

    members: dict[str, MemberRecord] = field(default_factory=dict)
    clusters: dict[str, ClusterRecord] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    stored_at: float = 1000.0
    broken: str = ""
    read: dict[str, MemberRecord | None] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    signed_with: str = ""
    signatures: Iterator[int] = field(default_factory=count)
    vault: FakeVault = field(default_factory=FakeVault)
    archived: dict[str, str] = field(default_factory=dict)
    """The sha256 of snapshots that can be restored, by where they are."""

    def member(self, identity: Identity) -> MemberRecord | None:
        self._answer()
        self.read[str(identity)] = self.members.get(str(identity))
        return self.members.get(str(identity))

    def recorded(self, cluster: str, address: str = "") -> list[tuple[Identity, MemberRecord]]:
        self._answer()
        parsed = [(Identity.parse(key), record) for key, record in self.members.items()]
        return [
            (identity, record)
            for identity, record in parsed
            if identity and identity.cluster == cluster and address in ("", identity.address)
        ]

    def record_member(self, identity: Identity, record: MemberRecord) -> None:
        self._answer()
        self.members[str(identity)] = record

    def replace_member(self, identity: Identity, record: MemberRecord) -> bool:
        self._answer()
        if self.members.get(str(identity)) is not self.read.get(str(identity)):
            return False
        self.record_member(identity, record)
        return True

    def cluster(self, name: str) -> ClusterRecord | None:
        self._answer()
        return self.clusters.get(name)

    def record_cluster(self, name: str, record: ClusterRecord) -> None:
        self._answer()
        self.clusters[name] = record

    def store(self, cluster: str, name: str, chunks: Iterable[bytes]) -> str:
        self._answer()
        size = sum(len(chunk) for chunk in chunks)
        assert size, "an empty snapshot"
        self.snapshots.append(f"{cluster}/{name}")
        return self.snapshots[-1]

    def restorable(self, uri: str) -> Restoration:
        self._answer()
        if uri not in self.archived:
            raise Refused(f"cannot read {uri}, is it there? NoSuchKey")
        return Restoration(f"https://archive/{uri}?signed", self.archived[uri])

    def newest(self, cluster: str) -> float | None:
        self._answer()
        return self.stored_at if any(name.startswith(f"{cluster}/") for name in self.snapshots) else None

    def keep(self, identity: Identity, document: bytes) -> str:
        self._answer()
        url = f"https://bucket/{identity}?signed={self.signed_with}{next(self.signatures)}"
        self.documents[url] = document
        return url

    def _answer(self) -> None:
        if self.broken:
            raise Refused(self.broken)


@dataclass
class FakeMachines:
    """EC2's termination protection. ``broken``: what EC2 answers to everything."""

    protected: set[str] = field(default_factory=set)
    history: list[str] = field(default_factory=list)
    broken: str = ""

    def check(self) -> None:
        if self.broken:
            raise Refused(self.broken)

    def protect(self, instance: str) -> None:
        self.check()
        self.history.append(f"protect {instance}")
        self.protected.add(instance)

    def unprotect(self, instance: str) -> None:
        self.check()
        self.history.append(f"unprotect {instance}")
        self.protected.discard(instance)


@dataclass
class FakeCluster:
    """A cluster by etcd's rules. ``down``: IDs of members whose machine does not answer."""

    clock: FakeClock
    members: list[Member] = field(default_factory=list)
    leader: int = 0
    down: set[int] = field(default_factory=set)
    alarms: tuple[str, ...] = ()
    history: list[str] = field(default_factory=list)
    cluster_id: int = 0
    started_at: dict[int, float] = field(default_factory=dict)
    root: User | None = None
    """The only user, if auth is enabled."""
    shown: list[Credentials | None] = field(default_factory=list)
    published: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    @classmethod
    def bootstrapped(
        cls,
        clock: FakeClock,
        addresses: Sequence[str],
        token: str = "t",
        *,
        name: str = "m",
        tls: bool = False,
    ) -> FakeCluster:
        """A healthy cluster of voters ``m1``, ``m2`` … that have been connected for long."""
        ids = [bootstrap_member_id(peer_url(address), token) for address in addresses]
        cluster = cls(clock, leader=ids[0], cluster_id=bootstrap_cluster_id(ids[0]))
        for number, (member_id, address) in enumerate(zip(ids, addresses, strict=True), 1):
            cluster.members.append(
                Member(
                    member_id,
                    f"{name}{number}",
                    (peer_url(address, tls=tls),),
                    (client_url(address, tls=tls),),
                )
            )
            cluster.started_at[member_id] = clock.now - 60
        return cluster

    def connect(
        self, endpoints: Sequence[str], credentials: Credentials | None = None, user: User | None = None
    ) -> Gateway:
        """A gateway, as ``Outside.connect`` wants it."""
        self.shown.append(credentials)
        return FakeGateway(self, tuple(endpoints), user)

    def boot(self, address: str, name: str) -> None:
        """The machine at ``address`` starts its etcd."""
        for place, member in enumerate(self.members):
            tls = is_tls(member.peer_urls[0])
            if peer_url(address, tls=tls) in member.peer_urls:
                self.members[place] = replace(member, name=name, client_urls=(client_url(address, tls=tls),))
                self.started_at.setdefault(member.id, self.clock.now)

    def serving(self, member: Member) -> bool:
        return member.started and member.id not in self.down and (member.is_learner or self.has_quorum)

    def health(self, member: Member) -> Health:
        if self.serving(member):
            return replace(SERVING, leader=self.leader)
        return replace(DOWN, reachable=member.started and member.id not in self.down)

    @property
    def voters(self) -> list[Member]:
        return [member for member in self.members if not member.is_learner]

    @property
    def up(self) -> list[Member]:
        return [member for member in self.voters if member.started and member.id not in self.down]

    @property
    def has_quorum(self) -> bool:
        return len(self.up) >= quorum(len(self.voters))

    def elect(self) -> None:
        """A new leader if the old one is gone."""
        if self.has_quorum and self.leader not in {member.id for member in self.up}:
            self.leader = self.up[0].id


@dataclass
class FakeGateway:
    """``Gateway`` on a ``FakeCluster``."""

    cluster: FakeCluster
    endpoints: tuple[str, ...]
    user: User | None = None

    def view(self) -> ClusterView:
        cluster = self.cluster
        cluster.elect()
        reached = [
            member
            for member in cluster.members
            if member.started
            and member.id not in cluster.down
            and set(member.client_urls) & set(self.endpoints)
        ]
        if not any(not member.is_learner for member in reached):
            raise Retryable(f"no endpoint answers: {self.endpoints[0]}: cannot be reached")
        if cluster.root and cluster.has_quorum and self.user != cluster.root:
            raise Refused(
                "etcd does not take the user" if self.user else "etcd asks for a user (auth is enabled)"
            )
        members = tuple(replace(member, health=cluster.health(member)) for member in cluster.members)
        return ClusterView(cluster.cluster_id, members, cluster.has_quorum, cluster.alarms)

    def add_learner(self, peer_url: str) -> None:
        cluster = self.cluster
        settled = all(
            cluster.clock.now - cluster.started_at.get(member.id, cluster.clock.now) >= SETTLING_SECONDS
            for member in cluster.voters
        )
        if len(cluster.up) < len(cluster.voters) or not (settled or len(cluster.voters) == 1):
            raise Retryable(f"add {peer_url}: unhealthy cluster")
        if any(peer_url in member.peer_urls for member in cluster.members):
            raise Retryable(f"add {peer_url}: Peer URLs already exists")
        if any(member.is_learner for member in cluster.members):
            raise Retryable(f"add {peer_url}: too many learner members in cluster")
        member_id = bootstrap_member_id(peer_url, str(cluster.clock.now))
        cluster.members.append(Member(member_id, "", (peer_url,), is_learner=True))
        cluster.history.append(f"add {peer_url}")

    def promote(self, member: Member) -> None:
        place = self._place(member, "promote")
        found = self.cluster.members[place]
        if not found.started or found.id in self.cluster.down:
            raise Retryable("can only promote a learner member which is in sync with leader")
        if not found.is_learner:
            raise Retryable("can only promote a learner member")
        self.cluster.members[place] = replace(found, is_learner=False, health=Health(serving=False))
        self.cluster.started_at[found.id] = self.cluster.clock.now
        self.cluster.history.append(f"promote {found.name}")

    def remove(self, member: Member) -> None:
        place, cluster = self._place(member, "remove"), self.cluster
        rest = [voter for voter in cluster.up if voter.id != member.id]
        if not member.is_learner and len(rest) < quorum(len(cluster.voters) - 1):
            raise Retryable("unhealthy cluster")
        if not cluster.has_quorum:
            raise Retryable("no answer in time")
        del cluster.members[place]
        cluster.history.append(f"remove {member.name or member.peer_urls[0]}")
        cluster.elect()

    def move_leader(self, leader: Member, target: Member) -> None:
        if leader.id != self.cluster.leader:
            raise Retryable("not leader")
        self.cluster.leader = target.id
        self.cluster.history.append(f"lead {target.name}")

    def revision(self, member: Member) -> int:
        del member
        return 7

    def snapshot(self, source: Member) -> Iterator[bytes]:
        self.cluster.history.append(f"snapshot {source.name}")
        yield b"data"

    def defragment(self, member: Member) -> None:
        if not self.cluster.serving(member):
            raise Retryable(f"defragment {member.label}: cannot be reached")
        self.cluster.history.append(f"defragment {member.name}")

    def publish(self, key: str, text: str) -> None:
        if not self.cluster.has_quorum:
            raise Retryable("no answer in time")
        self.cluster.published[key] = text

    def write(self, member: Member, key: str, value: str) -> float:
        if not self.cluster.serving(member):
            raise Retryable(f"write through {member.label}: cannot be reached")
        self.cluster.written[key] = value
        return 0.002

    def close(self) -> None:
        """Nothing was opened."""

    def _place(self, member: Member, what: str) -> int:
        for place, listed in enumerate(self.cluster.members):
            if listed.id == member.id:
                return place
        raise Retryable(f"{what} {member.label}: member not found")
