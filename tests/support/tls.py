"""Certificates for tests: an authority, members' bundles as files, and real etcd that runs with them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from etcd_resize import pki
from etcd_resize.model.identity import Credentials, Identity
from etcd_resize.model.machine import BUNDLE_FILES, BUNDLE_FOLDER, Bundle, MemberSpec
from tests.support.etcd import Etcd

LONG_AGO = time.time() - (pki.CERTIFICATE_DAYS + 1) * 86400
"""What was signed then is over by now."""


class Issuer:
    """An authority at work. ``folder``: where the members' files go."""

    def __init__(self, cluster: str, folder: Path, *, since: float | None = None) -> None:
        self.cluster, self.folder = cluster, folder
        self.peers = pki.peers_of(cluster)
        """The common name that members demand of each other; empty: any."""
        self.authority = pki.new_authority(cluster, since or time.time())
        self.members: dict[str, pki.Signed] = {}

    def client(self, name: str = pki.FUNCTION, *, at: float | None = None) -> Credentials:
        """What a client shows."""
        signed = pki.for_client(self.authority, name, at or time.time())
        return Credentials(self.authority.certificate, signed.certificate, signed.key)

    def shown_by(self, name: str) -> Credentials:
        """A member's own certificate, in other hands."""
        signed = self.members[name]
        return Credentials(self.authority.certificate, signed.certificate, signed.key)

    def revoke(self, *names: str) -> str:
        """The list on which those members are."""
        serials = [self.members[name].serial for name in names]
        return pki.revocation(self.authority, serials, time.time())

    def files(self, identity: Identity) -> Path:
        """A member's bundle, as its machine has it."""
        signed = self.members[identity.name] = pki.for_member(self.authority, identity, time.time())
        folder = self.folder / identity.name
        folder.mkdir(parents=True)
        texts = (self.authority.certificate, signed.certificate, signed.key, self.revoke())
        for file, text in zip(BUNDLE_FILES, texts, strict=True):
            (folder / file).write_text(text, encoding="utf-8")
        return folder

    def environment(
        self, identity: Identity, initial: Mapping[str, str], state: str = "new"
    ) -> dict[str, str]:
        """The variables of a member with TLS, with the paths of its files."""
        spec = MemberSpec(
            identity,
            tuple(initial.items()),
            state,
            "tls",
            bundle=Bundle("https://bucket/bundle", "0" * 64),
            peers=self.peers,
        )
        folder = str(self.files(identity))
        return {name: value.replace(BUNDLE_FOLDER, folder) for name, value in spec.environment().items()}

    def cluster_of(self, binary: Path, addresses: Mapping[str, str]) -> list[Etcd]:
        """Real etcd processes, one a name and address, bootstrapped together."""
        members = [Identity(self.cluster, name, address, tls=True) for name, address in addresses.items()]
        initial = {member.name: member.peer_url for member in members}
        return [Etcd(binary, self.folder, self.environment(member, initial)) for member in members]
