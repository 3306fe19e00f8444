"""What the other modules talk about: members, the cluster as it was seen, and the steps of a plan.

Frozen values without I/O. A step says what will be done, in a form that can be printed, compared and
logged; ``service`` is the only one who carries steps out.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

PEER_PORT = 2380
CLIENT_PORT = 2379
UNHEALTHY_ALARMS = frozenset({"NOSPACE", "CORRUPT"})
"""Alarms under which a membership must not change (https://etcd.io/docs/v3.5/op-guide/maintenance/)."""


def peer_url(address: str, *, tls: bool = False) -> str:
    """The URL under which the member at ``address`` talks to its peers."""
    return f"{scheme(tls=tls)}://{address}:{PEER_PORT}"


def client_url(address: str, *, tls: bool = False) -> str:
    """The URL under which the member at ``address`` serves clients."""
    return f"{scheme(tls=tls)}://{address}:{CLIENT_PORT}"


def scheme(*, tls: bool) -> str:
    """What a member's URLs begin with."""
    return "https" if tls else "http"


def is_tls(url: str) -> bool:
    """Whether a member's URL is one of TLS."""
    return url.startswith("https://")


def host_of(url: str) -> str:
    """The address, or the name, in a member's URL."""
    return urlsplit(url).hostname or ""


def hex_id(member_id: int) -> str:
    """An ID as etcdctl writes it: hexadecimal, without leading zeros."""
    return f"{member_id:x}"


def quorum(voters: int) -> int:
    """How many of ``voters`` must agree before a write, or a change of the membership, counts."""
    return voters // 2 + 1


def bootstrap_member_id(url: str, token: str) -> int:
    """The ID that etcd gives to a member that bootstraps a cluster alone.

    etcd hashes the sorted peer URLs and the cluster token; a member that joins later gets the time
    hashed in as well (``computeMemberId`` in etcd's ``server/etcdserver/api/membership/member.go``).
    """
    return int.from_bytes(hashlib.sha1(f"{url}{token}".encode(), usedforsecurity=False).digest()[:8], "big")


def bootstrap_cluster_id(member_id: int) -> int:
    """The ID of the cluster which that member bootstraps alone (``genID`` in etcd's ``membership/cluster.go``)."""
    hashed = hashlib.sha1(member_id.to_bytes(8, "big"), usedforsecurity=False).digest()
    return int.from_bytes(hashed[:8], "big")


def peer_url_of(url: str) -> str:
    """The peer URL of the member of ours whose client URL is ``url``: the same host, the peers' port."""
    return peer_url(host_of(url), tls=is_tls(url))


@dataclass(frozen=True)
class Credentials:
    """What a client shows a cluster with TLS, and by what it knows the members: three texts in PEM.

    ``authority``: the certificate of the cluster's authority. The key is in no representation of it.
    """

    authority: str
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Health:
    """What one member said of itself, by its own client URL.

    ``serving``: a voter answered a linearizable read, a learner answered its status. ``reachable``: it
    answered its status at least; a voter without a quorum does that much.
    ``leader``: the ID of the leader it knows, 0 for none. ``applied``: its raft index (entries), of which the last
    ``pending`` are not applied to its database yet. ``db_size`` in bytes, of which ``db_in_use`` hold data.
    ``read_seconds``: how long that linearizable read took; 0 if there was none.
    """

    serving: bool
    reachable: bool = False
    leader: int = 0
    version: str = ""
    applied: int = 0
    term: int = 0
    db_size: int = 0
    problem: str = ""
    pending: int = 0
    db_in_use: int = 0
    read_seconds: float = 0.0


@dataclass(frozen=True)
class Member:
    """One member as the cluster lists it. An unstarted one has neither a name nor client URLs."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False
    health: Health = Health(serving=False)

    @property
    def started(self) -> bool:
        """Whether it has ever told the cluster its name."""
        return bool(self.name)

    @property
    def label(self) -> str:
        """How a sentence calls it: by name, or by peer URL while it has none."""
        return f"{self.name or self.peer_urls[0]} ({hex_id(self.id)})"


@dataclass(frozen=True)
class ClusterView:
    """The cluster at one moment. ``alarms`` are texts like ``NOSPACE on etcd-2``.

    ``has_quorum``: some voter answered a linearizable read just now.
    """

    cluster_id: int
    members: tuple[Member, ...]
    has_quorum: bool
    alarms: tuple[str, ...] = ()

    @property
    def voters(self) -> tuple[Member, ...]:
        """The members that vote, in the order of the list."""
        return tuple(member for member in self.members if not member.is_learner)

    @property
    def learners(self) -> tuple[Member, ...]:
        """The members that only follow."""
        return tuple(member for member in self.members if member.is_learner)

    @property
    def leader(self) -> Member | None:
        """The voter that most of those who answered call their leader."""
        said = [member.health.leader for member in self.voters if member.health.serving]
        known = [member for member in self.voters if member.id in said]
        return max(known, key=lambda member: said.count(member.id), default=None)

    @property
    def version(self) -> str:
        """The lowest etcd version among those who answered: what the cluster as a whole can do."""
        versions = [member.health.version for member in self.members if member.health.version]
        return min(versions, key=_version_key, default="")

    def at(self, url: str) -> Member | None:
        """The member that is registered under the peer URL ``url``, whichever its scheme."""
        place = urlsplit(url).netloc
        return next(
            (
                member
                for member in self.members
                if any(urlsplit(registered).netloc == place for registered in member.peer_urls)
            ),
            None,
        )

    def named(self, name: str) -> Member | None:
        """The member called ``name``."""
        return next((member for member in self.members if member.name == name), None)

    def with_id(self, member_id: int) -> Member | None:
        """The member with this ID."""
        return next((member for member in self.members if member.id == member_id), None)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())


@dataclass(frozen=True)
class Identity:
    """Who a member is for CloudFormation: ``<cluster>/<name>@<address>``, the physical resource ID.

    ``tls`` says how it speaks, not who it is: it is in no physical ID, and two identities are compared without it.
    """

    cluster: str
    name: str
    address: str
    tls: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.cluster}/{self.name}@{self.address}"

    @property
    def peer_url(self) -> str:
        """Where its peers reach it, and what it is registered under."""
        return peer_url(self.address, tls=self.tls)

    @property
    def client_url(self) -> str:
        """Where clients reach it."""
        return client_url(self.address, tls=self.tls)

    @classmethod
    def parse(cls, physical_id: str, *, tls: bool = False) -> Identity | None:
        """The identity in a physical resource ID, or None if it is not one of ours."""
        cluster, slash, rest = physical_id.partition("/")
        name, at, address = rest.partition("@")
        if not (cluster and slash and name and at and address) or "/" in rest or "@" in address:
            return None
        return cls(cluster, name, address, tls)


@dataclass(frozen=True)
class User:
    """A user of etcd's own. The password is in no text of this value."""

    name: str
    password: str = field(repr=False)


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


# --- the steps of a plan ---------------------------------------------------------------------------


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


# --- what is remembered between two events ---------------------------------------------------------


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


def stack_name(stack_id: str) -> str:
    """The name in a stack's ARN: ``arn:…:stack/<name>/<uuid>``."""
    return stack_id.partition("/")[2].partition("/")[0]


def same_place(one: str, other: str) -> bool:
    """Whether two stack IDs are two lives of one stack: names alike, but for what a nested one's ends with."""
    return one != other and _place(one) == _place(other)


def siblings(one: str, other: str) -> bool:
    """Whether two stack IDs are nested in the same parent, at whatever time."""
    parents = [_place(stack_id).rpartition("-")[0] for stack_id in (one, other)]
    return one != other and parents[0] == parents[1] and all(map(_is_nested, (one, other)))


def child_of(parent: str, stack_id: str) -> bool:
    """Whether a stack ID is that of a stack nested in ``parent``, at whatever time."""
    return _is_nested(stack_id) and _place(stack_id).rpartition("-")[0] == stack_name(parent)


_NESTED = re.compile(r"-[A-Z0-9]{12,13}$")
"""What CloudFormation appends to the name of a nested stack: ``<parent>-<logical ID>-<random>``."""


def _is_nested(stack_id: str) -> bool:
    return bool(_NESTED.search(stack_name(stack_id)))


def _place(stack_id: str) -> str:
    return _NESTED.sub("", stack_name(stack_id))
