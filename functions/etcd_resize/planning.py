"""The decisions: from the cluster as it was seen, and a request, to a plan. PURE.

Values in, values out: no clock, no network, no logging. Every function can be called again after every
step, and says what is left to do; so a repeated event, a retry and a crash in the middle all go the same
way. The rules are etcd's own, where they are not obvious the source is named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from etcd_resize import versions
from etcd_resize.model.cluster import UNHEALTHY_ALARMS, ClusterView, Member, quorum
from etcd_resize.model.identity import Identity
from etcd_resize.model.records import Ghost, MemberRecord
from etcd_resize.model.steps import (
    AddLearner,
    Defragment,
    Hold,
    MoveLeader,
    Plan,
    Promote,
    Protect,
    Refuse,
    Remove,
    Revoke,
    Snapshot,
    Step,
    Unprotect,
    Wait,
)

HEALTH_PATIENCE = 30.0
"""Seconds that a resize waits for members that do not serve, for a quorum, or for a stranger's learner.

An election takes one to two seconds, a restarted member some more; what lasts longer needs a person.
"""
DEATH_SECONDS = 10.0
"""Seconds without service after which a member that is to be replaced counts as dead, and is removed first.

Longer than a restart of etcd. One that comes back later has lost nothing: the rest has a quorum without it.
"""


@dataclass(frozen=True)
class Progress:
    """What this event has done and seen so far. Nothing of it is kept between events.

    ``released``: the machines whose protection was lifted. ``healthy_for``: seconds for which the new voter
    has served without a break. ``defragmented``: the IDs of those who have been. ``waited``: seconds for which
    ``waited_for`` has been the cause of all waiting.
    """

    snapshot_taken: bool = False
    protected: bool = False
    released: frozenset[str] = frozenset()
    healthy_for: float = 0.0
    defragmented: frozenset[int] = frozenset()
    waited_for: str = ""
    waited: float = 0.0


# --- joining ---------------------------------------------------------------------------------------


def plan_join(
    identity: Identity,
    view: ClusterView,
    progress: Progress,
    *,
    claimed: bool,
    ghosts: Sequence[Ghost] = (),
    replaces: Identity | None = None,
    version: str = "",
) -> Plan:
    """How ``identity`` becomes a learner of the cluster.

    ``claimed``: the journal says that what is registered under this peer URL was added by this stack.
    ``ghosts``: what earlier lives of the same member have left behind, and must be out first.
    ``replaces``: the member whose place it takes. It votes until the clean-up, unless it is dead: then it is removed
    first, because etcd admits nobody while a voter is down. ``version``: of the newcomer's etcd, if it is known yet.

    Always a learner first: a voter that does not start takes the quorum of a cluster of one away at once
    (https://etcd.io/docs/v3.5/learning/design-learner/).
    """
    goal = f"join {identity.name}"
    registered = view.at(identity.peer_url)
    if registered is not None:
        return Plan(goal, _known_member(identity, registered, claimed=claimed))
    if eviction := _ghosts_out(view, progress, ghosts):
        return Plan(goal, (*eviction, AddLearner(identity)))
    if unfit := versions.obstacle(version, _versions(view)):
        return Plan(goal, (Refuse(f"{identity.name} cannot join: {unfit}"),))
    old = view.at(replaces.peer_url) if replaces else None
    namesake = next((one for one in view.members if one.name == identity.name and one != old), None)
    if namesake is not None:
        reason = (
            f"the name {identity.name} is taken by {namesake.label} at {namesake.peer_urls[0]}:"
            " choose another ClusterName or remove that member"
        )
        return Plan(goal, (Refuse(reason),))
    if old and not old.health.serving:
        return Plan(goal, (*_dead_one_out(view, progress, old), AddLearner(identity)))
    obstacle = _no_quorum(view) or _alarm(view) or _pending_learner(view) or _unhealthy(view.voters)
    return Plan(goal, (obstacle or AddLearner(identity),))


def _dead_one_out(view: ClusterView, progress: Progress, old: Member) -> tuple[Step, ...]:
    """The removal of a dead member, if its successor can then be added: else it is better to leave all as it is."""
    without = replace(view, members=tuple(member for member in view.members if member != old))
    if lost := _no_quorum(view):
        way_out = f"{lost.reason}; if they are gone for good, restore a snapshot: nobody can be replaced now"
        return (replace(lost, reason=way_out),)
    if obstacle := _alarm(view) or _pending_learner(without) or _unhealthy(without.voters):
        return (obstacle,)
    if progress.waited_for != "dead" or progress.waited < DEATH_SECONDS:
        return (
            Wait(
                "dead",
                f"{old.label} does not serve: if it stays so, it is removed before its successor joins",
            ),
        )
    snapshot = () if progress.snapshot_taken else (Snapshot(_snapshot_source(view, avoid=old)),)
    return (*snapshot, Remove(old))


def _known_member(identity: Identity, registered: Member, *, claimed: bool) -> tuple[Step, ...]:
    if registered.started and registered.name != identity.name:
        reason = (
            f"the peer URL {identity.peer_url} is taken by {registered.label}, wanted for {identity.name}:"
            " remove that member first"
        )
        return (Refuse(reason),)
    if not claimed:
        reason = (
            f"{registered.label} is registered at {identity.peer_url} already, and not by this stack:"
            " remove that member first"
        )
        return (Refuse(reason),)
    return ()


def plan_promotion(
    identity: Identity,
    view: ClusterView,
    progress: Progress,
    *,
    member_id: int,
    stabilization: float,
    instance: str,
) -> Plan:
    """How the member becomes a voter whose machine is protected (``instance`` empty: leave it).

    ``stabilization`` in seconds. The machine is protected just before the promotion, when the learner serves:
    a machine that never came up rolls back freely, and there is no moment in which a voter's machine could be
    terminated, whatever dies in between. A learner's Delete lifts the protection again.
    """
    goal = f"make {identity.name} a voter"
    member = view.at(identity.peer_url)
    if member is None or member.id != member_id:
        return Plan(goal, (_gone(identity, member),))
    protection = (Protect(instance),) if instance and not progress.protected else ()
    if protection and not member.is_learner:
        # somebody else promoted it, or it bootstraps: serving or not, its machine has part of the quorum
        return Plan(goal, (*protection, Hold(member)))
    if not member.health.serving:
        return Plan(goal, (_newcomer_down(identity, member),))
    if member.is_learner and (unfit := versions.obstacle(member.health.version, _versions(view))):
        return Plan(goal, (Refuse(f"{identity.name} cannot vote: {unfit}"),))
    if blocked := _no_quorum(view):
        return Plan(goal, (replace(blocked, patience=float("inf")),))
    steps: list[Step] = [*protection, Promote(member)] if member.is_learner else []
    if member.is_learner or progress.healthy_for < stabilization:
        steps.append(Hold(member))
    return Plan(goal, tuple(steps))


def _gone(identity: Identity, other: Member | None) -> Refuse:
    if other is None:
        return Refuse(f"{identity.name} is not a member any more: somebody removed it")
    return Refuse(f"{identity.peer_url} belongs to {other.label} now: somebody replaced {identity.name}")


def _versions(view: ClusterView) -> list[str]:
    return [member.health.version for member in view.voters]


def _newcomer_down(identity: Identity, member: Member) -> Wait:
    if not member.started:
        return Wait("unstarted", f"the machine of {identity.name} has not started etcd")
    problem = member.health.problem or "no answer"
    return Wait("not serving", f"{member.label} does not serve: {problem}")


# --- leaving ---------------------------------------------------------------------------------------


def plan_release(identity: Identity, progress: Progress, *, instance: str = "") -> Plan:
    """Let the machine go, and nothing else: the member is out, or its whole cluster is given up."""
    release = (Unprotect(instance),) if instance and instance not in progress.released else ()
    return Plan(f"take {identity.name} out", release)


def plan_leave(
    identity: Identity,
    view: ClusterView,
    progress: Progress,
    *,
    member_id: int,
    staying: Collection[str],
    instance: str = "",
    doomed: bool = False,
    patience: float = float("inf"),
) -> Plan:
    """How the member leaves before its machine goes: snapshot, leadership, removal, protection.

    ``member_id`` 0: any ID under its peer URL. ``staying``: client URLs of members that will not be removed
    soon, preferred as the next leader. ``doomed``: the whole cluster is being deleted with its stack, so
    nothing is waited for and nothing is refused. ``patience``: seconds to wait for the others' quorum.
    """
    release = plan_release(identity, progress, instance=instance)
    member = view.at(identity.peer_url)
    if member is None or (member_id and member.id != member_id):
        return release
    if view.voters == (member,):
        return release if doomed else Plan(release.goal, (_last_voter(member),))
    blocked = _no_quorum(view) or (None if member.is_learner else _rest_too_weak(view, member))
    if blocked:
        return release if doomed else Plan(release.goal, (replace(blocked, patience=patience),))
    before: list[Step] = []
    if not member.is_learner:
        if not progress.snapshot_taken and not doomed:
            before.append(Snapshot(_snapshot_source(view, avoid=member)))
        if view.leader == member:
            before.append(MoveLeader(member, _next_leader(view, {member.id}, staying)))
    return Plan(release.goal, (*before, Remove(member), *release.steps))


def plan_eviction(
    identity: Identity,
    view: ClusterView,
    *,
    member_id: int,
    staying: Collection[str],
    doomed: bool,
    progress: Progress = Progress(),
    instance: str = "",
) -> Plan:
    """What is left to remove when the member's machine is gone, or never came.

    A voter that still serves is one whose leave was refused, and whose machine EC2 keeps: it stays.
    """
    member = view.at(identity.peer_url)
    if member and not member.is_learner and member.health.serving and not doomed:
        reason = f"{member.label} still serves: its leave was refused, so it stays a member of the cluster"
        return Plan(f"take {identity.name} out", (Refuse(reason),))
    return plan_leave(
        identity,
        view,
        replace(progress, snapshot_taken=True),
        member_id=member_id,
        staying=staying,
        instance=instance,
        doomed=doomed,
        patience=HEALTH_PATIENCE,  # the Voter's Delete has waited for long enough
    )


def plan_revocation(view: ClusterView, recorded: Iterable[tuple[Identity, MemberRecord]]) -> Plan:
    """Certificates of members that are out are taken no more. ``recorded``: what the journal says of the cluster's.

    Without a quorum the list may be an old one, and nobody counts as out.
    """
    out = [
        (record.serial, record.expires)
        for identity, record in recorded
        if view.has_quorum and record.serial and view.at(identity.peer_url) is None
    ]
    return Plan("let nobody in who has left", (Revoke(tuple(out)),) if out else ())


def _last_voter(member: Member) -> Refuse:
    return Refuse(
        f"{member.label} is the last voter and holds the only copy of the data; the last snapshot is missing:"
        " mend that, then delete again"
    )


def _rest_too_weak(view: ClusterView, leaving: Member) -> Wait | None:
    rest = [member for member in view.voters if member != leaving]
    return _too_weak(rest, leaving)


def _too_weak(rest: Sequence[Member], leaving: Member) -> Wait | None:
    serving = [member for member in rest if member.health.serving]
    needed = quorum(len(rest))
    if len(serving) >= needed:
        return None
    reason = (
        f"without {leaving.label} only {len(serving)} of {len(rest)} voters would serve, the quorum is {needed}:"
        f" bring back {_labels(member for member in rest if not member.health.serving)}"
    )
    return Wait("weak", reason, HEALTH_PATIENCE)


# --- the guard: the size is to change --------------------------------------------------------------


def plan_shrink(
    view: ClusterView,
    progress: Progress,
    *,
    leaving: Sequence[str],
    ghosts: Sequence[Ghost] = (),
    in_order: bool = True,
) -> Plan:
    """What must hold, and be done, before members at the peer URLs ``leaving`` are removed in that order.

    Not ``in_order``: members were replaced, and CloudFormation cleans up after them side by side. Then it must hold
    in the worst order, in which those that serve leave first.

    CloudFormation deletes after it has updated, and does not stop at a failed delete; so all that can be
    refused is refused here. The removals are walked through on paper: after each, those that serve must be
    a quorum of those that vote.
    """
    goal = f"shrink by {len(leaving)}" if in_order else f"let {len(leaving)} go that were replaced"
    if eviction := _ghosts_out(view, progress, ghosts):
        return Plan(goal, eviction)
    going = [member for url in leaving if (member := view.at(url)) and not member.is_learner]
    if not in_order:
        going.sort(key=lambda member: not member.health.serving)
    gone = {member.id for member in going}
    staying = [member for member in view.voters if member.id not in gone]
    if not staying:
        return Plan(goal, (Refuse("no voter would stay: the last member is never removed"),))
    obstacle = _no_quorum(view) or _alarm(view) or _unhealthy(staying) or _walk(view.voters, going)
    if obstacle:
        return Plan(goal, (obstacle,))
    steps: list[Step] = []
    if not progress.snapshot_taken:
        steps.append(Snapshot(_snapshot_source(view, avoid=going[0] if going else None)))
    leader = view.leader
    if leader and leader.id in gone:
        steps.append(MoveLeader(leader, _next_leader(view, gone, ())))
    return Plan(goal, tuple(steps))


def _walk(voters: Sequence[Member], going: Sequence[Member]) -> Wait | None:
    rest = list(voters)
    for member in going:
        rest.remove(member)
        if weak := _too_weak(rest, member):
            return weak
    return None


def plan_check(view: ClusterView, progress: Progress, *, ghosts: Sequence[Ghost] = ()) -> Plan:
    """Whether the cluster is fit to be used: no ghost, a quorum, every voter serving, no alarm."""
    if eviction := _ghosts_out(view, progress, ghosts):
        return Plan("check the cluster", eviction)
    obstacle = _no_quorum(view) or _alarm(view) or _unhealthy(view.voters)
    return Plan("check the cluster", (obstacle,) if obstacle else ())


def plan_last_snapshot(view: ClusterView, progress: Progress) -> Plan:
    """The snapshot before the stack takes the whole cluster away."""
    goal = "take the last snapshot"
    if progress.snapshot_taken:
        return Plan(goal)
    return Plan(goal, (_no_quorum(view) or Snapshot(_snapshot_source(view, avoid=None), last=True),))


def plan_snapshot(view: ClusterView, progress: Progress) -> Plan:
    """A snapshot of a cluster that goes on, of data that is known to be sound."""
    goal = "take a snapshot"
    if progress.snapshot_taken:
        return Plan(goal)
    obstacle = _no_quorum(view) or _corrupt(view)
    return Plan(goal, (obstacle or Snapshot(_snapshot_source(view, avoid=None)),))


def plan_defragmentation(view: ClusterView, progress: Progress) -> Plan:
    """One member after the other, the leader last: each does not serve while it defragments itself.

    Not while any other one does not serve, nor while one joins: then the quorum would hang on this one. ``NOSPACE`` is
    no obstacle, since this is a part of its cure (https://etcd.io/docs/v3.5/op-guide/maintenance/#defragmentation).
    """
    goal = "defragment the cluster"
    left = [member for member in view.voters if member.id not in progress.defragmented]
    obstacle = _no_quorum(view) or _corrupt(view) or _unhealthy(view.voters)
    if obstacle := obstacle or (_pending_learner(view) if left else None):
        return Plan(goal, (obstacle,))
    left.sort(key=lambda member: (member == view.leader, member.name))
    return Plan(goal, tuple(map(Defragment, left)))


def _ghosts_out(view: ClusterView, progress: Progress, ghosts: Sequence[Ghost]) -> tuple[Step, ...]:
    """The steps by which the first ghost that is still there leaves, by the rules of every leave."""
    for ghost in ghosts:
        plan = plan_leave(
            ghost.identity,
            view,
            progress,
            member_id=ghost.member_id,
            staying=(),
            instance=ghost.instance,
            patience=HEALTH_PATIENCE,
        )
        if plan.steps:
            return plan.steps
    return ()


def _labels(members: Iterable[Member]) -> str:
    return ", ".join(member.label for member in members)


# --- the rules -------------------------------------------------------------------------------------


def _no_quorum(view: ClusterView) -> Wait | None:
    if view.has_quorum:
        return None
    voters = view.voters
    down = [member for member in voters if not member.health.reachable]
    needed = quorum(len(voters))
    cure = f"bring back {_labels(down)}" if down else "they have not elected a leader"
    reason = (
        f"the cluster has no quorum: {len(voters) - len(down)} of {len(voters)} voters answer,"
        f" {needed} are needed; {cure}"
    )
    return Wait("no quorum", reason, HEALTH_PATIENCE)


def _alarm(view: ClusterView) -> Refuse | None:
    cure = "clear its cause, disarm it, then resize again"
    return _raised(view, UNHEALTHY_ALARMS, cure)


def _corrupt(view: ClusterView) -> Refuse | None:
    cure = "data may be damaged, and is left as it is; replace that member"
    return _raised(view, frozenset({"CORRUPT"}), cure)


def _raised(view: ClusterView, alarms: Collection[str], cure: str) -> Refuse | None:
    raised = [alarm for alarm in view.alarms if alarm.split()[0] in alarms]
    return Refuse(f"alarm {', '.join(raised)} is raised: {cure}") if raised else None


def _pending_learner(view: ClusterView) -> Wait | None:
    if not view.learners:
        return None
    reason = (
        f"{_labels(view.learners)} is a learner still, and etcd takes one at a time:"
        " promote or remove it, then try again"
    )
    return Wait("learner", reason, HEALTH_PATIENCE)


def _unhealthy(voters: Sequence[Member]) -> Wait | None:
    bad = [member for member in voters if not member.health.serving]
    if not bad:
        return None
    told = ", ".join(
        f"{member.label} {'does not serve' if member.started else 'has not started'}" for member in bad
    )
    return Wait("unhealthy", f"{told}: bring it back or remove it, then resize again", HEALTH_PATIENCE)


def _snapshot_source(view: ClusterView, *, avoid: Member | None) -> Member:
    """A voter that serves: rather not the leader, which has work enough, and rather not the one that goes."""
    serving = [member for member in view.voters if member.health.serving]
    return min(serving, key=lambda member: (member == view.leader, member == avoid, member.name))


def _next_leader(view: ClusterView, gone: Collection[int], staying: Collection[str]) -> Member:
    """A voter that serves and stays; among those the one that has applied most."""
    candidates = [member for member in view.voters if member.health.serving and member.id not in gone]
    return max(
        candidates,
        key=lambda member: (
            not set(staying).isdisjoint(member.client_urls),
            member.health.applied,
            -member.id,
        ),
    )
