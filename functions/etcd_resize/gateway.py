"""etcd, as the service needs it: the ``Gateway`` protocol and its one real implementation.

The only module that imports etcd3 and grpc. It looks and it acts; it decides nothing. What etcd says in
an error is translated here, once, by ``_MEANINGS``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import etcd3
import grpc
from etcd3 import etcdrpc

from etcd_resize import membership_pb2 as wire
from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.cluster import ClusterView, Health, Member, hex_id
from etcd_resize.model.identity import Credentials, User
from etcd_resize.model.urls import is_tls
from etcd_resize.snapshot import verified

PROBE_SECONDS = 1.5
"""How long one member may take to answer when it is looked at. An election takes about one second."""
CHANGE_SECONDS = 5.0
"""How long etcd may take to commit a change of the membership."""
SNAPSHOT_SECONDS = 600.0
DEFRAGMENT_SECONDS = 300.0
"""How long a member may take to copy its database: some seconds a gigabyte."""
_PROBED_KEY = "health"
"""The key that ``etcdctl endpoint health`` reads; it need not exist."""

_CHANNEL_OPTIONS = (
    # a machine that has just booted must be seen at once, not after gRPC's default backoff of up to 120 s
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # despite its name this is how long one attempt to connect may take: with less, a member that is some 200 ms
    # away is never reached
    ("grpc.min_reconnect_backoff_ms", int(PROBE_SECONDS * 1000)),
    ("grpc.use_local_subchannel_pool", 1),
    # members are reached directly, whatever proxy the environment names for the rest of the world
    ("grpc.enable_http_proxy", 0),
)

_T = TypeVar("_T")


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


@dataclass(frozen=True)
class _Probe:
    """What one endpoint answered. ``members`` is as fresh as a linearizable read if ``serving``."""

    cluster_id: int
    member_id: int
    is_learner: bool
    health: Health
    members: tuple[Member, ...]
    errors: tuple[str, ...]


class _Token(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Puts a user's token on every call of a client, once there is one.

    etcd3's own way, call credentials, is refused by gRPC over a connection without TLS.
    """

    def __init__(self) -> None:
        self.value = ""

    def intercept_unary_unary(self, continuation: Callable[..., Any], call: Any, request: Any) -> Any:
        """See ``grpc.UnaryUnaryClientInterceptor``."""
        return continuation(self._on(call), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], call: Any, request: Any) -> Any:
        """See ``grpc.UnaryStreamClientInterceptor``."""
        return continuation(self._on(call), request)

    def _on(self, call: Any) -> Any:
        token = [("token", self.value)] if self.value else []
        return call._replace(metadata=[*(call.metadata or ()), *token])


class EtcdGateway:
    """The real thing: one etcd3 client for each endpoint, asked side by side."""

    def __init__(
        self, endpoints: Sequence[str], credentials: Credentials | None = None, user: User | None = None
    ) -> None:
        """``endpoints``: client URLs of members that are known; the others are found through them.

        ``credentials``: what is shown to those that speak TLS. ``user``: as whom to ask, where etcd's auth is enabled;
        where it is not, there is no need of it.
        """
        self._given = tuple(endpoints)
        self._credentials, self._user = credentials, user
        self._found: tuple[str, ...] = ()
        self._clients: dict[str, etcd3.Etcd3Client] = {}
        self._tokens: dict[str, _Token] = {}
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="etcd-probe")
        self._voters: tuple[Member, ...] = ()
        self._left: set[str] = set()

    # --- looking ---

    def view(self) -> ClusterView:
        """See ``Gateway.view``. Members that only the list knows are probed as well."""
        probes = self._probe_all(dict.fromkeys((*self._given, *self._found)))
        answered = {url: probe for url, probe in probes.items() if isinstance(probe, _Probe)}
        if not answered:
            told = "; ".join(f"{url}: {problem}" for url, problem in list(probes.items())[:3])
            raise Retryable(f"no endpoint answers: {told}")
        _same_cluster(answered)
        listed = max(answered.values(), key=_freshness).members
        self._found = tuple(url for member in listed for url in member.client_urls)
        probes |= self._probe_all(url for url in self._found if url not in probes)
        view = _assemble(listed, probes)
        self._voters = tuple(
            sorted(
                (member for member in view.voters if member.health.serving),
                key=lambda member: member != view.leader,
            )
        )
        return view

    def _probe_all(self, urls: Iterable[str]) -> dict[str, _Probe | str]:
        wanted = [url for url in urls if url not in self._left]
        return dict(zip(wanted, self._pool.map(self._probe, wanted), strict=True))

    def _probe(self, url: str) -> _Probe | str:
        """What the endpoint answered, or in a few words why it did not."""
        client = self._client(url)
        try:
            status = self._call(client, "Maintenance/Status", wire.StatusRequest(), wire.StatusResponse)
        except grpc.RpcError as problem:
            return _brief(problem)
        problem_text, read_seconds = "", 0.0
        if not status.isLearner:
            begin = time.perf_counter()
            problem_text = self._read(url)
            read_seconds = time.perf_counter() - begin
        try:
            # a list straight after a linearizable read of the same member is as fresh as that read
            listed = self._call(
                client, "Cluster/MemberList", wire.MemberListRequest(), wire.MemberListResponse
            ).members
        except grpc.RpcError as problem:
            listed = []  # a learner does not list
            problem_text = problem_text or ("" if status.isLearner else _brief(problem))
        serving = not problem_text and status.leader != 0
        return _Probe(
            cluster_id=status.header.cluster_id,
            member_id=status.header.member_id,
            is_learner=status.isLearner,
            health=Health(
                serving=serving,
                reachable=True,
                leader=status.leader,
                version=status.version,
                applied=status.raftIndex,
                term=status.raftTerm,
                db_size=status.dbSize,
                pending=max(0, status.raftIndex - status.raftAppliedIndex),
                db_in_use=status.dbSizeInUse,
                read_seconds=0.0 if problem_text else read_seconds,
                problem=problem_text or ("" if serving else "it knows no leader"),
            ),
            members=tuple(_member(member) for member in listed),
            errors=tuple(status.errors),
        )

    def _read(self, url: str, *, again: bool = True) -> str:
        """Empty if a linearizable read was answered, else what came instead. Refused if etcd wants another user.

        A token lasts for minutes, and not always through a restart: it is asked for ``again``, once.
        """
        token = self._tokens[url]
        try:
            if self._user and not token.value:
                token.value = self._authenticate(url, self._user)
            self._client(url).get_response(_PROBED_KEY)
        except (grpc.RpcError, etcd3.Etcd3Exception) as problem:
            error = _rpc_error(problem)
            details = error.details() or ""
            if self._user is None and "permission denied" in details:
                return ""  # denied means that the cluster has agreed on it: a quorum answered
            if unwanted := _unwanted(details, self._user):
                raise Refused(unwanted) from problem
            if "invalid auth token" in details:
                token.value = ""
                if again:
                    return self._read(url, again=False)
            return _brief(error)
        return ""

    def _authenticate(self, url: str, user: User) -> str:
        """A token for the user; empty where auth is not enabled."""
        request = etcdrpc.AuthenticateRequest(name=user.name, password=user.password)
        try:
            answer = etcdrpc.AuthStub(self._client(url).channel).Authenticate(request, PROBE_SECONDS)
        except grpc.RpcError as problem:
            if "authentication is not enabled" in (problem.details() or ""):
                return ""
            raise
        return str(answer.token)

    # --- acting ---

    def add_learner(self, peer_url: str) -> None:
        """See ``Gateway.add_learner``."""
        request = wire.MemberAddRequest(peerURLs=[peer_url], isLearner=True)
        self._change(
            f"add {peer_url}",
            lambda client: self._call(
                client, "Cluster/MemberAdd", request, wire.MemberAddResponse, CHANGE_SECONDS
            ),
        )

    def promote(self, member: Member) -> None:
        """See ``Gateway.promote``."""
        request = wire.MemberPromoteRequest(ID=member.id)
        self._change(
            f"promote {member.label}",
            lambda client: self._call(
                client, "Cluster/MemberPromote", request, wire.MemberPromoteResponse, CHANGE_SECONDS
            ),
        )

    def remove(self, member: Member) -> None:
        """See ``Gateway.remove``. Asked of another voter, because the one that goes may go before it answers."""
        request = etcdrpc.MemberRemoveRequest(ID=member.id)
        self._change(
            f"remove {member.label}",
            lambda client: client.clusterstub.MemberRemove(request, CHANGE_SECONDS),
            avoid=member,
        )
        # etcd 3.5.16 panics when a member that was just removed is asked for its status, and systemd would
        # then start it again: it must exit by itself, in peace
        self._left.update(member.client_urls)

    def move_leader(self, leader: Member, target: Member) -> None:
        """See ``Gateway.move_leader``. Only the leader itself takes this call."""
        request = etcdrpc.MoveLeaderRequest(targetID=target.id)
        client = self._client(leader.client_urls[0])
        _translated(
            f"move the leadership to {target.label}",
            lambda: client.maintenancestub.MoveLeader(request, CHANGE_SECONDS),
        )

    def revision(self, member: Member) -> int:
        """See ``Gateway.revision``."""
        client = self._client(member.client_urls[0])
        status = _translated(
            f"status of {member.label}",
            lambda: client.maintenancestub.Status(etcdrpc.StatusRequest(), PROBE_SECONDS),
        )
        return int(status.header.revision)

    def snapshot(self, source: Member) -> Iterator[bytes]:
        """See ``Gateway.snapshot``."""
        return verified(self._streamed(source))

    def _streamed(self, source: Member) -> Iterator[bytes]:
        what = f"snapshot from {source.label}"
        client = self._client(source.client_urls[0])
        stream = client.maintenancestub.Snapshot(etcdrpc.SnapshotRequest(), SNAPSHOT_SECONDS)
        while True:
            response = _translated(what, lambda: next(stream, None))
            if response is None:
                return
            yield response.blob

    def defragment(self, member: Member) -> None:
        """See ``Gateway.defragment``. A member answers this call for itself alone."""
        request, client = etcdrpc.DefragmentRequest(), self._client(member.client_urls[0])
        _translated(
            f"defragment {member.label}",
            lambda: client.maintenancestub.Defragment(request, DEFRAGMENT_SECONDS),
        )

    def publish(self, key: str, text: str) -> None:
        """See ``Gateway.publish``."""
        request = etcdrpc.PutRequest(key=key.encode(), value=text.encode())
        self._change(f"put {key}", lambda client: client.kvstub.Put(request, CHANGE_SECONDS))

    def write(self, member: Member, key: str, value: str) -> float:
        """See ``Gateway.write``."""
        client = self._client(member.client_urls[0])
        begin = time.perf_counter()
        _translated(f"write through {member.label}", lambda: client.put(key, value))
        return time.perf_counter() - begin

    def close(self) -> None:
        """See ``Gateway.close``."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _change(
        self, what: str, call: Callable[[etcd3.Etcd3Client], object], avoid: Member | None = None
    ) -> None:
        """One attempt, at the leader if it may be asked. A second one only after a new look."""
        asked = [member for member in self._voters if avoid is None or member.id != avoid.id] or self._voters
        if not asked:
            raise Retryable(f"{what}: no voter serves")
        _translated(what, lambda: call(self._client(asked[0].client_urls[0])))

    def _client(self, url: str) -> etcd3.Etcd3Client:
        if url not in self._clients:
            made = client(url, self._credentials, _CHANNEL_OPTIONS, PROBE_SECONDS)
            token = self._tokens[url] = _Token()
            made.channel = grpc.intercept_channel(made.channel, token)
            made.kvstub = etcdrpc.KVStub(made.channel)
            made.clusterstub = etcdrpc.ClusterStub(made.channel)
            made.maintenancestub = etcdrpc.MaintenanceStub(made.channel)
            self._clients[url] = made
        return self._clients[url]

    @staticmethod
    def _call(
        client: etcd3.Etcd3Client, path: str, request: Any, response: Any, timeout: float = PROBE_SECONDS
    ) -> Any:
        """One of the calls that etcd3's own stubs are too old for."""
        call = client.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=timeout)


class _Client(etcd3.Etcd3Client):  # type: ignore[misc] # etcd3 has no types
    """A client that is given texts in PEM where etcd3 reads files."""

    def _get_secure_creds(self, ca_cert: str, cert_key: str, cert_cert: str) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(ca_cert.encode(), cert_key.encode(), cert_cert.encode())


def client(
    url: str,
    credentials: Credentials | None,
    options: Sequence[tuple[str, int]] = (),
    timeout: float | None = None,
) -> etcd3.Etcd3Client:
    """A client of the one member at ``url``. The name in it is checked against the member's certificate.

    ``options`` of the gRPC channel; ``timeout`` of every call, in seconds. Raises Refused for TLS without credentials.
    """
    parts = urlsplit(url)
    texts = {}
    if is_tls(url):
        if credentials is None:
            raise Refused(f"{url} speaks TLS, and there are no credentials for it: set Tls=on")
        texts = {
            "ca_cert": credentials.authority,
            "cert_key": credentials.key,
            "cert_cert": credentials.certificate,
        }
    host = f"dns:///{parts.hostname}"  # else a host called unix or xds would be another way to connect
    return _Client(host=host, port=parts.port, timeout=timeout, grpc_options=options, **texts)


# --- from what was answered to a view ----------------------------------------------------------------


def _member(listed: Any) -> Member:
    return Member(
        id=listed.ID,
        name=listed.name,
        peer_urls=tuple(listed.peerURLs),
        client_urls=tuple(listed.clientURLs),
        is_learner=listed.isLearner,
    )


def _freshness(probe: _Probe) -> tuple[bool, bool, int]:
    return (bool(probe.members), probe.health.serving and not probe.is_learner, probe.health.applied)


def _same_cluster(answered: dict[str, _Probe]) -> None:
    clusters: dict[int, str] = {}
    for url, probe in answered.items():
        clusters.setdefault(probe.cluster_id, url)
    if len(clusters) > 1:
        told = ", ".join(f"{url} to {hex_id(cluster_id)}" for cluster_id, url in clusters.items())
        raise Refused(f"the endpoints belong to different clusters: {told}; give those of one cluster only")


def _assemble(listed: tuple[Member, ...], probes: dict[str, _Probe | str]) -> ClusterView:
    answered = {probe.member_id: probe for probe in probes.values() if isinstance(probe, _Probe)}
    if not listed:
        raise Retryable("only learners answer, and they do not list the members")
    members = tuple(replace(member, health=_health(member, answered, probes)) for member in listed)
    names = {member.id: member.label for member in members}
    return ClusterView(
        cluster_id=next(iter(answered.values())).cluster_id,
        members=members,
        has_quorum=any(member.health.serving and not member.is_learner for member in members),
        alarms=tuple(sorted({alarm for probe in answered.values() for alarm in _alarms(probe, names)})),
    )


def _health(member: Member, answered: dict[int, _Probe], probes: dict[str, _Probe | str]) -> Health:
    if member.id in answered:
        return answered[member.id].health
    told = [said for url in member.client_urls if isinstance(said := probes.get(url), str)]
    otherwise = "another member answers at its URL" if member.started else "it has not started"
    return Health(serving=False, problem=told[0] if told else otherwise)


def _alarms(probe: _Probe, names: dict[int, str]) -> Iterator[str]:
    """etcd reports an alarm among a status's errors, as ``memberID:<decimal> alarm:NOSPACE``."""
    for error in probe.errors:
        fields = dict(part.split(":", 1) for part in error.split() if ":" in part)
        if "alarm" in fields:
            member = fields.get("memberID", "0")
            number = int(member) if member.isdigit() else 0
            yield f"{fields['alarm']} on {names.get(number, hex_id(number))}"


# --- from what etcd refuses to what it means -----------------------------------------------------------

_FORBIDDEN = ("permission denied", "user name not found", "user not found")
"""Said to a user without the right, and to a certificate whose name is no user: with TLS that is the user's name."""
_NEEDED = "EtcdUser must name a user with etcd's role root, by which it lets members in and out"


def _unwanted(details: str, user: User | None) -> str:
    """The sentence for what etcd says to a user that it does not want; empty for anything else."""
    if user is None:
        asks = "etcd asks for a user and a password (auth is enabled): give EtcdUser and EtcdPasswordSecret"
        return asks if "user name is empty" in details else ""
    if "invalid user ID or password" in details:
        return (
            f"etcd does not take the user {user.name} with this password: mend EtcdUser, or the secret that"
            " EtcdPasswordSecret names, and deploy again"
        )
    return f"etcd does not let {user.name} read: {_NEEDED}" if "permission denied" in details else ""


_MEANINGS: tuple[tuple[str, type[Refused | Retryable]], ...] = (
    ("given member URLs are invalid", Refused),
    ("user name is empty", Refused),
    ("invalid user ID or password", Refused),
    *((said, Refused) for said in _FORBIDDEN),
    ("not enough started members", Refused),
    ("database space exceeded", Refused),
)
"""Details that no waiting cures. All else that etcd answers to these calls may be different at the next look:
not in sync, unhealthy (also for the five seconds after a new connection), a stranger's learner, no leader."""


def _translated(what: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except (grpc.RpcError, etcd3.Etcd3Exception) as problem:
        details = _brief(_rpc_error(problem))
        meaning = next((kind for text, kind in _MEANINGS if text in details), Retryable)
        cure = f": {_NEEDED}" if any(said in details for said in _FORBIDDEN) else ""
        raise meaning(f"{what}: {details}{cure}") from problem


def _rpc_error(problem: BaseException) -> grpc.RpcError:
    """etcd3 wraps some of gRPC's errors and drops their details; the original is the context."""
    if isinstance(problem, grpc.RpcError):
        return problem
    return problem.__context__


_TLS = (
    ("CERTIFICATE_VERIFY_FAILED", "the member's certificate is not of the authority that we know"),
    ("Hostname Verification", "the member's certificate is that of another address"),
    ("WRONG_VERSION_NUMBER", "the member does not speak it"),
    ("Unwrap failed", "the member does not take our certificate"),
)
"""What gRPC says, without an answer of etcd's, when it is not the network that keeps two apart."""


def _brief(problem: Any) -> str:
    code, details = problem.code().name.lower().replace("_", " "), problem.details() or ""
    if problem.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    if problem.code() is grpc.StatusCode.UNAVAILABLE and "etcdserver" not in details:
        told = next((meaning for text, meaning in _TLS if text in details), "")
        return f"TLS: {told}" if told else "cannot be reached"
    return details.removeprefix("etcdserver: ") or code
