"""Who gets into a real cluster with TLS and who does not, at the port of the clients and at that of the peers."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.identity import Credentials, Identity
from etcd_resize.model.machine import REVOKED_FILE, REVOKED_KEY
from etcd_resize.userdata.on_machine import program as text_of
from tests.support.etcd import Etcd, accepted
from tests.support.tls import LONG_AGO, Issuer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

NAMES = ("m1", "m2", "m3")


class Cluster:
    """Three members with TLS, and the authority that has signed for them."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        self.issuer = Issuer("etcd", folder / "ours")
        self.etcd, self.folder = etcd, folder
        self.identities = [
            Identity("etcd", name, address, tls=True) for name, address in zip(NAMES, addresses, strict=False)
        ]
        self.endpoints = [identity.client_url for identity in self.identities]
        self.members = self.issuer.cluster_of(etcd, dict(zip(NAMES, addresses, strict=False)))

    def view(self, credentials: Credentials | None = None) -> ClusterView:
        with contextlib.closing(EtcdGateway(self.endpoints, credentials or self.issuer.client())) as gateway:
            return gateway.view()

    def healthy(self) -> bool:
        with contextlib.suppress(Retryable):
            return all(member.health.serving for member in self.view().members)
        return False

    def revoke(self, *names: str) -> None:
        """As every machine's timer does it, at once."""
        for name in NAMES:
            (self.issuer.folder / name / REVOKED_FILE).write_text(self.issuer.revoke(*names))


@pytest.fixture
def cluster(etcd: Path, tmp_path: Path, addresses: list[str]) -> Iterator[Cluster]:
    made = Cluster(etcd, tmp_path, addresses)
    try:
        wait_until(made.healthy, "three healthy members with TLS")
        yield made
    finally:
        for member in made.members:
            member.kill()


def answer(url: str, path: str, shown: Credentials | None, folder: Path, trusted: str) -> bytes:
    """What somebody gets who asks for ``path`` by HTTP over TLS and shows those credentials; nothing if not let in."""
    authority = folder / "trusted.pem"
    authority.write_text(trusted)
    context = ssl.create_default_context(cafile=str(authority))
    if shown:
        (folder / "shown.pem").write_text(shown.certificate + shown.key)
        context.load_cert_chain(folder / "shown.pem")
    parts = urlsplit(url)
    host = parts.hostname or ""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((host, parts.port or 0), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return secure.recv(4096)
    return b""


def without_tls(url: str, path: str) -> bytes:
    """What somebody gets who asks the same without TLS."""
    parts = urlsplit(url)
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as plain,
    ):
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n".encode())
        return plain.recv(4096)
    return b""


def test_nobody_gets_in_but_who_the_authority_has_signed_for_and_has_not_revoked(
    cluster: Cluster, tmp_path: Path
) -> None:
    issuer, first = cluster.issuer, cluster.identities[0]
    trusted = issuer.authority.certificate
    stranger = Issuer("etcd", tmp_path / "theirs")
    stranger.files(first)
    old = Issuer("etcd", tmp_path / "old")
    old.authority = issuer.authority

    def asked(shown: Credentials | None) -> tuple[bool, bool]:
        """Whether they get in as a client, and as a peer."""
        client = answer(first.client_url, "/version", shown, tmp_path, trusted)
        peer = answer(first.peer_url, "/members", shown, tmp_path, trusted)
        return client.startswith(b"HTTP/1.1 200"), peer.startswith(b"HTTP/1.1 200")

    assert asked(issuer.client()) == (True, False)
    assert asked(issuer.shown_by("m3")) == (True, True)
    assert asked(None) == (False, False)
    assert asked(stranger.client()) == (False, False)
    assert asked(stranger.shown_by("m1")) == (False, False)
    assert asked(old.client(at=LONG_AGO)) == (False, False)
    assert b"200 OK" not in without_tls(first.client_url, "/version")
    assert b"200 OK" not in without_tls(first.peer_url, "/members")

    third = cluster.view().named("m3")
    assert third
    with contextlib.closing(EtcdGateway(cluster.endpoints[:2], issuer.client())) as gateway:
        gateway.view()
        wait_until(lambda: accepted(lambda: gateway.remove(third)), "m3 is removed")
    cluster.revoke("m3")
    assert asked(issuer.shown_by("m3")) == (False, False)
    assert asked(issuer.shown_by("m2")) == (True, True)


def test_a_list_of_the_revoked_is_taken_from_the_cluster_only_if_the_authority_has_signed_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    issuer, first = cluster.issuer, cluster.identities[0]
    kept = issuer.folder / "m1" / REVOKED_FILE
    program = tmp_path / "take"
    program.write_text(text_of("take_revoked.sh"))
    program.chmod(0o755)

    def take() -> int:
        path = os.pathsep.join((str(cluster.etcd.parent), os.environ["PATH"]))
        command = [str(program), str(issuer.folder / "m1"), first.client_url, getpass.getuser()]
        return subprocess.run(command, env={"PATH": path}, check=False).returncode

    before = kept.read_text()
    assert take() == 0
    assert kept.read_text() == before, "nothing was published yet"
    with contextlib.closing(EtcdGateway(cluster.endpoints, issuer.client())) as gateway:
        gateway.view()
        stranger = Issuer("etcd", tmp_path / "theirs")
        gateway.publish(REVOKED_KEY, stranger.revoke())
        assert take() != 0
        assert kept.read_text() == before, "the list of another authority"
        ours = issuer.revoke("m3")
        gateway.publish(REVOKED_KEY, ours)
    assert take() == 0
    assert kept.read_text().strip() == ours.strip()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_another_authoritys_bundle_does_not_open_the_cluster_and_the_sentence_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    stranger = Issuer("etcd", tmp_path / "theirs")
    with pytest.raises(
        Retryable, match=r"TLS: the member's certificate is not of the authority that we know"
    ):
        cluster.view(stranger.client())
    theirs, ours = stranger.client(), cluster.issuer.client()
    with pytest.raises(Retryable, match=r"TLS: the member does not take our certificate"):
        cluster.view(Credentials(ours.authority, theirs.certificate, theirs.key))
    with (
        contextlib.closing(EtcdGateway(cluster.endpoints)) as gateway,
        pytest.raises(Refused, match=r"speaks TLS, and there are no credentials for it"),
    ):
        gateway.view()


def test_a_member_that_shows_the_certificate_of_another_address_is_not_believed(
    etcd: Path, tmp_path: Path, addresses: list[str]
) -> None:
    issuer = Issuer("etcd", tmp_path)
    here, elsewhere = (Identity("etcd", "m1", address, tls=True) for address in addresses[:2])
    told = issuer.environment(elsewhere, {"m1": here.peer_url})
    member = Etcd(
        etcd, tmp_path, {name: value.replace(elsewhere.address, here.address) for name, value in told.items()}
    )
    try:
        endpoints = [here.client_url]
        with contextlib.closing(EtcdGateway(endpoints, issuer.client())) as gateway:
            wanted = "TLS: the member's certificate is that of another address"
            wait_until(lambda: wanted in _said(gateway), "the name in the certificate is looked at")
    finally:
        member.kill()


def _said(gateway: EtcdGateway) -> str:
    with pytest.raises(Retryable) as said:
        gateway.view()
    return str(said.value)
