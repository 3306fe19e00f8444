"""From CloudFormation's event to a frozen request: coercion and validation, all of it, at once.

Every property arrives as a string (CloudFormation turns numbers and booleans into them). Nothing
further in looks at a dictionary of strings again. This package asks nobody anything: no etcd, no AWS.

Here: the envelope. ``properties``: what each resource is given. ``forms``: what one property may look like. ``values``:
what it all becomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etcd_resize.errors import InvalidRequest
from etcd_resize.request.forms import clip
from etcd_resize.request.properties import (
    CLUSTER,
    FIELDS,
    LARGEST_CLUSTER,
    LONGEST_TIMEOUT,
    MEMBER,
    VOTER,
    properties,
)
from etcd_resize.request.values import (
    ClusterProperties,
    MemberProperties,
    Properties,
    Request,
    Trust,
    VoterProperties,
)

__all__ = [
    "CLUSTER",
    "LARGEST_CLUSTER",
    "LONGEST_TIMEOUT",
    "MEMBER",
    "VOTER",
    "ClusterProperties",
    "MemberProperties",
    "Properties",
    "Request",
    "Trust",
    "VoterProperties",
    "answerable",
    "parse",
]

_ACTIONS = ("Create", "Update", "Delete")
_OPTIONAL = "PhysicalResourceId"
_ENVELOPE = ("RequestType", "ResourceType", "StackId", "RequestId", "LogicalResourceId", _OPTIONAL)
_ENVELOPE_LIMIT = 512
"""Bytes of each of these; CloudFormation's are far shorter, and four of them go back in the answer."""


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
        wrong.append(f"RequestType {clip(event.get('RequestType'))} is none of {', '.join(_ACTIONS)}")
        made["RequestType"] = "Create"  # crhelper answers only what it has a function for
    if wrong:
        made["EnvelopeProblem"] = f"this is no event of CloudFormation: {'; '.join(dict.fromkeys(wrong))}"
    return made


def parse(event: Mapping[str, Any]) -> Request:
    """The request in ``event``; raises InvalidRequest with all that is wrong in one sentence."""
    if "EnvelopeProblem" in event:
        raise InvalidRequest(event["EnvelopeProblem"])
    action, resource = event["RequestType"], event["ResourceType"]
    if resource not in FIELDS:
        raise InvalidRequest(f"ResourceType {clip(resource)} is none of {', '.join(FIELDS)}")
    forgiving = action == "Delete"
    return Request(
        action=action,
        resource=resource,
        stack_id=event["StackId"],
        request_id=event["RequestId"],
        logical_id=event["LogicalResourceId"],
        previous_physical_id=event.get("PhysicalResourceId", ""),
        properties=(_properties_or_none if forgiving else properties)(
            resource, event.get("ResourceProperties")
        ),
        old=_properties_or_none(resource, event.get("OldResourceProperties")),
    )


def _properties_or_none(resource: str, raw: object) -> Properties | None:
    try:
        return properties(resource, raw)
    except InvalidRequest:
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value.encode(errors="replace")) <= _ENVELOPE_LIMIT
