"""Who is who: a member for CloudFormation, the function and its user for the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

from etcd_resize.model.urls import client_url, peer_url


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
class Credentials:
    """What a client shows a cluster with TLS, and by what it knows the members: three texts in PEM.

    ``authority``: the certificate of the cluster's authority. The key is in no representation of it.
    """

    authority: str
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class User:
    """A user of etcd's own. The password is in no text of this value."""

    name: str
    password: str = field(repr=False)
