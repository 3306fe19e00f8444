"""What the service asks of a cluster, whoever answers: etcd, or in unit tests a fake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from etcd_resize.model.cluster import ClusterView, Member


class Gateway(Protocol):
    """What the service asks of a cluster. Every method raises Refused or Retryable, nothing else."""

    def view(self) -> ClusterView:
        """The cluster now; Retryable if no endpoint answers, Refused if they belong to different ones."""

    def add_learner(self, peer_url: str) -> None:
        """Register a learner under ``peer_url``."""

    def promote(self, member: Member) -> None:
        """Make a learner a voter; Retryable until it is in sync with the leader."""

    def remove(self, member: Member) -> None:
        """Take a member out of the cluster."""

    def move_leader(self, leader: Member, target: Member) -> None:
        """Hand the leadership from ``leader`` to ``target``."""

    def revision(self, member: Member) -> int:
        """The revision of the keys that ``member`` has reached; a snapshot taken of it now has it, or a later one."""

    def snapshot(self, source: Member) -> Iterator[bytes]:
        """The database of ``source`` in chunks, as etcdctl would save it: its sha256 is behind it, and verified."""

    def defragment(self, member: Member) -> None:
        """Let ``member`` copy its database without the holes. It does not serve until that is done."""

    def publish(self, key: str, text: str) -> None:
        """Put ``text`` under ``key``, for the machines to read."""

    def write(self, member: Member, key: str, value: str) -> float:
        """Put one key through ``member``, a voter; the seconds until a quorum had it."""

    def close(self) -> None:
        """Let go of all connections."""
