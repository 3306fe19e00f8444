"""The steps of a plan, in a form that can be printed, compared and logged; ``service`` alone carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import Identity


@dataclass(frozen=True)
class Wait:
    """Not now: look again. After ``patience`` seconds of waiting for the same ``cause``, refuse."""

    cause: str
    reason: str
    patience: float = float("inf")

    def __str__(self) -> str:
        return f"wait: {self.reason}"


@dataclass(frozen=True)
class Refuse:
    """Not at all, with the sentence for the stack's events."""

    reason: str

    def __str__(self) -> str:
        return f"refuse: {self.reason}"


@dataclass(frozen=True)
class AddLearner:
    """Register the peer URL as a learner: it costs no quorum, whatever its machine does."""

    identity: Identity

    def __str__(self) -> str:
        return f"add {self.identity.peer_url} as a learner"


@dataclass(frozen=True)
class Promote:
    """Make the learner a voter; etcd refuses until it is in sync with the leader."""

    member: Member

    def __str__(self) -> str:
        return f"promote {self.member.label}"


@dataclass(frozen=True)
class Snapshot:
    """Copy the data of ``source``, a healthy voter, into the bucket. ``last``: before its whole stack goes."""

    source: Member
    last: bool = False

    def __str__(self) -> str:
        return f"snapshot from {self.source.label}"


@dataclass(frozen=True)
class Defragment:
    """Let the member give its file system back what its database does not use. It does not serve meanwhile."""

    member: Member

    def __str__(self) -> str:
        return f"defragment {self.member.label}"


@dataclass(frozen=True)
class MoveLeader:
    """Let ``target`` lead, so that the removal of the leader costs no election."""

    leader: Member
    target: Member

    def __str__(self) -> str:
        return f"move the leadership from {self.leader.label} to {self.target.label}"


@dataclass(frozen=True)
class Remove:
    """Take the member out of the cluster. Its etcd then exits by itself."""

    member: Member

    def __str__(self) -> str:
        return f"remove {self.member.label}"


@dataclass(frozen=True)
class Hold:
    """Watch the member stay healthy, for the stabilization time of the request."""

    member: Member

    def __str__(self) -> str:
        return f"hold until {self.member.label} has been healthy for the stabilization time"


@dataclass(frozen=True)
class Protect:
    """Ask EC2 to refuse the machine's termination while its member votes."""

    instance: str

    def __str__(self) -> str:
        return f"protect the machine {self.instance}"


@dataclass(frozen=True)
class Unprotect:
    """Let CloudFormation terminate the machine: its member has left."""

    instance: str

    def __str__(self) -> str:
        return f"lift the protection of the machine {self.instance}"


@dataclass(frozen=True)
class Revoke:
    """Let no member take certificates any more: their serial numbers in hexadecimal, each with its end in seconds."""

    serials: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"revoke the certificates {', '.join(serial for serial, _ in self.serials)}"


Step: TypeAlias = (
    Wait
    | Refuse
    | AddLearner
    | Promote
    | Snapshot
    | Defragment
    | MoveLeader
    | Remove
    | Hold
    | Protect
    | Unprotect
    | Revoke
)


@dataclass(frozen=True)
class Plan:
    """What is left to do, in order. Empty: the goal is reached.

    Only the first step is ever carried out: the cluster is looked at again, and planned again, after it.
    """

    goal: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return f"{self.goal}: " + ("; ".join(str(step) for step in self.steps) or "done")
