"""The decisions, on values alone: every rule of the plan of a resize, and the sentence that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcd_resize.errors import REASON_LIMIT
from etcd_resize.model.cluster import ClusterView, Health, Member, quorum
from etcd_resize.model.identity import Identity
from etcd_resize.model.steps import Remove
from etcd_resize.model.urls import client_url, peer_url
from etcd_resize.planning import (
    DEATH_SECONDS,
    HEALTH_PATIENCE,
    Progress,
    plan_check,
    plan_eviction,
    plan_join,
    plan_last_snapshot,
    plan_leave,
    plan_promotion,
    plan_release,
    plan_shrink,
)

FRESH = Progress()


def member(
    number: int, *, up: bool = True, learner: bool = False, started: bool = True, applied: int = 9
) -> Member:
    """``m<number>`` at 10.0.0.<number>; m1 leads."""
    address = f"10.0.0.{number}"
    return Member(
        id=number,
        name=f"m{number}" if started else "",
        peer_urls=(peer_url(address),),
        client_urls=(client_url(address),) if started else (),
        is_learner=learner,
        health=Health(serving=up, reachable=up, leader=1, applied=applied, version="3.5.16"),
    )


def cluster(*members: Member, alarms: tuple[str, ...] = ()) -> ClusterView:
    voters = [one for one in members if not one.is_learner]
    up = [one for one in voters if one.health.serving]
    return ClusterView(7, members, has_quorum=len(up) >= quorum(len(voters)), alarms=alarms)


def healthy(size: int) -> ClusterView:
    return cluster(*(member(number) for number in range(1, size + 1)))


def identity(number: int, name: str = "") -> Identity:
    return Identity("etcd", name or f"m{number}", f"10.0.0.{number}")


# --- quorum, the one number that all of it turns on ---


def test_quorum_is_a_majority() -> None:
    assert [quorum(voters) for voters in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


# --- joining ---


@pytest.mark.parametrize("size", range(1, 8))
def test_a_newcomer_is_always_added_as_a_learner(size: int) -> None:
    plan = plan_join(identity(9), healthy(size), FRESH, claimed=False)
    assert str(plan) == "join m9: add http://10.0.0.9:2380 as a learner"


def test_what_this_stack_added_before_is_not_added_again() -> None:
    view = cluster(member(1), member(9, started=False, learner=True))
    assert str(plan_join(identity(9), view, FRESH, claimed=True)) == "join m9: done"


def test_what_somebody_else_registered_at_the_peer_url_is_refused() -> None:
    view = cluster(member(1), member(9, started=False, learner=True))
    assert str(plan_join(identity(9), view, FRESH, claimed=False)) == (
        "join m9: refuse: http://10.0.0.9:2380 (9) is registered at http://10.0.0.9:2380 already, and not by this"
        " stack: remove that member first"
    )


def test_a_peer_url_taken_by_another_name_is_refused() -> None:
    plan = plan_join(identity(2, "etcd-2"), healthy(2), FRESH, claimed=True)
    assert str(plan) == (
        "join etcd-2: refuse: the peer URL http://10.0.0.2:2380 is taken by m2 (2), wanted for etcd-2: remove"
        " that member first"
    )


def test_a_name_taken_at_another_peer_url_is_refused() -> None:
    plan = plan_join(identity(9, "m1"), healthy(2), FRESH, claimed=False)
    assert str(plan) == (
        "join m1: refuse: the name m1 is taken by m1 (1) at http://10.0.0.1:2380: choose another ClusterName or"
        " remove that member"
    )


@pytest.mark.parametrize(
    ("view", "cause", "said"),
    [
        (cluster(member(1), member(2, up=False)), "no quorum", "bring back m2 (2)"),
        (cluster(member(1), member(2), member(3, up=False)), "unhealthy", "m3 (3) does not serve"),
        (
            cluster(member(1), member(2), member(3, up=False, started=False)),
            "unhealthy",
            "http://10.0.0.3:2380 (3) has not started",
        ),
        (cluster(member(1), member(2, learner=True)), "learner", "m2 (2) is a learner still"),
    ],
)
def test_a_join_waits_for_what_may_pass_and_no_longer(view: ClusterView, cause: str, said: str) -> None:
    (step,) = plan_join(identity(9), view, FRESH, claimed=False).steps
    assert (step.cause, step.patience) == (cause, HEALTH_PATIENCE)  # type: ignore[union-attr]
    assert said in str(step)


@pytest.mark.parametrize("kind", ["NOSPACE", "CORRUPT"])
def test_an_alarm_refuses_a_join_at_once(kind: str) -> None:
    view = cluster(member(1), alarms=(f"{kind} on m1 (1)",))
    assert str(plan_join(identity(9), view, FRESH, claimed=False)) == (
        f"join m9: refuse: alarm {kind} on m1 (1) is raised: clear its cause, disarm it, then resize again"
    )


# --- replacing ---


def test_a_member_is_replaced_by_one_of_its_name_that_joins_beside_it() -> None:
    plan = plan_join(identity(9, "m2"), healthy(3), FRESH, claimed=False, replaces=identity(2))
    assert str(plan) == "join m2: add http://10.0.0.9:2380 as a learner"


def test_a_dead_one_is_given_time_then_saved_and_removed_and_only_then_replaced() -> None:
    view = cluster(member(1), member(2, up=False), member(3))

    def plan(progress: Progress) -> str:
        return str(plan_join(identity(9, "m2"), view, progress, claimed=False, replaces=identity(2)))

    add = "add http://10.0.0.9:2380 as a learner"
    assert plan(FRESH) == (
        f"join m2: wait: m2 (2) does not serve: if it stays so, it is removed before its successor joins; {add}"
    )
    waited = Progress(waited_for="dead", waited=DEATH_SECONDS)
    assert plan(waited) == f"join m2: snapshot from m3 (3); remove m2 (2); {add}"
    assert plan(replace(waited, snapshot_taken=True)) == f"join m2: remove m2 (2); {add}"
    assert plan(replace(waited, waited_for="unhealthy")).startswith("join m2: wait: ")


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (cluster(member(1), member(2, up=False)), "if they are gone for good, restore a snapshot"),
        (
            cluster(member(1), member(2, up=False), member(3, up=False), member(4), member(5)),
            "m3 (3) does not serve: bring it back or remove it",
        ),
        (cluster(member(1), member(2, up=False), member(3), member(4, learner=True)), "m4 (4) is a learner"),
        (cluster(member(1), member(2, up=False), member(3), alarms=("NOSPACE on m1 (1)",)), "alarm NOSPACE"),
    ],
)
def test_a_dead_one_stays_if_its_successor_could_not_be_added_without_it(
    view: ClusterView, said: str
) -> None:
    waited = Progress(waited_for="dead", waited=DEATH_SECONDS, snapshot_taken=True)
    plan = plan_join(identity(9, "m2"), view, waited, claimed=False, replaces=identity(2))
    assert not isinstance(plan.steps[0], Remove)
    assert said in str(plan.steps[0])
    assert len(plan.steps[0].reason) <= REASON_LIMIT  # type: ignore[union-attr]


def test_those_that_were_replaced_may_leave_in_any_order() -> None:
    urls = [peer_url(f"10.0.0.{number}") for number in (4, 5, 6)]
    view = cluster(*(member(number, up=number != 4) for number in range(1, 7)))
    assert str(plan_shrink(view, FRESH, leaving=urls, in_order=False)) == (
        "let 3 go that were replaced: snapshot from m2 (2)"
    )
    down = cluster(member(1), member(2, up=False), member(3))
    urls = [peer_url("10.0.0.2"), peer_url("10.0.0.3")]
    assert "refuse" not in str(plan_shrink(down, FRESH, leaving=urls))
    assert "only 1 of 2 voters would serve" in str(plan_shrink(down, FRESH, leaving=urls, in_order=False))


def test_a_release_that_is_too_new_is_refused_before_it_joins() -> None:
    plan = plan_join(identity(9), healthy(3), FRESH, claimed=False, version="3.6.5")
    assert str(plan) == (
        "join m9: refuse: m9 cannot join: etcd 3.6.5 must not join 3.5.16, which does not keep its members"
        " as 3.6 reads them: move all members to 3.5.26 or a later 3.5 first"
    )


def test_a_learner_of_an_older_minor_does_not_get_a_vote() -> None:
    old = member(9, learner=True)
    old = replace(old, health=replace(old.health, version="3.4.23"))
    plan = plan_promotion(
        identity(9), cluster(member(1), old), FRESH, member_id=9, stabilization=0, instance="i-9"
    )
    assert str(plan) == (
        "make m9 a voter: refuse: m9 cannot vote: etcd 3.4.23 is older than the cluster's 3.5.16, and a downgrade is"
        " not supported"
    )


# --- promotion ---


def promotion(
    view: ClusterView, progress: Progress = FRESH, instance: str = "i-1", member_id: int = 3
) -> str:
    plan = plan_promotion(
        identity(3), view, progress, member_id=member_id, stabilization=5, instance=instance
    )
    return str(plan)


def test_a_learner_s_machine_is_protected_then_it_is_promoted_and_then_watched() -> None:
    view = cluster(member(1), member(2), member(3, learner=True))
    assert promotion(view) == (
        "make m3 a voter: protect the machine i-1; promote m3 (3); hold until m3 (3) has been healthy for the"
        " stabilization time"
    )
    assert promotion(view, Progress(protected=True)).startswith("make m3 a voter: promote m3 (3); hold")


def test_a_voter_that_has_been_healthy_for_long_enough_is_done_once_it_is_protected() -> None:
    assert promotion(healthy(3), Progress(healthy_for=5)).startswith(
        "make m3 a voter: protect the machine i-1"
    )
    assert promotion(healthy(3), Progress(healthy_for=5, protected=True)) == "make m3 a voter: done"
    assert promotion(healthy(3), Progress(healthy_for=5), instance="") == "make m3 a voter: done"


@pytest.mark.parametrize(
    ("newcomer", "said"),
    [
        (member(3, started=False, learner=True, up=False), "wait: the machine of m3 has not started etcd"),
        (member(3, learner=True, up=False), "wait: m3 (3) does not serve: no answer"),
    ],
)
def test_a_newcomer_that_does_not_serve_is_waited_for(newcomer: Member, said: str) -> None:
    assert promotion(cluster(member(1), member(2), newcomer)) == f"make m3 a voter: {said}"


def test_a_voter_s_machine_is_protected_also_when_it_does_not_serve() -> None:
    """Found by `make faults`: it died in the moment of its promotion, and the rollback terminated its machine."""
    view = cluster(member(1), member(2), member(3, up=False))
    assert promotion(view).startswith("make m3 a voter: protect the machine i-1")
    assert (
        promotion(view, Progress(protected=True)) == "make m3 a voter: wait: m3 (3) does not serve: no answer"
    )


def test_a_member_that_somebody_removed_or_replaced_is_not_promoted() -> None:
    assert promotion(healthy(2)) == (
        "make m3 a voter: refuse: m3 is not a member any more: somebody removed it"
    )
    assert "belongs to m3 (3) now: somebody replaced m3" in promotion(healthy(3), member_id=4)


# --- leaving ---


def leave(number: int, view: ClusterView, progress: Progress = FRESH, *, doomed: bool = False) -> str:
    plan = plan_leave(
        identity(number),
        view,
        progress,
        member_id=number,
        staying=[client_url("10.0.0.2")],
        instance=f"i-{number}",
        doomed=doomed,
    )
    return str(plan)


def test_a_follower_leaves_after_a_snapshot_and_its_machine_is_released_last() -> None:
    assert leave(3, healthy(3)) == (
        "take m3 out: snapshot from m2 (2); remove m3 (3); lift the protection of the machine i-3"
    )


def test_the_leader_hands_over_before_it_leaves_to_one_that_stays() -> None:
    view = cluster(member(1), member(2, applied=1), member(3))
    assert leave(1, view, Progress(snapshot_taken=True)) == (
        "take m1 out: move the leadership from m1 (1) to m2 (2); remove m1 (1);"
        " lift the protection of the machine i-1"
    )


def test_a_learner_leaves_without_ceremony() -> None:
    view = cluster(member(1), member(3, learner=True, up=False, started=False))
    assert leave(3, view) == (
        "take m3 out: remove http://10.0.0.3:2380 (3); lift the protection of the machine i-3"
    )


def test_one_that_is_out_already_only_has_its_machine_released() -> None:
    assert leave(3, healthy(2)) == "take m3 out: lift the protection of the machine i-3"
    assert leave(3, healthy(2), Progress(released=frozenset({"i-3"}))) == "take m3 out: done"


def test_another_member_at_the_same_peer_url_is_left_alone() -> None:
    stranger = replace(member(3), id=33)
    assert leave(3, cluster(member(1), member(2), stranger)) == (
        "take m3 out: lift the protection of the machine i-3"
    )


def test_nobody_leaves_while_the_rest_would_have_no_quorum() -> None:
    view = cluster(member(1), member(2, up=False), member(3))
    assert leave(3, view) == (
        "take m3 out: wait: without m3 (3) only 1 of 2 voters would serve, the quorum is 2: bring back m2 (2)"
    )


def test_a_dead_member_may_leave_when_the_rest_has_a_quorum() -> None:
    view = cluster(member(1), member(2), member(3, up=False))
    assert "remove m3 (3)" in leave(3, view)


def test_the_last_voter_is_never_removed_and_keeps_its_machine() -> None:
    assert "refuse: m1 (1) is the last voter" in leave(1, healthy(1))
    assert leave(1, healthy(1), doomed=True) == "take m1 out: lift the protection of the machine i-1"


def test_a_doomed_cluster_waits_for_nothing_but_leaves_in_order_while_it_can() -> None:
    assert leave(3, healthy(3), doomed=True) == (
        "take m3 out: remove m3 (3); lift the protection of the machine i-3"
    )
    broken = cluster(member(1), member(2, up=False), member(3, up=False))
    assert leave(3, broken, doomed=True) == "take m3 out: lift the protection of the machine i-3"


def test_release_asks_for_nothing_without_a_machine() -> None:
    assert plan_release(identity(3), FRESH).steps == ()


# --- eviction: the machine is gone, or never came ---


def evict(number: int, view: ClusterView, *, doomed: bool = False) -> str:
    return str(plan_eviction(identity(number), view, member_id=number, staying=[], doomed=doomed))


def test_a_voter_whose_leave_was_refused_and_that_still_serves_stays() -> None:
    assert evict(3, healthy(3)) == (
        "take m3 out: refuse: m3 (3) still serves: its leave was refused, so it stays a member of the cluster"
    )


def test_what_is_left_of_a_member_without_a_machine_is_removed() -> None:
    assert evict(3, cluster(member(1), member(2), member(3, up=False))) == "take m3 out: remove m3 (3)"
    pending = member(3, up=False, started=False, learner=True)
    assert evict(3, cluster(member(1), pending)) == "take m3 out: remove http://10.0.0.3:2380 (3)"
    assert evict(3, healthy(2)) == "take m3 out: done"


# --- the guard ---


def shrink(view: ClusterView, *leaving: int, progress: Progress = FRESH) -> str:
    urls = [peer_url(f"10.0.0.{number}") for number in leaving]
    return str(plan_shrink(view, progress, leaving=urls))


def test_a_safe_shrink_takes_a_snapshot_and_moves_the_leader_to_one_that_stays() -> None:
    assert shrink(healthy(5), 5, 4) == "shrink by 2: snapshot from m2 (2)"
    assert shrink(healthy(3), 3, 1, progress=Progress(snapshot_taken=True)) == (
        "shrink by 2: move the leadership from m1 (1) to m2 (2)"
    )


def test_a_shrink_is_refused_while_one_that_stays_is_down() -> None:
    view = cluster(member(1), member(2, up=False), member(3), member(4), member(5))
    assert shrink(view, 5, 4) == (
        "shrink by 2: wait: m2 (2) does not serve: bring it back or remove it, then resize again"
    )


def test_a_dead_member_that_leaves_is_no_obstacle() -> None:
    view = cluster(member(1), member(2), member(3, up=False))
    assert shrink(view, 3) == "shrink by 1: snapshot from m2 (2)"


def test_a_shrink_is_walked_through_removal_by_removal() -> None:
    # 5 -> 2 with m3 and m4 dead: removing m5, which is healthy, would leave two of four
    view = cluster(member(1), member(2), member(3, up=False), member(4, up=False), member(5))
    assert "without m5 (5) only 2 of 4 voters would serve, the quorum is 3" in shrink(view, 5, 4, 3)


def test_the_last_member_is_never_shrunk_away() -> None:
    assert (
        shrink(healthy(1), 1) == "shrink by 1: refuse: no voter would stay: the last member is never removed"
    )


def test_a_check_wants_everybody_well() -> None:
    assert str(plan_check(healthy(3), FRESH)) == "check the cluster: done"
    assert "m2 (2) does not serve" in str(
        plan_check(cluster(member(1), member(2, up=False), member(3)), FRESH)
    )


def test_the_last_snapshot_is_waited_for_while_there_is_no_quorum() -> None:
    assert str(plan_last_snapshot(healthy(3), FRESH)) == "take the last snapshot: snapshot from m2 (2)"
    assert (
        str(plan_last_snapshot(healthy(3), Progress(snapshot_taken=True))) == "take the last snapshot: done"
    )
    broken = cluster(member(1), member(2, up=False))
    assert "the cluster has no quorum: 1 of 2 voters answer, 2 are needed; bring back m2 (2)" in str(
        plan_last_snapshot(broken, FRESH)
    )


def test_every_sentence_fits_a_stack_event_with_ordinary_names() -> None:
    """Seven members down is the longest that a plan can say; errors.sentence() keeps what is longer whole."""
    down = cluster(*(member(number, up=False) for number in range(1, 4)))
    for plan in (plan_check(down, FRESH), plan_join(identity(9), down, FRESH, claimed=False)):
        assert len(plan.steps[0].reason) <= REASON_LIMIT  # type: ignore[union-attr]
