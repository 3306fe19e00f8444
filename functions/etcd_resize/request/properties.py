"""What each resource is given: its fields with their forms, and what is wrong with them together."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity, User
from etcd_resize.model.machine import TUNING, UNTUNED
from etcd_resize.model.urls import is_tls
from etcd_resize.request import forms
from etcd_resize.request.forms import Parser, clip
from etcd_resize.request.values import ClusterProperties, MemberProperties, Properties, Trust, VoterProperties
from etcd_resize.userdata import RENDERERS

MEMBER = "Custom::EtcdMember"
VOTER = "Custom::EtcdVoter"
CLUSTER = "Custom::EtcdCluster"

SMALLEST_CLUSTER, LARGEST_CLUSTER = 1, 7
"""etcd's advice is at most seven members (https://etcd.io/docs/v3.5/faq/)."""
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 5, 840
"""Seconds. The longest leaves a minute of Lambda's fifteen for the answer."""

LEAST_QUOTA, MOST_QUOTA = 100 * 10**6, 8 * 1024**3
"""Bytes. etcd warns of more than 8 GiB at its start (https://etcd.io/docs/v3.5/dev-guide/limit/)."""
LEAST_HEARTBEATS, LONGEST_ELECTION = 5, 50_000
"""Heartbeats that an election's timeout must last, and milliseconds that it may: with others etcd does not start
(https://etcd.io/docs/v3.5/tuning/)."""
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


def properties(resource: str, raw: object) -> Properties:
    """What is in an event's properties; raises InvalidRequest with all that is wrong."""
    if not isinstance(raw, Mapping):
        raise InvalidRequest(f"{resource}: ResourceProperties are missing")
    fields, build = FIELDS[resource]
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
                told = name if name == _UNSPOKEN else f"{name} {clip(given[name])}"
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
        problems.append(f"Endpoints has {clip(unfit[0])} while Tls is {is_on}: {cure}")
    if adopted := values.get("ExistingTlsBucketKey"):
        if not tls:
            problems.append(f"ExistingTlsBucketKey {clip(adopted)} is given while Tls is off")
        elif values.get("Bootstrapped"):
            problems.append(
                f"ExistingTlsBucketKey {clip(adopted)} is for ExistingEndpoints: a new cluster has a new authority"
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
    return f"{clip(name)} ({close[0]}?)" if close else clip(name)


# --- the fields of each resource, and what is made of them -------------------------------------------

_CLUSTER_NAME = forms.matching(
    r"[A-Za-z][A-Za-z0-9-]{0,31}", "a letter and up to 31 letters, digits or hyphens"
)
_MEMBER_NAME = forms.matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "up to 63 letters, digits, hyphens")
_TIMEOUT = forms.whole_number(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)

_TRUST: dict[str, Parser] = {
    "Tls": forms.on_or_off,
    "TlsGeneration": forms.whole_number(1, 9999),
    "ExistingTlsBucketKey": forms.matching(
        r"([a-z0-9][a-z0-9.-]{2,62}/[A-Za-z0-9!_.*'()/-]{1,256})?", "an object in a bucket, bucket/key"
    ),
}
_IDENTITY: dict[str, Parser] = {
    "ClusterName": _CLUSTER_NAME,
    "Name": _MEMBER_NAME,
    "Address": forms.address,
    **_TRUST,
}
_USER: dict[str, Parser] = {
    "EtcdUser": forms.matching(r"[A-Za-z0-9._@-]{0,64}", "up to 64 letters, digits or any of . _ @ -"),
    _UNSPOKEN: forms.password,
}
_MACHINE: dict[str, Parser] = {
    "ImageId": forms.matching(r"ami-[0-9a-f]{8,17}", "an image ID like ami-0123456789abcdef0"),
    "InstanceType": forms.matching(r"[a-z0-9-]+\.[a-z0-9-]+", "an instance type like t4g.small"),
    "VolumeSize": forms.whole_number(8, 16384),
}
_TUNING: dict[str, Parser] = {
    "AutoCompactionMode": forms.one_of("periodic", "revision"),
    "AutoCompactionRetention": forms.matching(
        r"0|[1-9][0-9]{0,3}[hm]|[1-9][0-9]{0,8}", "a time like 1h or 30m, a number of revisions, or 0"
    ),
    "QuotaBackendBytes": forms.whole_number(LEAST_QUOTA, MOST_QUOTA),
    "HeartbeatMilliseconds": forms.whole_number(10, LONGEST_ELECTION // LEAST_HEARTBEATS),
    "ElectionMilliseconds": forms.whole_number(10 * LEAST_HEARTBEATS, LONGEST_ELECTION),
}
_SETTINGS: dict[str, Parser] = {
    "Dialect": forms.one_of(*RENDERERS),
    "BaseUserData": forms.base_user_data,
    "EtcdRelease": forms.release,
    "EtcdImage": forms.matching(
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


FIELDS: dict[str, tuple[dict[str, Parser], Callable[[Mapping[str, Any]], Properties]]] = {
    MEMBER: (
        {
            **_IDENTITY,
            "Endpoints": forms.client_urls,
            "Bootstrapped": forms.boolean,
            "ProtectMachine": forms.boolean,
            "RestoreFrom": forms.matching(
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
            "Endpoints": forms.client_urls,
            "Bootstrapped": forms.boolean,
            "MemberId": forms.member_id,
            "InstanceId": forms.matching(r"i-[0-9a-f]{8,17}", "an instance ID like i-0123456789abcdef0"),
            "ProtectMachine": forms.boolean,
            "StabilizationSeconds": forms.whole_number(0, 300),
            "TimeoutSeconds": _TIMEOUT,
            **_USER,
        },
        _voter,
    ),
    CLUSTER: (
        {
            "ClusterName": _CLUSTER_NAME,
            **_TRUST,
            "ClusterSize": forms.whole_number(SMALLEST_CLUSTER, LARGEST_CLUSTER),
            "Endpoints": forms.some_client_urls,
            "Bootstrapped": forms.boolean,
            "TimeoutSeconds": _TIMEOUT,
            **_SETTINGS,
            **_USER,
        },
        _cluster,
    ),
}
