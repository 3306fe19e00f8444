"""etcd itself: a connection to each endpoint, asked side by side. It looks and it acts; it decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import etcd3
import grpc
from etcd3 import etcdrpc

from etcd_resize import membership_pb2 as wire
from etcd_resize.errors import Retryable
from etcd_resize.gateway import answers
from etcd_resize.gateway.answers import Probe
from etcd_resize.gateway.connection import PROBE_SECONDS, Connection
from etcd_resize.gateway.refusals import brief, translated
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.identity import Credentials, User
from etcd_resize.snapshot import verified

CHANGE_SECONDS = 5.0
"""How long etcd may take to commit a change of the membership."""
SNAPSHOT_SECONDS = 600.0
DEFRAGMENT_SECONDS = 300.0
"""How long a member may take to copy its database: some seconds a gigabyte."""


class EtcdGateway:
    """The real ``Gateway``."""

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
        self._connections: dict[str, Connection] = {}
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="etcd-probe")
        self._voters: tuple[Member, ...] = ()
        self._left: set[str] = set()

    # --- looking ---

    def view(self) -> ClusterView:
        """See ``Gateway.view``. Members that only the list knows are probed as well."""
        probes = self._probe_all(dict.fromkeys((*self._given, *self._found)))
        listed = answers.newest_list(probes)
        self._found = tuple(url for member in listed for url in member.client_urls)
        probes |= self._probe_all(url for url in self._found if url not in probes)
        view = answers.assemble(listed, probes)
        self._voters = tuple(
            sorted(
                (member for member in view.voters if member.health.serving),
                key=lambda member: member != view.leader,
            )
        )
        return view

    def _probe_all(self, urls: Iterable[str]) -> dict[str, Probe | str]:
        wanted = [url for url in urls if url not in self._left]
        return dict(zip(wanted, self._pool.map(self._probe, wanted), strict=True))

    def _probe(self, url: str) -> Probe | str:
        """What the endpoint answered, or in a few words why it did not."""
        connection = self._connection(url)
        try:
            status = connection.call("Maintenance/Status", wire.StatusRequest(), wire.StatusResponse)
        except grpc.RpcError as unanswered:
            return brief(unanswered)
        problem, read_seconds = "", 0.0
        if not status.isLearner:
            begin = time.perf_counter()
            problem = connection.read()
            read_seconds = time.perf_counter() - begin
        try:
            # a list straight after a linearizable read of the same member is as fresh as that read
            listed = connection.call(
                "Cluster/MemberList", wire.MemberListRequest(), wire.MemberListResponse
            ).members
        except grpc.RpcError as unlisted:
            listed = []  # a learner does not list
            problem = problem or ("" if status.isLearner else brief(unlisted))
        return answers.probe(status, listed, problem, read_seconds)

    # --- acting ---

    def add_learner(self, peer_url: str) -> None:
        """See ``Gateway.add_learner``."""
        request = wire.MemberAddRequest(peerURLs=[peer_url], isLearner=True)
        self._change(
            f"add {peer_url}",
            lambda voter: voter.call("Cluster/MemberAdd", request, wire.MemberAddResponse, CHANGE_SECONDS),
        )

    def promote(self, member: Member) -> None:
        """See ``Gateway.promote``."""
        request = wire.MemberPromoteRequest(ID=member.id)
        self._change(
            f"promote {member.label}",
            lambda voter: voter.call(
                "Cluster/MemberPromote", request, wire.MemberPromoteResponse, CHANGE_SECONDS
            ),
        )

    def remove(self, member: Member) -> None:
        """See ``Gateway.remove``. Asked of another voter, because the one that goes may go before it answers."""
        request = etcdrpc.MemberRemoveRequest(ID=member.id)
        self._change(
            f"remove {member.label}",
            lambda voter: voter.client.clusterstub.MemberRemove(request, CHANGE_SECONDS),
            avoid=member,
        )
        # etcd 3.5.16 panics when a member that was just removed is asked for its status, and systemd would
        # then start it again: it must exit by itself, in peace
        self._left.update(member.client_urls)

    def move_leader(self, leader: Member, target: Member) -> None:
        """See ``Gateway.move_leader``. Only the leader itself takes this call."""
        request = etcdrpc.MoveLeaderRequest(targetID=target.id)
        client = self._client(leader)
        translated(
            f"move the leadership to {target.label}",
            lambda: client.maintenancestub.MoveLeader(request, CHANGE_SECONDS),
        )

    def revision(self, member: Member) -> int:
        """See ``Gateway.revision``."""
        client = self._client(member)
        status = translated(
            f"status of {member.label}",
            lambda: client.maintenancestub.Status(etcdrpc.StatusRequest(), PROBE_SECONDS),
        )
        return int(status.header.revision)

    def snapshot(self, source: Member) -> Iterator[bytes]:
        """See ``Gateway.snapshot``."""
        return verified(self._streamed(source))

    def _streamed(self, source: Member) -> Iterator[bytes]:
        what = f"snapshot from {source.label}"
        client = self._client(source)
        stream = client.maintenancestub.Snapshot(etcdrpc.SnapshotRequest(), SNAPSHOT_SECONDS)
        while True:
            response = translated(what, lambda: next(stream, None))
            if response is None:
                return
            yield response.blob

    def defragment(self, member: Member) -> None:
        """See ``Gateway.defragment``. A member answers this call for itself alone."""
        request, client = etcdrpc.DefragmentRequest(), self._client(member)
        translated(
            f"defragment {member.label}",
            lambda: client.maintenancestub.Defragment(request, DEFRAGMENT_SECONDS),
        )

    def publish(self, key: str, text: str) -> None:
        """See ``Gateway.publish``."""
        request = etcdrpc.PutRequest(key=key.encode(), value=text.encode())
        self._change(f"put {key}", lambda voter: voter.client.kvstub.Put(request, CHANGE_SECONDS))

    def write(self, member: Member, key: str, value: str) -> float:
        """See ``Gateway.write``."""
        client = self._client(member)
        begin = time.perf_counter()
        translated(f"write through {member.label}", lambda: client.put(key, value))
        return time.perf_counter() - begin

    def close(self) -> None:
        """See ``Gateway.close``."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections.values():
            connection.close()

    def _change(self, what: str, call: Callable[[Connection], object], avoid: Member | None = None) -> None:
        """One attempt, at the leader if it may be asked. A second one only after a new look."""
        asked = [member for member in self._voters if avoid is None or member.id != avoid.id] or self._voters
        if not asked:
            raise Retryable(f"{what}: no voter serves")
        translated(what, lambda: call(self._connection(asked[0].client_urls[0])))

    def _connection(self, url: str) -> Connection:
        if url not in self._connections:
            self._connections[url] = Connection(url, self._credentials, self._user)
        return self._connections[url]

    def _client(self, member: Member) -> etcd3.Etcd3Client:
        return self._connection(member.client_urls[0]).client
