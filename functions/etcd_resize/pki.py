"""Keys and certificates: an authority for each cluster, and what it signs. No I/O.

The only module that imports ``cryptography``, and only ``service.trust`` imports this one, when something is to be
signed: an event that signs nothing does not load it. Everything is a text in PEM. Keys are of the curve P-256, which
etcd, Go and gRPC all take (https://etcd.io/docs/v3.5/op-guide/security/).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes,
        PublicKeyTypes,
    )

AUTHORITY_DAYS = 7305
"""Twenty years: it cannot be renewed without a new certificate for everybody."""
CERTIFICATE_DAYS = 1096
"""Three years, or as long as the authority if that is shorter. The health report warns before the end."""
BACKDATED = timedelta(hours=2)
"""A machine's clock may be behind at its first boot, before it has asked for the time."""
FUNCTION = "etcd-resize"
"""The common name of the function; with etcd's auth enabled it is also the user of that name."""
CLIENT = "client"
"""The common name of the user's own client bundle."""


@dataclass(frozen=True)
class Signed:
    """A key and its certificate. ``serial`` in hexadecimal, ``expires`` in seconds since the epoch."""

    certificate: str
    key: str = field(repr=False)
    serial: str
    expires: float


@dataclass(frozen=True)
class Authority:
    """A cluster's authority: its certificate, and the key that nobody but the function has."""

    certificate: str
    key: str = field(repr=False)


def new_authority(cluster: str, now: float) -> Authority:
    """A new authority for ``cluster``. ``now`` in seconds since the epoch."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} authority")])
    begin = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(begin + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_certificate_text(certificate), _key_text(key))


def adopt(certificate: object, key: object, now: float) -> Authority:
    """An authority that was there before. Raises InvalidRequest, with the reason, if nothing can be signed with it."""
    if not isinstance(certificate, str) or not isinstance(key, str):
        raise InvalidRequest("it is no JSON with the texts certificate and key")
    try:
        read = x509.load_pem_x509_certificate(certificate.encode())
        private = serialization.load_pem_private_key(key.encode(), password=None)
        constraints = read.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound as problem:
        raise InvalidRequest("its certificate is none of an authority") from problem
    except (ValueError, TypeError) as problem:
        raise InvalidRequest("its certificate or its key is no unencrypted PEM") from problem
    if not constraints.ca:
        raise InvalidRequest("its certificate is none of an authority")
    if _public(private.public_key()) != _public(read.public_key()):
        raise InvalidRequest("its key is that of another certificate")
    if read.not_valid_after_utc.timestamp() <= now:
        raise InvalidRequest(f"its certificate has been over since {read.not_valid_after_utc:%Y-%m-%d}")
    return Authority(certificate, key)


def for_member(authority: Authority, identity: Identity, now: float) -> Signed:
    """What a member shows clients and peers, as a server and as a client of its peers.

    Its names: address, member and cluster; and localhost with its address, because etcd talks to itself there.
    """
    names = dict.fromkeys((identity.name, identity.cluster, "localhost"))
    addresses = dict.fromkeys((identity.address, "127.0.0.1"))
    subject = [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _sign(authority, peers_of(identity.cluster), now, uses, subject)


def for_client(authority: Authority, name: str, now: float) -> Signed:
    """What a client called ``name`` shows. No peer takes it, and no client takes it for a server's."""
    return _sign(authority, name, now, [ExtendedKeyUsageOID.CLIENT_AUTH])


def revocation(authority: Authority, serials: Collection[str], now: float) -> str:
    """The list of the certificates that the authority has revoked, by their serials in hexadecimal; PEM.

    Its next one is due in 20 years: etcd does not look at that, and a list that is over must let nobody in or out.
    """
    issuer, signer, hashed = _signer(authority)
    begin = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(begin - BACKDATED)
        .next_update(begin + timedelta(days=AUTHORITY_DAYS))
    )
    for serial in sorted(serials):
        revoked = (
            x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(begin).build()
        )
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(signer, hashed).public_bytes(serialization.Encoding.PEM).decode()


def peers_of(cluster: str) -> str:
    """The common name that the members of ``cluster`` have, and that they demand of each other."""
    return f"{cluster}-member"


def _sign(
    authority: Authority,
    name: str,
    now: float,
    uses: Sequence[x509.ObjectIdentifier],
    subject: Sequence[x509.GeneralName] = (),
) -> Signed:
    issuer, signer, hashed = _signer(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.fromtimestamp(now, UTC)
    end = min(begin + timedelta(days=CERTIFICATE_DAYS), issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    )
    if identifiers := [one for one in issuer.extensions if isinstance(one.value, x509.SubjectKeyIdentifier)]:
        known_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifiers[0].value)
        builder = builder.add_extension(known_by, critical=False)
    if subject:
        builder = builder.add_extension(x509.SubjectAlternativeName(subject), critical=False)
    certificate = builder.sign(signer, hashed)
    return Signed(
        _certificate_text(certificate),
        _key_text(key),
        f"{certificate.serial_number:x}",
        certificate.not_valid_after_utc.timestamp(),
    )


def _signer(
    authority: Authority,
) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes, hashes.SHA256 | None]:
    """Who signs, with what, and by which hash: the Edwards curves have their own."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = cast(
        "CertificateIssuerPrivateKeyTypes",
        serialization.load_pem_private_key(authority.key.encode(), password=None),
    )
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return issuer, signer, None if edwards else hashes.SHA256()


def _usage(*, signs: bool) -> x509.KeyUsage:
    """For an authority, to sign certificates and lists of revoked ones; for all others, to sign what TLS says."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
