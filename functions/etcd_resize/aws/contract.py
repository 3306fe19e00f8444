"""What the service asks of AWS, whoever answers: S3 and EC2, or in unit tests a fake."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import Restoration
from etcd_resize.model.records import ClusterRecord, MemberRecord


class Journal(Protocol):
    """What is remembered between events. Raises Refused when the bucket cannot be used."""

    def member(self, identity: Identity) -> MemberRecord | None:
        """What was recorded of the member, or None."""

    def recorded(self, cluster: str, address: str = "") -> list[tuple[Identity, MemberRecord]]:
        """What was recorded of the cluster's members; of those at an address, under whatever name, if one is given."""

    def record_member(self, identity: Identity, record: MemberRecord) -> None:
        """Replace the member's record."""

    def replace_member(self, identity: Identity, record: MemberRecord) -> bool:
        """Replace the record that was read last; False, and nothing is written, if another has come meanwhile."""

    def cluster(self, name: str) -> ClusterRecord | None:
        """What was recorded of the cluster, or None."""

    def record_cluster(self, name: str, record: ClusterRecord) -> None:
        """Replace the cluster's record."""


class Snapshots(Protocol):
    """Where snapshots go, and UserData too large for an answer. Raises Refused when they cannot be kept there."""

    def store(self, cluster: str, name: str, chunks: Iterable[bytes]) -> str:
        """Keep the bytes of ``chunks``, streamed; returns where they are. Nothing is kept if ``chunks`` raises."""

    def newest(self, cluster: str) -> float | None:
        """When the cluster's newest snapshot was stored, in seconds since the epoch; None if there is none."""

    def keep(self, identity: Identity, document: bytes) -> str:
        """Keep the member's UserData; returns a URL from which whoever has it gets it, for URL_SECONDS."""

    def restorable(self, uri: str) -> Restoration:
        """The snapshot at ``s3://bucket/key``, of whatever bucket, once all of it was read and found sound."""


class Vault(Protocol):
    """Where keys and certificates are kept. Raises Refused when they cannot be."""

    def read(self, cluster: str, name: str) -> bytes | None:
        """What is kept of the cluster under that name, or None."""

    def write(self, cluster: str, name: str, document: bytes, *, only_new: bool = False) -> None:
        """Keep it, encrypted. ``only_new``: what is there already stays."""

    def lend(self, cluster: str, name: str) -> str:
        """A URL from which whoever has it gets it, for BUNDLE_URL_SECONDS."""

    def adopted(self, where: str) -> bytes | None:
        """What the user has put at ``<bucket>/<key>``, or None."""


class Machines(Protocol):
    """The one thing that is asked of EC2. Raises Refused with what to do when it cannot be had."""

    def check(self) -> None:
        """Make sure that EC2 can be asked at all."""

    def protect(self, instance: str) -> None:
        """Let EC2 refuse the machine's termination."""

    def unprotect(self, instance: str) -> None:
        """Let the machine be terminated; one that is gone already is fine."""
