"""Who is let into a cluster with TLS: its authority, and the keys and certificates that it has signed.

What is kept, under ``<cluster>/pki/`` of the bucket: ``authority`` (the authority's key is nowhere else), ``function``
(what this function shows the members), ``revoked`` (serials, with their ends) and
``members/<name>@<address>/<sha256>``, which the member's machine fetches once. The user's own bundle lies apart, under
``<cluster>/client/``. docs/security.md says who can read what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etcd_resize.aws import Vault
from etcd_resize.errors import InvalidRequest, Refused
from etcd_resize.model.identity import Credentials, Identity
from etcd_resize.model.machine import AUTHORITY_FILE, BUNDLE_FILES, Bundle
from etcd_resize.request import Trust
from etcd_resize.service.pursuit import Clock

if TYPE_CHECKING:
    from etcd_resize import pki

AUTHORITY, FUNCTION, REVOKED, CLIENT = "pki/authority", "pki/function", "pki/revoked", "client"
CLIENT_FILES = (AUTHORITY_FILE, "client.pem", "client-key.pem")


class Trusted:
    """The certificates of one cluster, as one event needs them. ``trust`` says whose authority signs."""

    def __init__(self, vault: Vault, clock: Clock, cluster: str, trust: Trust) -> None:
        self._vault = vault
        self._clock = clock
        self._cluster = cluster
        self._trust = trust

    def establish(self) -> None:
        """Make the authority of a cluster that is to be bootstrapped, unless it is there. Two may do this at once."""
        if self._trust.adopted or self._vault.read(self._cluster, AUTHORITY) is not None:
            return
        pki = _pki()
        authority = pki.new_authority(self._cluster, self._clock.time())
        made = {"certificate": authority.certificate, "key": authority.key}
        self._vault.write(self._cluster, AUTHORITY, _json(made), only_new=True)

    def credentials(self) -> Credentials:
        """What this function shows the members. Raises Refused if there is no authority.

        For another generation it is signed anew, and the user's bundle with it.
        """
        stored = self._vault.read(self._cluster, FUNCTION)
        known: dict[str, Any] = json.loads(stored) if stored else {}
        wanted = {"generation": self._trust.generation, "adopted": self._trust.adopted}
        if {name: known.get(name) for name in wanted} != wanted:
            known = {**self._sign(), **wanted}
            self._vault.write(self._cluster, FUNCTION, _json(known))
        return Credentials(known["authority"], known["certificate"], known["key"])

    def bundle(self, identity: Identity) -> tuple[Bundle, pki.Signed]:
        """A new key and certificate for a member, where its machine can fetch them."""
        pki, authority = _pki(), self._authority()
        signed = pki.for_member(authority, identity, self._clock.time())
        revoked = pki.revocation(authority, self._revoked(), self._clock.time())
        texts = (authority.certificate, signed.certificate, signed.key, revoked)
        document = _json(dict(zip(BUNDLE_FILES, texts, strict=True)))
        digest = hashlib.sha256(document).hexdigest()
        name = f"pki/members/{identity.name}@{identity.address}/{digest}"
        self._vault.write(self._cluster, name, document)
        return Bundle(self._vault.lend(self._cluster, name), digest), signed

    def revoke(self, serials: Mapping[str, float]) -> str:
        """The list of all that is revoked, these certificates too; PEM. Those that are over by themselves fall out.

        ``serials``: in hexadecimal, with their ends in seconds since the epoch.
        """
        now = self._clock.time()
        revoked = {serial: end for serial, end in {**self._revoked(), **serials}.items() if end > now}
        self._vault.write(self._cluster, REVOKED, _json(revoked))
        text: str = _pki().revocation(self._authority(), revoked, now)
        return text

    def peers(self) -> str:
        """The one common name that the members demand of each other; empty among members that others have signed."""
        return "" if self._trust.adopted else _pki().peers_of(self._cluster)

    def _revoked(self) -> dict[str, float]:
        stored = self._vault.read(self._cluster, REVOKED)
        return json.loads(stored) if stored else {}

    def _authority(self) -> pki.Authority:
        where = self._trust.adopted or f"{self._cluster}/{AUTHORITY}"
        adopted = self._vault.adopted(self._trust.adopted) if self._trust.adopted else None
        stored = adopted or self._vault.read(self._cluster, AUTHORITY)
        if stored is None:
            raise Refused(
                f"there is no authority at {where}: put that of the cluster into a bucket and name it in"
                " ExistingTlsBucketKey, or set Tls=off for a cluster without TLS"
            )
        try:
            texts = json.loads(stored)
        except ValueError:
            texts = None
        told = texts if isinstance(texts, Mapping) else {}
        try:
            authority: pki.Authority = _pki().adopt(
                told.get("certificate"), told.get("key"), self._clock.time()
            )
        except InvalidRequest as problem:
            raise Refused(f"the authority at {where} cannot be used: {problem}") from problem
        return authority

    def _sign(self) -> dict[str, str]:
        pki, authority, now = _pki(), self._authority(), self._clock.time()
        client = pki.for_client(authority, pki.CLIENT, now)
        texts = (authority.certificate, client.certificate, client.key)
        for name, text in zip(CLIENT_FILES, texts, strict=True):
            self._vault.write(self._cluster, f"{CLIENT}/{name}", text.encode())
        function = pki.for_client(authority, pki.FUNCTION, now)
        return {
            "authority": authority.certificate,
            "certificate": function.certificate,
            "key": function.key,
            "expires": str(function.expires),
        }


def kept_credentials(vault: Vault, cluster: str) -> tuple[Credentials | None, float]:
    """What the function shows the members, as it was kept last, and its end in seconds since the epoch.

    Nothing is signed, so that it can be read by who may not read the authority. None, and 0, without TLS.
    """
    stored = vault.read(cluster, FUNCTION)
    if stored is None:
        return None, 0.0
    known: dict[str, Any] = json.loads(stored)
    shown = Credentials(known["authority"], known["certificate"], known["key"])
    return shown, float(known.get("expires", 0))


def _json(texts: Mapping[str, object]) -> bytes:
    return json.dumps(texts, indent=1, sort_keys=True).encode()


def _pki() -> Any:
    """Loaded when something is to be signed: it takes longer than all the rest of an event that signs nothing."""
    from etcd_resize import pki as loaded  # noqa: PLC0415

    return loaded
