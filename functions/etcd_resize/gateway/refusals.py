"""From what etcd, or gRPC on the way to it, says in an error to what that means for us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import etcd3
import grpc

from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.identity import User

_T = TypeVar("_T")

_FORBIDDEN = ("permission denied", "user name not found", "user not found")
"""Said to a user without the right, and to a certificate whose name is no user: with TLS that is the user's name."""
_NEEDED = "EtcdUser must name a user with etcd's role root, by which it lets members in and out"


def unwanted(details: str, user: User | None) -> str:
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


def translated(what: str, call: Callable[[], _T]) -> _T:
    """What the call gives. Refused or Retryable with ``what`` was tried and what etcd said to it."""
    try:
        return call()
    except (grpc.RpcError, etcd3.Etcd3Exception) as problem:
        details = brief(rpc_error(problem))
        meaning = next((kind for text, kind in _MEANINGS if text in details), Retryable)
        cure = f": {_NEEDED}" if any(said in details for said in _FORBIDDEN) else ""
        raise meaning(f"{what}: {details}{cure}") from problem


def rpc_error(problem: BaseException) -> grpc.RpcError:
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


def brief(problem: Any) -> str:
    """An error of gRPC's in a few words."""
    code, details = problem.code().name.lower().replace("_", " "), problem.details() or ""
    if problem.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    if problem.code() is grpc.StatusCode.UNAVAILABLE and "etcdserver" not in details:
        told = next((meaning for text, meaning in _TLS if text in details), "")
        return f"TLS: {told}" if told else "cannot be reached"
    return details.removeprefix("etcdserver: ") or code
