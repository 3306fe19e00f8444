"""From CloudFormation's event to a frozen request: coercion and validation, all of it, at once.

Every property arrives as a string (CloudFormation turns numbers and booleans into them). Nothing
further in looks at a dictionary of strings again. This module asks nobody anything: no etcd, no AWS.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import ipaddress
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from etcd_resize.errors import InvalidRequest, quoted
from etcd_resize.model.identity import Identity, User
from etcd_resize.model.machine import TUNING, UNTUNED, Release
from etcd_resize.model.urls import is_tls
from etcd_resize.userdata import RENDERERS

MEMBER = "Custom::EtcdMember"
VOTER = "Custom::EtcdVoter"
CLUSTER = "Custom::EtcdCluster"

SMALLEST_CLUSTER, LARGEST_CLUSTER = 1, 7
"""etcd's advice is at most seven members (https://etcd.io/docs/v3.5/faq/)."""
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 5, 840
"""Seconds. The longest leaves a minute of Lambda's fifteen for the answer."""

_ACTIONS = ("Create", "Update", "Delete")
_OPTIONAL = "PhysicalResourceId"
_ENVELOPE = ("RequestType", "ResourceType", "StackId", "RequestId", "LogicalResourceId", _OPTIONAL)
_ENVELOPE_LIMIT = 512
"""Bytes of each of these; CloudFormation's are far shorter, and four of them go back in the answer."""

LEAST_QUOTA, MOST_QUOTA = 100 * 10**6, 8 * 1024**3
"""Bytes. etcd warns of more than 8 GiB at its start (https://etcd.io/docs/v3.5/dev-guide/limit/)."""
LEAST_HEARTBEATS, LONGEST_ELECTION = 5, 50_000
"""Heartbeats that an election's timeout must last, and milliseconds that it may: with others etcd does not start
(https://etcd.io/docs/v3.5/tuning/)."""
LARGEST_PORT = 65_535
BASE_USER_DATA_LIMIT = 65_536
"""Bytes of the user's own UserData, unpacked: more than EC2 takes, and little enough to be read in no time."""
_GZIP = b"\x1f\x8b"
_UNSPOKEN = "EtcdPassword"
"""The property whose value must not be in a sentence."""
_LATER = {
    "EtcdUser": "",
    _UNSPOKEN: "",
    "Tls": "off",
    "TlsGeneration": "1",
    "ExistingTlsBucketKey": "",
    **UNTUNED,
}
"""What a stack of an earlier version does not send: without these its Deletes would be of nothing."""

_clip = partial(quoted, limit=32)

Parser: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Trust:
    """With TLS, whose authority signs, and the how manieth set of certificates it is.

    ``adopted``: where the authority of a cluster lies that was there before, ``<bucket>/<key>``; empty for our own.
    """

    generation: int
    adopted: str


@dataclass(frozen=True)
class MemberProperties:
    """``Custom::EtcdMember``: who joins, through whom, and what its machine is frozen to.

    ``endpoints``: client URLs of the members before it; empty means that it bootstraps the cluster.
    ``bootstrapped``: whether the cluster belongs to this stack. ``timeout`` in seconds.
    ``base``: the user's own UserData, unpacked; empty if there is none. ``release`` and ``image``: where etcd
    comes from, if not from the distribution. ``tuning``: ``ETCD_*`` variables of the stack's own parameters.
    ``restore_from``: the snapshot that a bootstrap starts from, ``s3://bucket/key``; empty for no data.
    ``machine``: attributes that the answer repeats word for word for the life of the member.
    ``settings``: all that a machine is made with and keeps, in short, by property.
    ``trust``: None without TLS. ``user``: as whom the function asks etcd; None where etcd asks for nobody.
    """

    identity: Identity
    trust: Trust | None
    endpoints: tuple[str, ...]
    bootstrapped: bool
    dialect: str
    base: bytes
    release: Release | None
    image: str
    tuning: tuple[tuple[str, str], ...]
    protect: bool
    timeout: int
    machine: tuple[tuple[str, str], ...]
    restore_from: str
    settings: tuple[tuple[str, str], ...]
    user: User | None = None


@dataclass(frozen=True)
class VoterProperties:
    """``Custom::EtcdVoter``: the member to promote, its machine, and how long to watch it (seconds)."""

    identity: Identity
    trust: Trust | None
    endpoints: tuple[str, ...]
    bootstrapped: bool
    member_id: int
    instance: str
    protect: bool
    stabilization: int
    timeout: int
    user: User | None = None


@dataclass(frozen=True)
class ClusterProperties:
    """``Custom::EtcdCluster``: the size asked for, and the client URLs of those who are to stay.

    ``settings``: with what a machine would be made now.
    """

    cluster: str
    trust: Trust | None
    size: int
    endpoints: tuple[str, ...]
    bootstrapped: bool
    timeout: int
    settings: tuple[tuple[str, str], ...]
    user: User | None = None


Properties: TypeAlias = MemberProperties | VoterProperties | ClusterProperties


@dataclass(frozen=True)
class Request:
    """One event. ``old`` are the properties before an Update, None if they cannot be read.

    ``properties`` is None only for a Delete whose properties are wrong: what they describe was refused
    when it was to be created, so nothing of it exists.
    """

    action: str
    resource: str
    stack_id: str
    request_id: str
    logical_id: str
    previous_physical_id: str
    properties: Properties | None
    old: Properties | None = None

    @property
    def physical_id(self) -> str:
        """The ID for the answer: derived from the properties, so that it is known before any change.

        A Delete keeps the ID it came with; CloudFormation ignores any other.
        """
        if self.properties is None or self.action == "Delete":
            return self.previous_physical_id
        if isinstance(self.properties, ClusterProperties):
            return f"{self.properties.cluster}/cluster"
        return str(self.properties.identity)

    @property
    def secret(self) -> bool:
        """Whether the answer carries what opens a door: the URL of a member's key."""
        return isinstance(self.properties, MemberProperties) and self.properties.trust is not None

    @property
    def previous_identity(self) -> Identity | None:
        """The member that this resource stood for until now."""
        before = self.old or self.properties
        return Identity.parse(self.previous_physical_id, tls=bool(before and before.trust))


def answerable(event: object) -> dict[str, Any]:
    """The event with an envelope that crhelper can answer: its fields are there, and are strings of a sane length.

    CloudFormation's own events come back as they are. What is wrong with another one's envelope stands in
    ``EnvelopeProblem``, and ``parse`` refuses it. Raises InvalidRequest if there is nobody to answer.
    """
    url = event.get("ResponseURL") if isinstance(event, Mapping) else None
    if not isinstance(event, Mapping) or not isinstance(url, str) or not url.startswith("https://"):
        raise InvalidRequest("the event has no https ResponseURL, so nobody can be answered")
    wrong = [name for name in _ENVELOPE if not _is_text(event.get(name, "" if name == _OPTIONAL else None))]
    made: dict[str, Any] = {**event, **dict.fromkeys(wrong, "")}
    if made["RequestType"] not in _ACTIONS:
        wrong.append(f"RequestType {_clip(event.get('RequestType'))} is none of {', '.join(_ACTIONS)}")
        made["RequestType"] = "Create"  # crhelper answers only what it has a function for
    if wrong:
        made["EnvelopeProblem"] = f"this is no event of CloudFormation: {'; '.join(dict.fromkeys(wrong))}"
    return made


def parse(event: Mapping[str, Any]) -> Request:
    """The request in ``event``; raises InvalidRequest with all that is wrong in one sentence."""
    if "EnvelopeProblem" in event:
        raise InvalidRequest(event["EnvelopeProblem"])
    action, resource = event["RequestType"], event["ResourceType"]
    if resource not in _FIELDS:
        raise InvalidRequest(f"ResourceType {_clip(resource)} is none of {', '.join(_FIELDS)}")
    forgiving = action == "Delete"
    return Request(
        action=action,
        resource=resource,
        stack_id=event["StackId"],
        request_id=event["RequestId"],
        logical_id=event["LogicalResourceId"],
        previous_physical_id=event.get("PhysicalResourceId", ""),
        properties=(_properties_or_none if forgiving else _properties)(
            resource, event.get("ResourceProperties")
        ),
        old=_properties_or_none(resource, event.get("OldResourceProperties")),
    )


def _properties_or_none(resource: str, raw: object) -> Properties | None:
    try:
        return _properties(resource, raw)
    except InvalidRequest:
        return None


def _properties(resource: str, raw: object) -> Properties:
    if not isinstance(raw, Mapping):
        raise InvalidRequest(f"{resource}: ResourceProperties are missing")
    fields, build = _FIELDS[resource]
    given = {key: value for key, value in raw.items() if key not in {"ServiceToken", "ServiceTimeout"}}
    given = {name: value for name, value in _LATER.items() if name in fields} | given
    problems = []
    if missing := [name for name in fields if name not in given]:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown := [_with_suggestion(str(name), fields) for name in given if name not in fields]:
        problems.append(f"unknown: {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for name, parser in fields.items():
        if name in given:
            try:
                values[name] = parser(given[name])
            except ValueError as problem:
                told = name if name == _UNSPOKEN else f"{name} {_clip(given[name])}"
                problems.append(f"{told} {problem}")
    problems += _wrong_together(values)
    if problems:
        raise InvalidRequest(f"{resource}: {'; '.join(problems)}")
    return build(values)


def _wrong_together(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with properties that are each right by themselves; those that are not there are not judged."""
    problems = []
    if {"EtcdUser", _UNSPOKEN} <= values.keys() and bool(values["EtcdUser"]) != bool(values[_UNSPOKEN]):
        problems.append("EtcdUser and EtcdPasswordSecret go together: give both, or none")
    problems += _badly_tuned(values)
    tls, endpoints = values.get("Tls"), values.get("Endpoints")
    if tls is None or endpoints is None:
        return problems
    if unfit := [url for url in endpoints if is_tls(url) != tls]:
        is_on, cure = ("on", "set Tls=off for a cluster without TLS") if tls else ("off", "set Tls=on")
        problems.append(f"Endpoints has {_clip(unfit[0])} while Tls is {is_on}: {cure}")
    if adopted := values.get("ExistingTlsBucketKey"):
        if not tls:
            problems.append(f"ExistingTlsBucketKey {_clip(adopted)} is given while Tls is off")
        elif values.get("Bootstrapped"):
            problems.append(
                f"ExistingTlsBucketKey {_clip(adopted)} is for ExistingEndpoints: a new cluster has a new authority"
            )
    return problems


def _badly_tuned(values: Mapping[str, Any]) -> Iterator[str]:
    """etcd does not start with these, or would keep nothing of what was meant."""
    heartbeat, election = values.get("HeartbeatMilliseconds"), values.get("ElectionMilliseconds")
    if heartbeat and election and election < LEAST_HEARTBEATS * heartbeat:
        yield f"ElectionMilliseconds {election} is less than {LEAST_HEARTBEATS} HeartbeatMilliseconds of {heartbeat}"
    mode, kept = values.get("AutoCompactionMode"), values.get("AutoCompactionRetention", "0")
    if mode == "revision" and not kept.isdigit():
        yield f"AutoCompactionRetention {kept} is no number of revisions, which AutoCompactionMode asks for"
    if mode == "periodic" and kept.isdigit() and kept != "0":
        yield f"AutoCompactionRetention {kept} has no unit, as in 1h or 30m, which AutoCompactionMode asks for"


def _with_suggestion(name: str, fields: Mapping[str, Parser]) -> str:
    close = difflib.get_close_matches(name, fields, n=1)
    return f"{_clip(name)} ({close[0]}?)" if close else _clip(name)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value.encode(errors="replace")) <= _ENVELOPE_LIMIT


# --- one parser a form: the value, or ValueError with the rest of the sentence ----------------------


def _matching(pattern: str, form: str) -> Parser:
    compiled = re.compile(pattern)

    def parse_text(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"is not {form}")
        return value

    return parse_text


def _whole_number(low: int, high: int) -> Parser:
    def parse_number(value: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", str(value)) or not low <= int(value) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(value)

    return parse_number


def _boolean(value: Any) -> bool:
    if value not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return bool(value == "true")


def _on_or_off(value: Any) -> bool:
    if value not in ("on", "off"):
        raise ValueError("is neither on nor off")
    return bool(value == "on")


def _address(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ipaddress.AddressValueError as problem:
        raise ValueError("is not an IPv4 address") from problem


def _one_of(*choices: str) -> Parser:
    def parse_choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return str(value)

    return parse_choice


def _client_urls(value: Any) -> tuple[str, ...]:
    urls = [url.strip() for url in value.split(",")] if isinstance(value, str) else None
    if urls is None:
        raise ValueError("is not a comma separated list")
    for url in filter(None, urls):
        _check_client_url(url)
    return tuple(dict.fromkeys(filter(None, urls)))


def _some_client_urls(value: Any) -> tuple[str, ...]:
    urls = _client_urls(value)
    if not urls:
        raise ValueError("names no endpoint")
    return urls


def _check_client_url(url: str) -> None:
    form = re.fullmatch(r"https?://[A-Za-z0-9.-]{1,253}:([0-9]{1,5})", url)
    if not form or not 0 < int(form[1]) <= LARGEST_PORT:
        raise ValueError("is not of the form https://host:2379,https://host:2379")


def _member_id(value: Any) -> int:
    return int(_matching(r"[0-9a-f]{1,16}", "a member ID in hexadecimal")(value), 16)


def _release(value: Any) -> Release | None:
    form = re.fullmatch(r"(?:(https?://[!-~]{1,512})#sha256=([0-9a-f]{64}))?", str(value))
    if not form:
        raise ValueError("is not of the form https://host/etcd.tar.gz#sha256=<64 hexadecimal digits>")
    return Release(form[1], form[2]) if form[1] else None


def _base_user_data(value: Any) -> bytes:
    """Base64, because a parameter of a stack keeps no line breaks; what is in it may be gzipped."""
    try:
        data = base64.b64decode(str(value), validate=True)
    except ValueError as problem:  # binascii.Error is one
        raise ValueError("is not base64") from problem
    if not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(data, BASE_USER_DATA_LIMIT + 1)
    except zlib.error as problem:
        raise ValueError(f"is damaged gzip: {problem}") from problem
    if len(unpacked) > BASE_USER_DATA_LIMIT:
        raise ValueError(f"is over {BASE_USER_DATA_LIMIT} bytes when it is unpacked")
    if not unpacking.eof:
        raise ValueError("is damaged gzip: it ends too early")
    return unpacked


def _password(value: Any) -> str:
    """Of any form: a secret that has changed meanwhile must not make a Delete one of nothing."""
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004 — the form that all parsers share
    return value


_CLUSTER_NAME = _matching(r"[A-Za-z][A-Za-z0-9-]{0,31}", "a letter and up to 31 letters, digits or hyphens")
_MEMBER_NAME = _matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "up to 63 letters, digits, hyphens")
_TIMEOUT = _whole_number(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)

_TRUST: dict[str, Parser] = {
    "Tls": _on_or_off,
    "TlsGeneration": _whole_number(1, 9999),
    "ExistingTlsBucketKey": _matching(
        r"([a-z0-9][a-z0-9.-]{2,62}/[A-Za-z0-9!_.*'()/-]{1,256})?", "an object in a bucket, bucket/key"
    ),
}
_IDENTITY: dict[str, Parser] = {
    "ClusterName": _CLUSTER_NAME,
    "Name": _MEMBER_NAME,
    "Address": _address,
    **_TRUST,
}
_USER: dict[str, Parser] = {
    "EtcdUser": _matching(r"[A-Za-z0-9._@-]{0,64}", "up to 64 letters, digits or any of . _ @ -"),
    _UNSPOKEN: _password,
}
_MACHINE: dict[str, Parser] = {
    "ImageId": _matching(r"ami-[0-9a-f]{8,17}", "an image ID like ami-0123456789abcdef0"),
    "InstanceType": _matching(r"[a-z0-9-]+\.[a-z0-9-]+", "an instance type like t4g.small"),
    "VolumeSize": _whole_number(8, 16384),
}


_TUNING: dict[str, Parser] = {
    "AutoCompactionMode": _one_of("periodic", "revision"),
    "AutoCompactionRetention": _matching(
        r"0|[1-9][0-9]{0,3}[hm]|[1-9][0-9]{0,8}", "a time like 1h or 30m, a number of revisions, or 0"
    ),
    "QuotaBackendBytes": _whole_number(LEAST_QUOTA, MOST_QUOTA),
    "HeartbeatMilliseconds": _whole_number(10, LONGEST_ELECTION // LEAST_HEARTBEATS),
    "ElectionMilliseconds": _whole_number(10 * LEAST_HEARTBEATS, LONGEST_ELECTION),
}
_SETTINGS: dict[str, Parser] = {
    "Dialect": _one_of(*RENDERERS),
    "BaseUserData": _base_user_data,
    "EtcdRelease": _release,
    "EtcdImage": _matching(
        r"([A-Za-z0-9][A-Za-z0-9._:/-]{0,189}@sha256:[0-9a-f]{64})?",
        "an image with its digest, name@sha256:...",
    ),
    **_MACHINE,
    **_TUNING,
}


def _settings(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Short enough for a record: of the user's own document, which may hold a secret, only the digest."""
    base, release, trust = values["BaseUserData"], values["EtcdRelease"], _trust(values)
    return (
        ("Dialect", values["Dialect"]),
        ("BaseUserData", hashlib.sha256(base).hexdigest()[:16] if base else ""),
        ("EtcdRelease", f"{release.url}#sha256={release.sha256}" if release else ""),
        ("EtcdImage", values["EtcdImage"]),
        *((name, str(values[name])) for name in _MACHINE),
        ("TlsGeneration", str(trust.generation) if trust else ""),
        *((name, str(values[name])) for name in _TUNING),
    )


def _identity(values: Mapping[str, Any]) -> Identity:
    return Identity(values["ClusterName"], values["Name"], values["Address"], values["Tls"])


def _trust(values: Mapping[str, Any]) -> Trust | None:
    return Trust(values["TlsGeneration"], values["ExistingTlsBucketKey"]) if values["Tls"] else None


def _user(values: Mapping[str, Any]) -> User | None:
    return User(values["EtcdUser"], values[_UNSPOKEN]) if values["EtcdUser"] else None


def _member(values: Mapping[str, Any]) -> MemberProperties:
    return MemberProperties(
        identity=_identity(values),
        trust=_trust(values),
        endpoints=values["Endpoints"],
        bootstrapped=values["Bootstrapped"],
        dialect=values["Dialect"],
        base=values["BaseUserData"],
        release=values["EtcdRelease"],
        image=values["EtcdImage"],
        tuning=tuple((TUNING[name], str(values[name])) for name in _TUNING),
        protect=values["ProtectMachine"],
        timeout=values["TimeoutSeconds"],
        machine=tuple((name, str(values[name])) for name in _MACHINE),
        restore_from=values["RestoreFrom"],
        settings=_settings(values),
        user=_user(values),
    )


def _voter(values: Mapping[str, Any]) -> VoterProperties:
    return VoterProperties(
        identity=_identity(values),
        trust=_trust(values),
        endpoints=values["Endpoints"],
        bootstrapped=values["Bootstrapped"],
        member_id=values["MemberId"],
        instance=values["InstanceId"],
        protect=values["ProtectMachine"],
        stabilization=values["StabilizationSeconds"],
        timeout=values["TimeoutSeconds"],
        user=_user(values),
    )


def _cluster(values: Mapping[str, Any]) -> ClusterProperties:
    return ClusterProperties(
        cluster=values["ClusterName"],
        trust=_trust(values),
        size=values["ClusterSize"],
        endpoints=values["Endpoints"],
        bootstrapped=values["Bootstrapped"],
        timeout=values["TimeoutSeconds"],
        settings=_settings(values),
        user=_user(values),
    )


_FIELDS: dict[str, tuple[dict[str, Parser], Callable[[Mapping[str, Any]], Properties]]] = {
    MEMBER: (
        {
            **_IDENTITY,
            "Endpoints": _client_urls,
            "Bootstrapped": _boolean,
            "ProtectMachine": _boolean,
            "RestoreFrom": _matching(
                r"(s3://[a-z0-9][a-z0-9.-]{2,62}/[!-~]{1,512})?", "a snapshot like s3://bucket/key.db"
            ),
            "TimeoutSeconds": _TIMEOUT,
            **_SETTINGS,
            **_USER,
        },
        _member,
    ),
    VOTER: (
        {
            **_IDENTITY,
            "Endpoints": _client_urls,
            "Bootstrapped": _boolean,
            "MemberId": _member_id,
            "InstanceId": _matching(r"i-[0-9a-f]{8,17}", "an instance ID like i-0123456789abcdef0"),
            "ProtectMachine": _boolean,
            "StabilizationSeconds": _whole_number(0, 300),
            "TimeoutSeconds": _TIMEOUT,
            **_USER,
        },
        _voter,
    ),
    CLUSTER: (
        {
            "ClusterName": _CLUSTER_NAME,
            **_TRUST,
            "ClusterSize": _whole_number(SMALLEST_CLUSTER, LARGEST_CLUSTER),
            "Endpoints": _some_client_urls,
            "Bootstrapped": _boolean,
            "TimeoutSeconds": _TIMEOUT,
            **_SETTINGS,
            **_USER,
        },
        _cluster,
    ),
}
