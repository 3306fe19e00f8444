"""What a client shows a stack's cluster: the bundle that the stack's output ClientBundleCommand fetches, as a value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from etcd_resize.model.identity import Credentials
from etcd_resize.service.trust import CLIENT, CLIENT_FILES
from playground.local import Playground

Papers: TypeAlias = Callable[[], Credentials | None]
"""Asked when a member with TLS is to be reached; None while there is nothing to show."""


def none() -> Credentials | None:
    """The papers of those who speak without TLS."""
    return None


def of_stack(playground: Playground, stack: str, cluster: str = "") -> Papers:
    """The client bundle of a stack's cluster, which is called as the stack unless said otherwise.

    It is read once, as soon as it is there.
    """
    found: list[Credentials] = []

    def papers() -> Credentials | None:
        if not found:
            with contextlib.suppress(ClientError, BotoCoreError):
                found.append(_read(playground, stack, cluster or stack))
        return found[0] if found else None

    return papers


def as_files(credentials: Credentials, folder: Path) -> dict[str, str]:
    """The bundle as files in a folder, and the variables that lead ``etcdctl`` to them."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (credentials.authority, credentials.certificate, credentials.key)
    settings = {}
    for name, file, text in zip(("CACERT", "CERT", "KEY"), CLIENT_FILES, texts, strict=True):
        path = folder / file
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        settings[f"ETCDCTL_{name}"] = str(path)
    return settings


def bucket(playground: Playground, stack: str) -> str:
    """The stack's Snapshots bucket. Raises ClientError while there is none."""
    resource = playground.client("cloudformation").describe_stack_resource(
        StackName=stack, LogicalResourceId="Snapshots"
    )
    return str(resource["StackResourceDetail"]["PhysicalResourceId"])


def _read(playground: Playground, stack: str, cluster: str) -> Credentials:
    s3, name = playground.client("s3"), bucket(playground, stack)
    texts = [
        s3.get_object(Bucket=name, Key=f"{cluster}/{CLIENT}/{file}")["Body"].read().decode()
        for file in CLIENT_FILES
    ]
    return Credentials(*texts)
