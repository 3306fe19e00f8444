"""CloudFormation's events, as they arrive: every property a string."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url

STACK = "arn:aws:cloudformation:eu-west-1:000000000000:stack/etcd-Member/4f2f7e10-0000-0000-0000-000000000000"
FUNCTION = "arn:aws:lambda:eu-west-1:000000000000:function:etcd-etcd-resize"
IMAGE = "ami-0123456789abcdef0"
WITHOUT_TLS = {"Tls": "off", "TlsGeneration": "1", "ExistingTlsBucketKey": ""}
WITH_TLS = {**WITHOUT_TLS, "Tls": "on"}

SETTINGS = {
    "Dialect": "cloud-init",
    "BaseUserData": "",
    "EtcdRelease": "",
    "EtcdImage": "",
    "ImageId": IMAGE,
    "InstanceType": "t4g.small",
    "VolumeSize": "20",
    "AutoCompactionMode": "periodic",
    "AutoCompactionRetention": "1h",
    "QuotaBackendBytes": "2147483648",
    "HeartbeatMilliseconds": "100",
    "ElectionMilliseconds": "1000",
}
"""What a machine is made with."""

TUNED = (
    ("ETCD_AUTO_COMPACTION_MODE", "periodic"),
    ("ETCD_AUTO_COMPACTION_RETENTION", "1h"),
    ("ETCD_QUOTA_BACKEND_BYTES", "2147483648"),
    ("ETCD_HEARTBEAT_INTERVAL", "100"),
    ("ETCD_ELECTION_TIMEOUT", "1000"),
)
"""What the stack's own parameters say where nobody changes them."""


def instance_of(identity: Identity) -> str:
    """A made-up instance ID that is the same for the same member."""
    return f"i-{int(identity.address.replace('.', '')):017x}"


def member_properties(identity: Identity, endpoints: str = "", **changes: str) -> dict[str, str]:
    """Those of a ``Custom::EtcdMember``."""
    return {
        **_common(identity, endpoints),
        **SETTINGS,
        "RestoreFrom": "",
        **changes,
    }


def voter_properties(
    identity: Identity, member_id: str, endpoints: str = "", **changes: str
) -> dict[str, str]:
    """Those of a ``Custom::EtcdVoter``."""
    return {
        **_common(identity, endpoints),
        "MemberId": member_id,
        "InstanceId": instance_of(identity),
        "StabilizationSeconds": "0",
        **changes,
    }


def cluster_properties(cluster: str, addresses: list[str], **changes: str) -> dict[str, str]:
    """Those of a ``Custom::EtcdCluster`` of the members at ``addresses``."""
    return {
        "ServiceToken": FUNCTION,
        "ServiceTimeout": "930",
        "ClusterName": cluster,
        "ClusterSize": str(len(addresses)),
        "Endpoints": ",".join(map(client_url, addresses)),
        "Bootstrapped": "true",
        **WITHOUT_TLS,
        "TimeoutSeconds": "20",
        **SETTINGS,
        **changes,
    }


def event(
    action: str,
    resource: str,
    properties: dict[str, str],
    *,
    physical_id: str | None = None,
    old: dict[str, str] | None = None,
    stack_id: str = STACK,
) -> dict[str, Any]:
    """One event."""
    made: dict[str, Any] = {
        "RequestType": action,
        "ResourceType": resource,
        "ResourceProperties": properties,
        "StackId": stack_id,
        "RequestId": str(uuid4()),
        "LogicalResourceId": resource.removeprefix("Custom::Etcd"),
        "ResponseURL": "https://127.0.0.1:9/answer",
    }
    if physical_id is not None:
        made["PhysicalResourceId"] = physical_id
    if old is not None:
        made["OldResourceProperties"] = old
    return made


def _common(identity: Identity, endpoints: str) -> dict[str, str]:
    return {
        "ServiceToken": FUNCTION,
        "ServiceTimeout": "930",
        "ClusterName": identity.cluster,
        "Name": identity.name,
        "Address": identity.address,
        "Endpoints": endpoints,
        "Bootstrapped": "true",
        **WITHOUT_TLS,
        "ProtectMachine": "true",
        "TimeoutSeconds": "20",
    }
