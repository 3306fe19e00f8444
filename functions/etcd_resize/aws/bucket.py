"""The journal, the snapshots and the vault, in one S3 bucket."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etcd_resize.aws.calls import CONFIG, cause, code
from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import Restoration
from etcd_resize.model.records import Accepted, ClusterRecord, MemberRecord
from etcd_resize.snapshot import check_head, verified

_REGIONAL = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
"""Else a presigned URL names the global host, which a subnet with nothing but an endpoint for S3 does not reach."""
URL_SECONDS = 3600
"""How long a machine may take to fetch its UserData: its promotion is waited for at most 840 s, and EC2 may be slow."""
BUNDLE_URL_SECONDS = 1800
"""How long a machine may take to fetch its key: twice what its promotion is waited for at the most."""
_PART_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}

_T = TypeVar("_T")


class Bucket:
    """The journal and the snapshots, in one S3 bucket.

    ``<cluster>/cluster.json``, ``<cluster>/members/<name>@<address>.json``,
    ``<cluster>/snapshots/<time>-r<revision>-<member>.db``, the same with ``last-`` before the time, and
    ``<cluster>/userdata/<name>@<address>-<sha256>``; with TLS also ``<cluster>/pki/`` and ``<cluster>/client/``, of
    which ``service.trust`` tells.
    """

    def __init__(self, name: str, kms_key: str = "") -> None:
        """``name`` of the bucket; ``kms_key`` encrypts the keys in it, else the bucket's own encryption does."""
        self._name = name
        self._kms_key = kms_key
        self._etags: dict[str, str] = {}
        """Of what was read last, by key; empty if there was nothing."""

    @cached_property
    def _s3(self) -> Any:
        return boto3.client("s3", config=CONFIG.merge(_REGIONAL))

    def member(self, identity: Identity) -> MemberRecord | None:
        """See ``Journal.member``."""
        stored = self._read(_member_key(identity))
        if not stored:
            return None
        settings = tuple((name, value) for name, value in stored.get("settings", ()))
        return MemberRecord(**{**stored, "answer": _pairs(stored["answer"]), "settings": settings})

    def recorded(self, cluster: str, address: str = "") -> list[tuple[Identity, MemberRecord]]:
        """See ``Journal.recorded``."""
        prefix, suffix = f"{cluster}/members/", f"@{address}.json" if address else ".json"
        keys = [item["Key"] for item in self._list(prefix)]
        names = [key.removeprefix(prefix).removesuffix(".json") for key in keys if key.endswith(suffix)]
        identities = [Identity.parse(f"{cluster}/{name}") for name in names]
        return [
            (identity, record) for identity in identities if identity and (record := self.member(identity))
        ]

    def record_member(self, identity: Identity, record: MemberRecord) -> None:
        """See ``Journal.record_member``."""
        self._write(_member_key(identity), _stored(record))

    def replace_member(self, identity: Identity, record: MemberRecord) -> bool:
        """See ``Journal.replace_member``: a conditional write, which S3 decides."""
        key = _member_key(identity)
        etag = self._etags.get(key)
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            self._write(key, _stored(record), **condition)
        except Refused as refused:
            if _overtaken(refused):
                return False
            raise
        return True

    def cluster(self, name: str) -> ClusterRecord | None:
        """See ``Journal.cluster``."""
        stored = self._read(_cluster_key(name))
        if not stored:
            return None
        accepted = tuple(
            Accepted(one["size"], tuple(one["endpoints"]), _pairs(one["answer"]))
            for one in stored["accepted"]
        )
        return ClusterRecord(**{**stored, "accepted": accepted})

    def record_cluster(self, name: str, record: ClusterRecord) -> None:
        """See ``Journal.record_cluster``."""
        accepted = [_stored(one) for one in record.accepted]
        self._write(_cluster_key(name), {**asdict(record), "accepted": accepted})

    def store(self, cluster: str, name: str, chunks: Iterable[bytes]) -> str:
        """See ``Snapshots.store``: in parts of 8 MiB, two at a time, so the memory stays small.

        What ``chunks`` raises ends the upload, and nothing is kept.
        """
        key = f"{cluster}/snapshots/{name}.db"
        transfer = TransferConfig(multipart_chunksize=_PART_BYTES, max_concurrency=2)
        self._asked(
            f"store {key}",
            lambda: self._s3.upload_fileobj(
                # buffered, because a part is what one read gives: a short one would be taken for the end of the file
                io.BufferedReader(_Stream(iter(chunks)), _PART_BYTES),
                self._name,
                key,
                Config=transfer,
            ),
        )
        return f"s3://{self._name}/{key}"

    def newest(self, cluster: str) -> float | None:
        """See ``Snapshots.newest``: by S3's own time."""
        stored = [item["LastModified"].timestamp() for item in self._list(f"{cluster}/snapshots/")]
        return max(stored, default=None)

    def keep(self, identity: Identity, document: bytes) -> str:
        """See ``Snapshots.keep``: the key has the document's sha256 in it, so that no other takes its place."""
        digest = hashlib.sha256(document).hexdigest()
        key = f"{identity.cluster}/userdata/{identity.name}@{identity.address}-{digest[:16]}"

        self._asked(f"keep {key}", lambda: self._s3.put_object(Bucket=self._name, Key=key, Body=document))
        return self._presigned(key, URL_SECONDS)

    def read(self, cluster: str, name: str) -> bytes | None:
        """See ``Vault.read``."""
        return self._get(f"{cluster}/{name}")

    def write(self, cluster: str, name: str, document: bytes, *, only_new: bool = False) -> None:
        """See ``Vault.write``: encrypted with the key of the stack, which few may use."""
        key = f"{cluster}/{name}"
        settings = {"IfNoneMatch": "*"} if only_new else {}
        if self._kms_key:
            settings |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._kms_key}
        try:
            self._asked(
                f"write {key}",
                lambda: self._s3.put_object(Bucket=self._name, Key=key, Body=document, **settings),
            )
        except Refused as refused:
            if not (only_new and _overtaken(refused)):
                raise

    def lend(self, cluster: str, name: str) -> str:
        """See ``Vault.lend``."""
        return self._presigned(f"{cluster}/{name}", BUNDLE_URL_SECONDS)

    def adopted(self, where: str) -> bytes | None:
        """See ``Vault.adopted``."""
        bucket, _, key = where.partition("/")
        return Bucket(bucket)._get(key)  # noqa: SLF001 - its own kind

    def _presigned(self, key: str, seconds: int) -> str:
        asked_for = {"Bucket": self._name, "Key": key}
        return self._asked(
            f"sign a URL of {key}",
            lambda: str(self._s3.generate_presigned_url("get_object", asked_for, ExpiresIn=seconds)),
        )

    def restorable(self, uri: str) -> Restoration:
        """See ``Snapshots.restorable``. Some small parts are read first, then all of it, in pieces of 1 MiB."""
        name, _, key = uri.removeprefix("s3://").partition("/")
        try:
            size = int(self._ranged(name, key, 0, 1)["ContentRange"].rpartition("/")[2])
            check_head(lambda offset, length: self._ranged(name, key, offset, length)["Body"].read(), size)
            digest = hashlib.sha256()
            for chunk in verified(
                self._s3.get_object(Bucket=name, Key=key)["Body"].iter_chunks(_CHUNK_BYTES)
            ):
                digest.update(chunk)
            url: str = self._s3.generate_presigned_url(
                "get_object", {"Bucket": name, "Key": key}, ExpiresIn=URL_SECONDS
            )
        except (ClientError, BotoCoreError) as problem:
            raise Refused(f"cannot read {uri}, is it there? {cause(problem)}") from problem
        except Retryable as problem:
            raise Refused(f"{uri} is damaged, its sha256 is another: take another snapshot") from problem
        except Refused as problem:
            raise Refused(f"cannot restore {uri}: {problem}") from problem
        return Restoration(url, digest.hexdigest())

    def _ranged(self, name: str, key: str, offset: int, length: int) -> Any:
        asked = f"bytes={offset}-{offset + length - 1}"
        return self._s3.get_object(Bucket=name, Key=key, Range=asked)

    def _read(self, key: str) -> dict[str, Any] | None:
        found = self._get(key)
        return json.loads(found) if found is not None else None

    def _get(self, key: str) -> bytes | None:
        def get() -> bytes | None:
            try:
                found = self._s3.get_object(Bucket=self._name, Key=key)
            except self._s3.exceptions.NoSuchKey:
                self._etags[key] = ""
                return None
            self._etags[key] = found["ETag"]
            return bytes(found["Body"].read())

        return self._asked(f"read {key}", get)

    def _write(self, key: str, record: Mapping[str, object], **condition: str) -> None:
        body = json.dumps(record, indent=1, sort_keys=True).encode()
        self._asked(
            f"write {key}",
            lambda: self._s3.put_object(
                Bucket=self._name, Key=key, Body=body, ContentType="application/json", **condition
            ),
        )

    def _list(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._s3.get_paginator("list_objects_v2")
        return self._asked(
            f"list {prefix}",
            lambda: [
                item
                for page in pages.paginate(Bucket=self._name, Prefix=prefix)
                for item in page.get("Contents", [])
            ],
        )

    def _asked(self, what: str, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except (ClientError, BotoCoreError) as problem:
            raise Refused(f"cannot {what} in the bucket {self._name}: {cause(problem)}") from problem


class _Stream(io.RawIOBase):
    """Chunks as a file that can only be read forward."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _overtaken(refused: Refused) -> bool:
    """Whether a conditional write came too late."""
    return isinstance(refused.__cause__, ClientError) and code(refused.__cause__) in _OVERTAKEN


def _member_key(identity: Identity) -> str:
    return f"{identity.cluster}/members/{identity.name}@{identity.address}.json"


def _cluster_key(name: str) -> str:
    return f"{name}/cluster.json"


def _stored(answered: MemberRecord | Accepted) -> dict[str, Any]:
    """As JSON has it; ``_pairs`` reads its answer again."""
    return {**asdict(answered), "answer": dict(answered.answer)}


def _pairs(stored: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(stored.items())
