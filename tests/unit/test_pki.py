"""What the authority signs: names, uses and times, as others' readers of certificates see them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from etcd_resize import pki
from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WHO = Identity("etcd", "etcd-2", "10.0.0.2", tls=True)


def authority(now: datetime = NOW) -> pki.Authority:
    return pki.new_authority("etcd", now.timestamp())


def read(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def uses(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_members_certificate_names_it_and_serves_both_ways() -> None:
    certificate = read(pki.for_member(authority(), WHO, NOW.timestamp()).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["etcd-2", "etcd", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.2", "127.0.0.1"]
    assert uses(certificate) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert common_name(certificate) == pki.peers_of("etcd") == "etcd-member"


def test_a_clients_certificate_is_good_for_no_server_and_names_no_member() -> None:
    certificate = read(pki.for_client(authority(), "client", NOW.timestamp()).certificate)
    assert uses(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert common_name(certificate) == "client"
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_only_the_authority_that_signed_it_vouches_for_it_and_only_in_its_time() -> None:
    ours, theirs = authority(), authority()
    member = read(pki.for_member(ours, WHO, NOW.timestamp()).certificate)
    name = x509.IPAddress(ipaddress.ip_address("10.0.0.2"))

    def vouched(by: pki.Authority, at: datetime) -> bool:
        policy = PolicyBuilder().store(Store([read(by.certificate)])).time(at)
        try:
            policy.build_server_verifier(name).verify(member, [])
        except VerificationError:
            return False
        return True

    assert vouched(ours, NOW)
    assert vouched(ours, NOW - timedelta(hours=1)), "a machine whose clock is behind"
    assert not vouched(theirs, NOW)
    assert not vouched(ours, NOW + timedelta(days=pki.CERTIFICATE_DAYS + 1))


def test_nothing_outlives_its_authority() -> None:
    old = authority(NOW - timedelta(days=pki.AUTHORITY_DAYS - 10))
    signed = pki.for_client(old, "client", NOW.timestamp())
    end = read(old.certificate).not_valid_after_utc
    assert read(signed.certificate).not_valid_after_utc == end
    assert signed.expires == end.timestamp()


def test_no_key_is_in_a_representation() -> None:
    made = authority()
    assert "PRIVATE" not in repr(made)
    assert "PRIVATE" not in repr(pki.for_client(made, "client", NOW.timestamp()))


def test_the_list_of_the_revoked_is_signed_and_names_them() -> None:
    made = authority()
    gone = pki.for_member(made, WHO, NOW.timestamp())
    listed = x509.load_pem_x509_crl(pki.revocation(made, [gone.serial], NOW.timestamp()).encode())
    assert [f"{one.serial_number:x}" for one in listed] == [gone.serial]
    assert listed.is_signature_valid(read(made.certificate).public_key())  # type: ignore[arg-type]
    assert not listed.is_signature_valid(read(authority().certificate).public_key())  # type: ignore[arg-type]


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "ed25519"],
)
def test_an_authority_of_another_kind_of_key_is_adopted_and_signs(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "theirs")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + timedelta(days=900))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    text = made.public_bytes(serialization.Encoding.PEM).decode()
    adopted = pki.adopt(text, pem(key), NOW.timestamp())
    signed = read(pki.for_member(adopted, WHO, NOW.timestamp()).certificate)
    signed.verify_directly_issued_by(made)


OURS, THEIRS = authority(), authority()
MEMBER = pki.for_member(OURS, WHO, NOW.timestamp())


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (None, None, "it is no JSON with the texts certificate and key"),
        (OURS.certificate, 7, "it is no JSON with the texts certificate and key"),
        ("no PEM", OURS.key, "its certificate or its key is no unencrypted PEM"),
        (OURS.certificate, "no PEM", "its certificate or its key is no unencrypted PEM"),
        (OURS.certificate, THEIRS.key, "its key is that of another certificate"),
        (MEMBER.certificate, MEMBER.key, "its certificate is none of an authority"),
    ],
)
def test_what_is_no_authority_is_not_adopted(certificate: object, key: object, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{reason}$"):
        pki.adopt(certificate, key, NOW.timestamp())


def test_an_authority_that_is_over_is_not_adopted() -> None:
    with pytest.raises(InvalidRequest, match=r"^its certificate has been over since 2046-"):
        pki.adopt(OURS.certificate, OURS.key, (NOW + timedelta(days=8000)).timestamp())
