"""What an event becomes: frozen values, one for each resource's properties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from etcd_resize.model.identity import Identity, User
from etcd_resize.model.machine import Release


@dataclass(frozen=True)
class Trust:
    """With TLS, whose authority signs, and the how manieth set of certificates it is.

    ``adopted``: where the authority of a cluster lies that was there before, ``<bucket>/<key>``; empty for our own.
    """

    generation: int
    adopted: str


@dataclass(frozen=True)
class MemberProperties:
    """``Custom::EtcdMember``: who joins, through whom, and what its machine is frozen to.

    ``endpoints``: client URLs of the members before it; empty means that it bootstraps the cluster.
    ``bootstrapped``: whether the cluster belongs to this stack. ``timeout`` in seconds.
    ``base``: the user's own UserData, unpacked; empty if there is none. ``release`` and ``image``: where etcd
    comes from, if not from the distribution. ``tuning``: ``ETCD_*`` variables of the stack's own parameters.
    ``restore_from``: the snapshot that a bootstrap starts from, ``s3://bucket/key``; empty for no data.
    ``machine``: attributes that the answer repeats word for word for the life of the member.
    ``settings``: all that a machine is made with and keeps, in short, by property.
    ``trust``: None without TLS. ``user``: as whom the function asks etcd; None where etcd asks for nobody.
    """

    identity: Identity
    trust: Trust | None
    endpoints: tuple[str, ...]
    bootstrapped: bool
    dialect: str
    base: bytes
    release: Release | None
    image: str
    tuning: tuple[tuple[str, str], ...]
    protect: bool
    timeout: int
    machine: tuple[tuple[str, str], ...]
    restore_from: str
    settings: tuple[tuple[str, str], ...]
    user: User | None = None


@dataclass(frozen=True)
class VoterProperties:
    """``Custom::EtcdVoter``: the member to promote, its machine, and how long to watch it (seconds)."""

    identity: Identity
    trust: Trust | None
    endpoints: tuple[str, ...]
    bootstrapped: bool
    member_id: int
    instance: str
    protect: bool
    stabilization: int
    timeout: int
    user: User | None = None


@dataclass(frozen=True)
class ClusterProperties:
    """``Custom::EtcdCluster``: the size asked for, and the client URLs of those who are to stay.

    ``settings``: with what a machine would be made now.
    """

    cluster: str
    trust: Trust | None
    size: int
    endpoints: tuple[str, ...]
    bootstrapped: bool
    timeout: int
    settings: tuple[tuple[str, str], ...]
    user: User | None = None


Properties: TypeAlias = MemberProperties | VoterProperties | ClusterProperties


@dataclass(frozen=True)
class Request:
    """One event. ``old`` are the properties before an Update, None if they cannot be read.

    ``properties`` is None only for a Delete whose properties are wrong: what they describe was refused
    when it was to be created, so nothing of it exists.
    """

    action: str
    resource: str
    stack_id: str
    request_id: str
    logical_id: str
    previous_physical_id: str
    properties: Properties | None
    old: Properties | None = None

    @property
    def physical_id(self) -> str:
        """The ID for the answer: derived from the properties, so that it is known before any change.

        A Delete keeps the ID it came with; CloudFormation ignores any other.
        """
        if self.properties is None or self.action == "Delete":
            return self.previous_physical_id
        if isinstance(self.properties, ClusterProperties):
            return f"{self.properties.cluster}/cluster"
        return str(self.properties.identity)

    @property
    def secret(self) -> bool:
        """Whether the answer carries what opens a door: the URL of a member's key."""
        return isinstance(self.properties, MemberProperties) and self.properties.trust is not None

    @property
    def previous_identity(self) -> Identity | None:
        """The member that this resource stood for until now."""
        before = self.old or self.properties
        return Identity.parse(self.previous_physical_id, tls=bool(before and before.trust))
