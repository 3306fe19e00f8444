"""What is remembered between two events."""

from __future__ import annotations

from dataclasses import dataclass

from etcd_resize.model.cluster import hex_id
from etcd_resize.model.identity import Identity


@dataclass(frozen=True)
class MemberRecord:
    """What the journal says of one member.

    ``state``: ``intended`` (written before the learner is added), ``added`` (the answer is complete),
    ``left`` (removed, or never there when its Delete came). ``stack_id`` is the only stack whose
    Delete may remove it. ``at`` is in seconds since the epoch. ``answer`` is what Create answered.
    ``instance`` is the machine that was protected for it. ``serial`` is that of its certificate, in hexadecimal, and
    ``expires`` its end in seconds since the epoch; with TLS only. ``successor`` is the physical ID of the member that
    is to replace it, as long as the replacement can still be rolled back: its Delete ends that. ``settings`` are those
    that its machine was made with, in the form of ``MemberProperties.settings``.
    """

    state: str
    stack_id: str
    request_id: str
    at: float
    member_id: int = 0
    answer: tuple[tuple[str, str], ...] = ()
    instance: str = ""
    serial: str = ""
    expires: float = 0.0
    successor: str = ""
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Ghost:
    """A member of ours that no stack knows any more: CloudFormation has forgotten a Delete that failed.

    ``instance`` is its machine, which was kept while it voted; empty if it was never protected.
    """

    identity: Identity
    member_id: int
    instance: str = ""

    def __str__(self) -> str:
        machine = f", whose machine {self.instance} may be terminated" if self.instance else ""
        return f"{self.identity.name} ({hex_id(self.member_id)}) at {self.identity.address}{machine}"


@dataclass(frozen=True)
class Accepted:
    """A size that the guard accepted: its members' client URLs, and what was answered."""

    size: int
    endpoints: tuple[str, ...]
    answer: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ClusterRecord:
    """What the journal says of the cluster as a whole.

    ``established``: the stack's creation once reached ``Custom::EtcdCluster``, so there is data to lose.
    ``deleting``: the stack is being deleted and the last snapshot is taken: members need not wait.
    ``accepted``: the last resize that was accepted, and the one before it, to which a rollback goes back.
    ``stack_id`` is the stack whose cluster it is, and the only one that may set the mark.
    """

    cluster_id: int
    established: bool = False
    deleting: bool = False
    accepted: tuple[Accepted, ...] = ()
    stack_id: str = ""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Client URLs of the members that were accepted last; none before the first time."""
        return self.accepted[0].endpoints if self.accepted else ()
