"""The members, and the cluster as it was seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

UNHEALTHY_ALARMS = frozenset({"NOSPACE", "CORRUPT"})
"""Alarms under which a membership must not change (https://etcd.io/docs/v3.5/op-guide/maintenance/)."""


def hex_id(member_id: int) -> str:
    """An ID as etcdctl writes it: hexadecimal, without leading zeros."""
    return f"{member_id:x}"


def quorum(voters: int) -> int:
    """How many of ``voters`` must agree before a write, or a change of the membership, counts."""
    return voters // 2 + 1


def bootstrap_member_id(url: str, token: str) -> int:
    """The ID that etcd gives to a member that bootstraps a cluster alone.

    etcd hashes the sorted peer URLs and the cluster token; a member that joins later gets the time
    hashed in as well (``computeMemberId`` in etcd's ``server/etcdserver/api/membership/member.go``).
    """
    return int.from_bytes(hashlib.sha1(f"{url}{token}".encode(), usedforsecurity=False).digest()[:8], "big")


def bootstrap_cluster_id(member_id: int) -> int:
    """The ID of the cluster which that member bootstraps alone (``genID`` in etcd's ``membership/cluster.go``)."""
    hashed = hashlib.sha1(member_id.to_bytes(8, "big"), usedforsecurity=False).digest()
    return int.from_bytes(hashed[:8], "big")


@dataclass(frozen=True)
class Health:
    """What one member said of itself, by its own client URL.

    ``serving``: a voter answered a linearizable read, a learner answered its status. ``reachable``: it
    answered its status at least; a voter without a quorum does that much.
    ``leader``: the ID of the leader it knows, 0 for none. ``applied``: its raft index (entries), of which the last
    ``pending`` are not applied to its database yet. ``db_size`` in bytes, of which ``db_in_use`` hold data.
    ``read_seconds``: how long that linearizable read took; 0 if there was none.
    """

    serving: bool
    reachable: bool = False
    leader: int = 0
    version: str = ""
    applied: int = 0
    term: int = 0
    db_size: int = 0
    problem: str = ""
    pending: int = 0
    db_in_use: int = 0
    read_seconds: float = 0.0


@dataclass(frozen=True)
class Member:
    """One member as the cluster lists it. An unstarted one has neither a name nor client URLs."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False
    health: Health = Health(serving=False)

    @property
    def started(self) -> bool:
        """Whether it has ever told the cluster its name."""
        return bool(self.name)

    @property
    def label(self) -> str:
        """How a sentence calls it: by name, or by peer URL while it has none."""
        return f"{self.name or self.peer_urls[0]} ({hex_id(self.id)})"


@dataclass(frozen=True)
class ClusterView:
    """The cluster at one moment. ``alarms`` are texts like ``NOSPACE on etcd-2``.

    ``has_quorum``: some voter answered a linearizable read just now.
    """

    cluster_id: int
    members: tuple[Member, ...]
    has_quorum: bool
    alarms: tuple[str, ...] = ()

    @property
    def voters(self) -> tuple[Member, ...]:
        """The members that vote, in the order of the list."""
        return tuple(member for member in self.members if not member.is_learner)

    @property
    def learners(self) -> tuple[Member, ...]:
        """The members that only follow."""
        return tuple(member for member in self.members if member.is_learner)

    @property
    def leader(self) -> Member | None:
        """The voter that most of those who answered call their leader."""
        said = [member.health.leader for member in self.voters if member.health.serving]
        known = [member for member in self.voters if member.id in said]
        return max(known, key=lambda member: said.count(member.id), default=None)

    @property
    def version(self) -> str:
        """The lowest etcd version among those who answered: what the cluster as a whole can do."""
        versions = [member.health.version for member in self.members if member.health.version]
        return min(versions, key=_version_key, default="")

    def at(self, url: str) -> Member | None:
        """The member that is registered under the peer URL ``url``, whichever its scheme."""
        place = urlsplit(url).netloc
        return next(
            (
                member
                for member in self.members
                if any(urlsplit(registered).netloc == place for registered in member.peer_urls)
            ),
            None,
        )

    def named(self, name: str) -> Member | None:
        """The member called ``name``."""
        return next((member for member in self.members if member.name == name), None)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())
