"""What each demo does, before anything is done; and what its pictures call two members of one name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcd_resize.model.cluster import ClusterView, Health, Member
from etcd_resize.model.urls import client_url, peer_url
from playground import images
from playground.local import Playground
from playground.steps import KINDS
from playground.timeline import Sighting, labelled, labels, spans
from tests.support.etcd import program

BLUE = "blue,blue,blue,blue,blue,blue,blue"
SERVING = Health(serving=True, leader=1)


def titles(kind: str, sizes: tuple[int, ...] = ()) -> list[str]:
    return [step.title for step in KINDS[kind].steps(sizes or KINDS[kind].sizes)]


def test_a_resize_goes_from_no_stack_to_no_stack_and_types_nothing_but_the_size() -> None:
    assert titles("resize") == [
        "create the stack with 1",
        *("grow 1 → 3", "grow 3 → 5", "shrink 5 → 3", "shrink 3 → 1"),
        "delete the stack",
    ]
    assert [step.parameters for step in KINDS["resize"].steps((1, 2))][:2] == [
        {"ClusterSize": "1"},
        {"ClusterSize": "2"},
    ]


def test_a_replacement_kills_the_first_machine_and_flips_its_colour_alone() -> None:
    steps = KINDS["replace"].steps((3,))
    assert [step.dies for step in steps] == [0, 1, 0]
    assert steps[1].parameters == {"ClusterSize": "3", "Members": BLUE.replace("blue", "green", 1)}
    assert titles("replace") == [
        "create the stack with 3",
        "etcd-1 dies, flip its colour",
        "delete the stack",
    ]


def test_an_upgrade_flips_all_to_another_image() -> None:
    create, flip, _ = KINDS["upgrade"].steps((3,))
    old, new = "/aws/service/debian/release/12/latest/arm64", "/aws/service/debian/release/13/latest/arm64"
    assert create.parameters == {"ClusterSize": "3", "ImageId": old}
    assert flip.parameters == {
        "ClusterSize": "3",
        "Members": BLUE.replace("blue", "green"),
        "ImageId": new,
    }
    assert (flip.title, flip.upgrades) == ("Debian 12 → 13: flip all 3", True)


def test_what_a_demo_shows_is_shown_at_the_last_of_the_sizes() -> None:
    assert titles("upgrade", (1, 2))[1:] == ["grow 1 → 2", "Debian 12 → 13: flip all 2", "delete the stack"]


@pytest.mark.parametrize(("debian", "etcd"), [(images.BOOKWORM, "3.4"), (images.TRIXIE, "3.5")])
def test_an_image_means_one_etcd(debian: images.Debian, etcd: str) -> None:
    others = {image for other in images.RELEASES if other != debian for image in other.images}
    assert debian.etcd == etcd
    assert debian.parameter("amd64") in images.PARAMETERS
    assert not others & set(debian.images)


def test_a_process_machine_runs_the_etcd_that_its_image_means_if_that_is_wanted(tmp_path: Path) -> None:
    wanted = {image: program(debian.etcd) for debian in images.RELEASES for image in debian.images}
    assert Playground(tmp_path, by_image=True)._sources() == wanted
    assert Playground(tmp_path)._sources() == {}


# ---- two of one name ----


def member(number: int, name: str, last: int) -> Member:
    address = f"10.0.0.{last}"
    return Member(number, name, (peer_url(address),), (client_url(address),), health=SERVING)


def view(*members: Member) -> ClusterView:
    return ClusterView(7, members, has_quorum=True)


OLD, NEW, NEWER, OTHER = (
    *(member(1, "etcd-1", 1), member(2, "etcd-1", 2), member(3, "etcd-1", 3)),
    member(4, "etcd-2", 4),
)
FLIPPED_TWICE = [view(OLD, OTHER), view(OLD, OTHER, NEW), view(OTHER, NEW), view(OTHER, NEW, NEWER)]


def test_two_of_one_name_are_told_apart_while_they_are_there_together() -> None:
    assert labels(FLIPPED_TWICE) == {
        "10.0.0.1": "etcd-1",
        "10.0.0.2": "etcd-1 (2)",
        "10.0.0.3": "etcd-1",
        "10.0.0.4": "etcd-2",
    }
    seen = Sighting.of(FLIPPED_TWICE[1], 5.0, labels(FLIPPED_TWICE))
    assert seen.roles == (("etcd-1", "leader"), ("etcd-1 (2)", "voter"), ("etcd-2", "voter"))


def test_a_dead_one_is_not_shown_though_it_is_a_member_still() -> None:
    dead = replace(OLD, health=Health(serving=False))
    assert Sighting.of(view(dead, OTHER), 5.0).roles == (("etcd-2", "voter"),)


def test_the_successor_of_a_dead_one_has_its_place() -> None:
    assert labels([view(OLD, OTHER), view(OTHER), view(OTHER, NEW)])["10.0.0.2"] == "etcd-1"


def event(at: float, request: str, kind: str, last: int) -> dict[str, Any]:
    physical = f"etcd/etcd-1@10.0.0.{last}"
    made = {"kind": "answer", "status": "SUCCESS", "resource": f"Custom::Etcd{kind}"}
    return {**made, "at": at, "request": request, "physical": physical}


def test_a_successor_is_a_learner_from_the_update_that_added_it_and_its_elder_out_with_the_delete() -> None:
    named = labels(FLIPPED_TWICE[:3])
    events = [
        event(0.5, "Create", "Member", 1),
        event(2.0, "Update", "Member", 1),  # the same member still: nothing is added
        event(10.0, "Update", "Member", 2),
        {"at": 10.2, "kind": "machine", "what": "start", "name": "etcd-1", "address": "10.0.0.2"},
        event(18.0, "Delete", "Voter", 1),
    ]
    told = labelled(events, named)
    assert [one.get("member") for one in told] == [None, None, "etcd-1 (2)", "etcd-1 (2)", None]
    seen = [
        Sighting.of(shown, at, named) for shown, at in zip(FLIPPED_TWICE[:3], (1.0, 11.0, 18.4), strict=True)
    ]
    bars = [
        (bar["role"], bar["begin"], bar["end"])
        for bar in spans(seen, told, 30.0)
        if bar["name"] == "etcd-1 (2)"
    ]
    assert bars == [("learner", 10.0, 11.0), ("voter", 11.0, 30.0)]
    assert [bar["end"] for bar in spans(seen, told, 30.0) if bar["name"] == "etcd-1"] == [18.0]
