"""How a user's token gets into every call, against a server that says what etcd was measured to say.

``tests/integration/test_auth.py`` asks etcd itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from etcd3 import etcdrpc

from etcd_resize import membership_pb2 as wire
from etcd_resize.errors import Refused
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import Member
from etcd_resize.model.identity import User

SNAPSHOT = bytes(512) + hashlib.sha256(bytes(512)).digest()
ROOT = User("root", "s3cret words")
INVALID = grpc.StatusCode.INVALID_ARGUMENT
SERVING = wire.StatusResponse(leader=7, version="3.5.30")
SERVING.header.cluster_id, SERVING.header.member_id = 1, 7


@dataclass
class Server:
    """One voter, ID 7. ``tokens``: those it knows. ``seen``: the methods that were called, and the tokens."""

    enabled: bool = True
    learner: bool = False
    tokens: set[str] = field(default_factory=set)
    seen: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    forbidden: str = ""
    """What it says to a change, though the user is known."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """A handler for whatever is called, on messages as bytes."""
        name = details.method.rpartition("/")[2]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            token = dict(context.invocation_metadata()).get("token", "")
            self.seen.append((name, str(token)))
            return self._answer(name, request, str(token), context)

        if name == "Snapshot":
            return grpc.unary_stream_rpc_method_handler(lambda *call: iter([answer(*call)]))
        return grpc.unary_unary_rpc_method_handler(answer)

    def _answer(self, name: str, request: bytes, token: str, context: grpc.ServicerContext) -> bytes:
        if name == "Authenticate":
            return self._authenticate(etcdrpc.AuthenticateRequest.FromString(request), context)
        if name not in {"Status", "MemberList", "MoveLeader"} and self.enabled and token not in self.tokens:
            said = "invalid auth token" if token else "user name is empty"
            context.abort(grpc.StatusCode.UNAUTHENTICATED if token else INVALID, f"etcdserver: {said}")
        if name == "MemberAdd" and self.forbidden:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.forbidden)
        if name == "MemberList":
            listed = wire.MemberListResponse()
            listed.members.add(ID=7, name="m1", peerURLs=["http://127.0.0.1:2380"], clientURLs=[self.url])
            return bytes(listed.SerializeToString())
        if name == "Status":
            status = wire.StatusResponse()
            status.CopyFrom(SERVING)
            status.isLearner = self.learner
            return bytes(status.SerializeToString())
        return etcdrpc.SnapshotResponse(blob=SNAPSHOT).SerializeToString() if name == "Snapshot" else b""

    def _authenticate(self, request: Any, context: grpc.ServicerContext) -> bytes:
        if not self.enabled:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
        if (request.name, request.password) != (ROOT.name, ROOT.password):
            context.abort(INVALID, "etcdserver: authentication failed, invalid user ID or password")
        self.tokens.add(f"token.{len(self.seen)}")
        return bytes(etcdrpc.AuthenticateResponse(token=f"token.{len(self.seen)}").SerializeToString())

    def methods(self) -> list[str]:
        return [name for name, _ in self.seen]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    running = grpc.server(ThreadPoolExecutor(2))
    running.add_generic_rpc_handlers((made,))
    made.url = f"http://127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    running.start()
    yield made
    running.stop(None).wait()


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[User | None], EtcdGateway]]:
    made: list[EtcdGateway] = []

    def connected(user: User | None) -> EtcdGateway:
        made.append(EtcdGateway([server.url], user=user))
        return made[-1]

    yield connected
    for gateway in made:
        with closing(gateway):
            pass


Connect = Callable[[User | None], EtcdGateway]


def voter(gateway: EtcdGateway) -> Member:
    (member,) = gateway.view().voters
    return member


def test_one_token_goes_along_with_every_call_over_plaintext(server: Server, connect: Connect) -> None:
    gateway = connect(ROOT)
    member = voter(gateway)
    assert member.health.serving
    gateway.add_learner("http://127.0.0.2:2380")
    gateway.promote(member)
    gateway.remove(member)
    gateway.move_leader(member, member)
    assert list(gateway.snapshot(member)) == [SNAPSHOT]
    after = server.seen[server.methods().index("Authenticate") + 1 :]
    assert {name for name, _ in after} == {
        "Range", "MemberList", "MemberAdd", "MemberPromote", "MemberRemove", "MoveLeader", "Snapshot"
    }  # fmt: skip
    assert len({token for _, token in after} | server.tokens) == 1
    assert server.methods().count("Authenticate") == 1


def test_a_token_that_was_forgotten_is_asked_for_again(server: Server, connect: Connect) -> None:
    gateway = connect(ROOT)
    assert voter(gateway).health.serving
    server.tokens.clear()
    assert voter(gateway).health.serving
    assert server.methods().count("Authenticate") == 2


def test_a_server_that_forgets_every_token_is_not_asked_for_ever(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "tokens", _Forgetful())
    assert voter(connect(ROOT)).health.problem == "invalid auth token"
    assert server.methods().count("Authenticate") <= 3


class _Forgetful(set[str]):
    def add(self, element: str, /) -> None:
        """Not this one either."""


def test_where_auth_is_not_enabled_nothing_is_put_into_a_call(server: Server, connect: Connect) -> None:
    server.enabled = False
    gateway = connect(ROOT)
    assert voter(gateway).health.serving
    assert {token for _, token in server.seen} == {""}
    server.enabled = True
    assert voter(gateway).health.serving
    assert server.seen[-1][1]


def test_nobody_logs_in_without_credentials(server: Server, connect: Connect) -> None:
    with pytest.raises(Refused, match="give EtcdUser and EtcdPasswordSecret"):
        connect(None).view()
    assert "Authenticate" not in server.methods()


def test_a_learner_is_not_asked_for_a_token(server: Server, connect: Connect) -> None:
    server.learner = True
    assert connect(ROOT).view().members
    assert "Authenticate" not in server.methods()


def test_a_wrong_password_is_a_refusal_without_it(server: Server, connect: Connect) -> None:
    with pytest.raises(Refused, match="does not take the user root") as caught:
        connect(User("root", "another")).view()
    assert "another" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "said",
    ["etcdserver: permission denied", "etcdserver: user name not found", "auth: user not found"],
)
def test_who_may_not_change_the_membership_is_refused_at_once_with_what_to_do(
    server: Server, connect: Connect, said: str
) -> None:
    server.forbidden = said  # the second and third: with TLS, of a certificate whose name is no user
    gateway = connect(ROOT)
    gateway.view()
    with pytest.raises(Refused, match="EtcdUser must name a user with etcd's role root"):
        gateway.add_learner("http://127.0.0.2:2380")
