"""What a machine must be told to become a member: the input of every UserData renderer."""

from __future__ import annotations

from dataclasses import dataclass, field

from etcd_resize.model.identity import Identity


@dataclass(frozen=True)
class Release:
    """An official archive of etcd, mirrored by the user: where it lies, and its sha256 in hexadecimal."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A member's key and certificates: where its machine fetches them, once, and their sha256 in hexadecimal.

    ``url`` is a presigned one, so whoever has it has the key until it expires. What lies there is JSON, a mapping of
    the file names in ``BUNDLE_FILES`` to PEM texts.
    """

    url: str = field(repr=False)
    sha256: str


@dataclass(frozen=True)
class Restoration:
    """The snapshot that a bootstrap starts from: where its machine fetches it, and its sha256 in hexadecimal.

    ``url`` is a presigned one: whoever has it has all keys, until it expires.
    """

    url: str = field(repr=False)
    sha256: str


TUNING = {
    "AutoCompactionMode": "ETCD_AUTO_COMPACTION_MODE",
    "AutoCompactionRetention": "ETCD_AUTO_COMPACTION_RETENTION",
    "QuotaBackendBytes": "ETCD_QUOTA_BACKEND_BYTES",
    "HeartbeatMilliseconds": "ETCD_HEARTBEAT_INTERVAL",
    "ElectionMilliseconds": "ETCD_ELECTION_TIMEOUT",
}
"""The properties that become a variable of etcd's as they are (https://etcd.io/docs/v3.5/op-guide/configuration/)."""
UNTUNED = {
    "AutoCompactionMode": "periodic",
    "AutoCompactionRetention": "0",
    "QuotaBackendBytes": str(2 * 1024**3),
    "HeartbeatMilliseconds": "100",
    "ElectionMilliseconds": "1000",
}
"""What etcd does where it is told nothing: so does a member that was made before there were these properties."""
BUNDLE_FOLDER = "/etc/etcd-resize"
AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, REVOKED_FILE = BUNDLE_FILES = (
    "ca.pem",
    "member.pem",
    "member-key.pem",
    "revoked.pem",
)
REVOKED_KEY = "/etcd-resize/revoked"
"""Where the cluster itself keeps the list of revoked certificates, from which each machine takes it every minute."""


@dataclass(frozen=True)
class MemberSpec:
    """All that a machine must be told to become the member. The input of every UserData renderer.

    ``initial_cluster`` are pairs of name and peer URL, the newcomer's own included.
    ``state`` is ``new`` (bootstrap) or ``existing`` (join). ``settings`` are further ``ETCD_*`` variables.
    ``data_dir``: empty for the one that is usual where the machine's etcd comes from.
    ``release`` and ``image`` say where that is, if not the distribution's own: an archive, or a container image
    with its digest. A dialect that cannot bring etcd that way refuses.
    ``bundle``: with TLS, where the member's key and certificates are; ``peers`` is then the one common name that a
    peer's certificate must have, empty for any that the authority has signed.
    ``restoration``: what its data is made of before its first start; None for none, or for what a join brings.
    """

    identity: Identity
    initial_cluster: tuple[tuple[str, str], ...]
    state: str
    token: str
    data_dir: str = ""
    settings: tuple[tuple[str, str], ...] = field(default=())
    release: Release | None = None
    image: str = ""
    bundle: Bundle | None = None
    peers: str = ""
    restoration: Restoration | None = None

    @property
    def initial_cluster_text(self) -> str:
        """As etcd wants it: ``name=url,name=url``."""
        return ",".join(f"{name}={url}" for name, url in self.initial_cluster)

    def environment(self, usual_data_dir: str = "/var/lib/etcd/default") -> dict[str, str]:
        """The variables that configure etcd (https://etcd.io/docs/v3.5/op-guide/configuration/)."""
        return {
            "ETCD_NAME": self.identity.name,
            "ETCD_DATA_DIR": self.data_dir or usual_data_dir,
            "ETCD_LISTEN_PEER_URLS": self.identity.peer_url,
            "ETCD_LISTEN_CLIENT_URLS": self.identity.client_url,
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": self.identity.peer_url,
            "ETCD_ADVERTISE_CLIENT_URLS": self.identity.client_url,
            "ETCD_INITIAL_CLUSTER": self.initial_cluster_text,
            "ETCD_INITIAL_CLUSTER_STATE": self.state,
            "ETCD_INITIAL_CLUSTER_TOKEN": self.token,
            **(self._tls() if self.bundle else {}),
            **dict(self.settings),
        }

    def _tls(self) -> dict[str, str]:
        """Both sides show a certificate, clients and peers alike (https://etcd.io/docs/v3.5/op-guide/security/)."""
        authority, certificate, key, revoked = (f"{BUNDLE_FOLDER}/{name}" for name in BUNDLE_FILES)
        return {
            "ETCD_CERT_FILE": certificate,
            "ETCD_KEY_FILE": key,
            "ETCD_TRUSTED_CA_FILE": authority,
            "ETCD_CLIENT_CERT_AUTH": "true",
            "ETCD_CLIENT_CRL_FILE": revoked,
            "ETCD_PEER_CERT_FILE": certificate,
            "ETCD_PEER_KEY_FILE": key,
            "ETCD_PEER_TRUSTED_CA_FILE": authority,
            "ETCD_PEER_CLIENT_CERT_AUTH": "true",
            "ETCD_PEER_CRL_FILE": revoked,
            **({"ETCD_PEER_CERT_ALLOWED_CN": self.peers} if self.peers else {}),
        }
