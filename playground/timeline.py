"""Who was what, and when: the bars of the timeline, from what was seen of the cluster and what was answered.

Pure functions of values. Times are seconds since the run began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.urls import host_of
from playground.observer import role

LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Sighting:
    """The members by name at one moment, each ``learner``, ``voter`` or ``leader``; good until the next one."""

    at: float
    roles: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, view: ClusterView, at: float, labels: Mapping[str, str] = MappingProxyType({})) -> Sighting:
        """What a view shows: those that serve, and none without a name, which has not said a word yet.

        ``labels`` by address, where a member is called otherwise than by its name.
        """
        roles = {
            labels.get(_address(member), member.name): LEADER if member == view.leader else role(member)
            for member in view.members
            if member.health.serving and member.name
        }
        return cls(at, tuple(sorted(roles.items())))


def labels(views: Iterable[ClusterView]) -> dict[str, str]:
    """What members are called in the picture, by address: their name, or ``NAME (2)`` beside another of that name.

    A member that is replaced and its successor have one name until the clean-up.
    """
    found: dict[str, str] = {}
    for view in views:
        for member in view.members:
            address = _address(member)
            if not member.name or address in found:
                continue
            beside = {found.get(_address(other)) for other in view.members if other != member}
            found[address] = f"{member.name} (2)" if member.name in beside else member.name
    return found


def labelled(events: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The events, with ``member`` where one is called otherwise than by its name."""
    found = []
    for event in events:
        name = member_name(event)
        label = labels.get(str(event.get("address") or str(event.get("physical")).rpartition("@")[2]), name)
        found.append({**event, **({"member": label} if label != name else {})})
    return found


def _address(member: Member) -> str:
    return host_of(member.peer_urls[0])


@dataclass(frozen=True, slots=True)
class Span:
    """A member was ``role`` from ``begin`` to ``end``."""

    name: str
    role: str
    begin: float
    end: float


def spans(
    sightings: Sequence[Sighting], events: Iterable[Mapping[str, Any]], end: float
) -> list[dict[str, Any]]:
    """The members' bars, each with the keys of a ``Span``, in order of their begin.

    A learner may come and be promoted between two looks at the cluster: the answer to its Create says when it was
    added, the answer to its Voter's Delete when it was out.
    """
    added, removed = _answered(events)
    found: list[Span] = []
    ends = [*(sighting.at for sighting in sightings), end][1:]
    for sighting, until in zip(sightings, ends, strict=True):
        for name, what in sighting.roles:
            found = _extended(found, Span(name, what, sighting.at, until))
    first = sightings[0].at if sightings else 0.0
    return [
        {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(span).items()}
        for span in sorted(
            (
                part
                for span in found
                for part in _with_answers(span, found, added, removed, alone=span.begin <= first)
            ),
            key=lambda span: (span.begin, span.name),
        )
    ]


def _extended(found: list[Span], span: Span) -> list[Span]:
    """``found`` with one more span, which is put to the one before it if nothing has changed."""
    for place, before in enumerate(found):
        if (before.name, before.role, before.end) == (span.name, span.role, span.begin):
            return [*found[:place], replace(before, end=span.end), *found[place + 1 :]]
    return [*found, span]


def _with_answers(
    span: Span,
    found: Sequence[Span],
    added: Mapping[str, Sequence[float]],
    removed: Mapping[str, Sequence[float]],
    *,
    alone: bool,
) -> list[Span]:
    """One sighted span, its begin and its end made exact by the answers; with the learner's before it."""
    mine = [other for other in found if other.name == span.name and other is not span]
    if not any(other.begin == span.end for other in mine):
        out = next((at for at in removed.get(span.name, ()) if span.begin < at < span.end), None)
        span = replace(span, end=out or span.end)
    if alone or any(other.end == span.begin for other in mine):
        return [span]
    last = max((other.end for other in mine if other.end <= span.begin), default=0.0)
    joined = next((at for at in added.get(span.name, ()) if last <= at < span.begin), None)
    return [span] if joined is None else [Span(span.name, "learner", joined, span.begin), span]


def _answered(events: Iterable[Mapping[str, Any]]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """When members were added and removed, by name. An Update with another physical ID adds its successor."""
    added: dict[str, list[float]] = {}
    removed: dict[str, list[float]] = {}
    known: set[str] = set()
    for event in events:
        if event.get("kind") != "answer" or event.get("status") != "SUCCESS":
            continue
        request, resource, physical = event.get("request"), event.get("resource"), str(event.get("physical"))
        name = member_name(event)
        if resource == "Custom::EtcdMember" and request != "Delete":
            if request == "Create" or physical not in known:
                added.setdefault(name, []).append(event["at"])
            known.add(physical)
        elif (request, resource) == ("Delete", "Custom::EtcdVoter"):
            removed.setdefault(name, []).append(event["at"])
    return added, removed


def member_name(event: Mapping[str, Any]) -> str:
    """The member's name in a physical ID like ``etcd/etcd-2@10.0.0.2``; a machine's event has it as it is.

    ``member`` is what it is called in the picture, if that is another.
    """
    if named := event.get("member") or event.get("name"):
        return str(named)
    return str(event.get("physical") or event.get("logical") or "").rpartition("/")[2].partition("@")[0]
