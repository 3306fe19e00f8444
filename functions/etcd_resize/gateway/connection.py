"""The connection to one member: how it is made, what it shows, and as whom it asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import etcd3
import grpc
from etcd3 import etcdrpc

from etcd_resize.errors import Refused
from etcd_resize.gateway.refusals import brief, rpc_error, unwanted
from etcd_resize.model.identity import Credentials, User
from etcd_resize.model.urls import is_tls

PROBE_SECONDS = 1.5
"""How long one member may take to answer when it is looked at. An election takes about one second."""
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


class Connection:
    """The one to the member at ``url``: etcd3's client, the calls that it is too old for, and a user's token."""

    def __init__(self, url: str, credentials: Credentials | None, user: User | None) -> None:
        """It connects when it is first used. Raises Refused for TLS without credentials."""
        self._user, self._token = user, _Token()
        self.client = client(url, credentials, _CHANNEL_OPTIONS, PROBE_SECONDS)
        self.client.channel = grpc.intercept_channel(self.client.channel, self._token)
        self.client.kvstub = etcdrpc.KVStub(self.client.channel)
        self.client.clusterstub = etcdrpc.ClusterStub(self.client.channel)
        self.client.maintenancestub = etcdrpc.MaintenanceStub(self.client.channel)

    def call(self, path: str, request: Any, response: Any, timeout: float = PROBE_SECONDS) -> Any:
        """One of the calls that etcd3's own stubs are too old for; ``timeout`` in seconds. Raises grpc.RpcError."""
        call = self.client.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=timeout)

    def read(self, *, again: bool = True) -> str:
        """Empty if a linearizable read was answered, else what came instead. Refused if etcd wants another user.

        A token lasts for minutes, and not always through a restart: it is asked for ``again``, once.
        """
        try:
            if self._user and not self._token.value:
                self._token.value = self._authenticate(self._user)
            self.client.get_response(_PROBED_KEY)
        except (grpc.RpcError, etcd3.Etcd3Exception) as problem:
            error = rpc_error(problem)
            details = error.details() or ""
            if self._user is None and "permission denied" in details:
                return ""  # denied means that the cluster has agreed on it: a quorum answered
            if sentence := unwanted(details, self._user):
                raise Refused(sentence) from problem
            if "invalid auth token" in details:
                self._token.value = ""
                if again:
                    return self.read(again=False)
            return brief(error)
        return ""

    def _authenticate(self, user: User) -> str:
        """A token for the user; empty where auth is not enabled."""
        request = etcdrpc.AuthenticateRequest(name=user.name, password=user.password)
        try:
            answer = etcdrpc.AuthStub(self.client.channel).Authenticate(request, PROBE_SECONDS)
        except grpc.RpcError as problem:
            if "authentication is not enabled" in (problem.details() or ""):
                return ""
            raise
        return str(answer.token)

    def close(self) -> None:
        """Let go of it."""
        self.client.close()


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
