"""``Custom::EtcdMember``: the learner that is there before its machine, and the machine's UserData.

Create writes the intention, adds the learner, journals the answer, answers. Whatever dies in between, the
next event finds its way by the journal: an intention claims what is registered under its peer URL.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from etcd_resize import answer, planning, userdata, versions
from etcd_resize.errors import InvalidRequest, Refused, Retryable
from etcd_resize.model.cluster import ClusterView, Member, bootstrap_cluster_id, bootstrap_member_id, hex_id
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import Bundle, MemberSpec, Restoration
from etcd_resize.model.records import ClusterRecord, Ghost, MemberRecord
from etcd_resize.model.stacks import same_place, siblings
from etcd_resize.model.steps import AddLearner, Plan, Remove
from etcd_resize.planning import Progress
from etcd_resize.request import MemberProperties, Request
from etcd_resize.service.event import GOODBYE_SECONDS, Answer, Event, Outside
from etcd_resize.service.pursuit import Planner, Pursuit

logger = logging.getLogger(__name__)


class MemberEvent(Event):
    """One event of a ``Custom::EtcdMember``."""

    def __init__(self, outside: Outside, request: Request, budget: float) -> None:
        super().__init__(outside, request, budget)
        self._urls: dict[bytes, str] = {}
        """Of documents that are too large for the answer, and are kept in the bucket."""
        self._bundle: Bundle | None = None
        self._restoration: Restoration | None = None
        self._serial, self._expires = "", 0.0

    def create(self, wanted: MemberProperties) -> Answer:
        """Join through the endpoints, or bootstrap if there are none."""
        if wanted.restore_from and wanted.endpoints:
            raise Refused(
                f"RestoreFrom is for a new cluster, and {wanted.identity.name} joins one that is there: leave"
                " ExistingEndpoints or RestoreFrom empty"
            )
        return self._join(wanted, wanted.endpoints)

    def update(self, wanted: MemberProperties) -> Answer:
        """The same member: the same answer, word for word. Another address: another member joins."""
        previous = self.request.previous_identity
        if self.is_rollback_to(wanted.identity):
            self._abandon(wanted)
        if previous == wanted.identity or self.is_rollback_to(wanted.identity):
            return self._frozen_answer(wanted.identity)
        if previous and previous.cluster != wanted.identity.cluster:
            raise Refused(
                f"ClusterName cannot be changed from {previous.cluster} to {wanted.identity.cluster}:"
                " the names of the members come from it"
            )
        if previous is None:
            return self._join(wanted, wanted.endpoints)
        # the first member has no endpoints before it, and whoever is replaced may be dead: the others are asked too
        endpoints = (*wanted.endpoints, previous.client_url, *self.accepted_endpoints(previous.cluster))
        return self._join(wanted, tuple(dict.fromkeys(endpoints)), previous)

    def delete(self, leaving: MemberProperties) -> Answer:
        """Remove what is still registered: the Voter's Delete has usually done it."""
        identity, record = self.claim(leaving.identity)
        if record is None or record.state == "left":
            self._forestall(identity, record)
            return {}
        doomed = self.doomed(identity.cluster, bootstrapped=leaving.bootstrapped)
        others = () if doomed else self.accepted_endpoints(identity.cluster)
        still_there = False

        def evict(view: ClusterView, progress: Progress) -> Plan:
            """A voter that is removed only here has a machine that was kept for it, and is protected still."""
            nonlocal still_there
            still_there = still_there or view.at(identity.peer_url) is not None
            return planning.plan_eviction(
                identity,
                view,
                member_id=record.member_id,
                staying=others or leaving.endpoints,
                doomed=doomed,
                progress=progress,
                instance=record.instance if still_there else "",
            )

        self.leave(
            identity.cluster,
            tuple(dict.fromkeys((*leaving.endpoints, identity.client_url, *others))),
            evict,
            (lambda progress: planning.plan_release(identity, progress)) if doomed else None,
        )
        self._write_off_for_good(identity, record)
        return {}

    def _write_off_for_good(self, identity: Identity, record: MemberRecord) -> None:
        """It is out, and nothing goes back to it any more."""
        self.write_off(identity, replace(record, successor=""))

    def _abandon(self, wanted: MemberProperties) -> None:
        """Take the learner out that was to replace this member, and let its machine go.

        CloudFormation may never have heard of it. If it has, a Delete follows and does it too. A rollback does not
        fail: what cannot be done is left to that.
        """
        old = self.request.old
        if not isinstance(old, MemberProperties):
            return
        record = self.journal.member(old.identity)
        if record is None or not self._claimed(record):
            return
        self.deadline = min(self.deadline, self.clock.monotonic() + GOODBYE_SECONDS)
        others = self.accepted_endpoints(wanted.identity.cluster)
        endpoints = tuple(dict.fromkeys((*wanted.endpoints, wanted.identity.client_url, *others)))
        try:
            with self.pursuing(wanted.identity.cluster, endpoints) as pursuit:
                pursuit.run(
                    lambda view, progress: planning.plan_eviction(
                        old.identity,
                        view,
                        member_id=0,
                        staying=others,
                        doomed=False,
                        progress=progress,
                        instance=record.instance,
                    )
                )
        except (Refused, Retryable) as reason:
            logger.warning("%s stays for now: %s", old.identity, reason)
            return
        self.write_off(old.identity, record)

    def _forestall(self, identity: Identity, known: MemberRecord | None) -> None:
        """A Create that still runs must see that its Delete has been; a replacement cannot be rolled back any more."""
        if known and known.successor:
            self._write_off_for_good(identity, known)
            return
        record = self.journal.member(identity)
        if record is None or (record.state == "left" and record.stack_id != self.request.stack_id):
            self.journal.record_member(identity, self.record("left"))

    def _frozen_answer(self, identity: Identity) -> Answer:
        record = self.journal.member(identity)
        if record is None or not record.answer:
            raise Refused(
                f"the journal has no answer for {identity}, so its UserData cannot be given again:"
                " restore an older version of its object in the bucket"
            )
        answered = dict(record.answer)
        if answered.get("ClientURL") != identity.client_url:
            raise Refused(
                f"Tls cannot be changed under a cluster that is there: {identity.name} serves"
                f" {answered.get('ClientURL')}; set it back, and make a new cluster"
            )
        return answered

    # --- joining ---

    def _claimed(self, record: MemberRecord | None) -> bool:
        """Whether the journal ascribes the member to this stack, and does not say that it left."""
        return record is not None and self._by_this_stack(record) and record.state != "left"

    def _by_this_stack(self, record: MemberRecord) -> bool:
        return record.stack_id == self.request.stack_id

    def _join(
        self, wanted: MemberProperties, endpoints: Sequence[str], replaces: Identity | None = None
    ) -> Answer:
        record = self.journal.member(wanted.identity)
        claimed = self._claimed(record)
        if wanted.protect:
            self.outside.machines.check()
        if not endpoints:
            return self._bootstrap(wanted, record if claimed else None)
        if replaces and (old := self.journal.member(replaces)) and self._by_this_stack(old):
            self.journal.record_member(replaces, replace(old, successor=str(wanted.identity)))
        ghosts: dict[Identity, Ghost] = {}
        with self.pursuing(wanted.identity.cluster, endpoints) as pursuit:
            view = pursuit.run(self._joining(wanted, replaces, ghosts, claimed=claimed))
            self._unless_deleted(pursuit, wanted.identity, endpoints)
        self.bury(ghosts.values())
        if replaces and view.at(replaces.peer_url) is None and (old := self.journal.member(replaces)):
            self.write_off(replaces, old)
        return self._joined(wanted, view, record if claimed else None, replaces)

    def _joining(
        self,
        wanted: MemberProperties,
        replaces: Identity | None,
        ghosts: dict[Identity, Ghost],
        *,
        claimed: bool,
    ) -> Planner:
        """How it joins, by what is seen. Those that are in its way are put into ``ghosts``.

        Before anything is changed the answer is measured, and before the learner is added the intention is written.
        """

        def plan(view: ClusterView, progress: Progress) -> Plan:
            nonlocal claimed
            if not claimed and view.at(wanted.identity.peer_url):
                # the same event may run twice at once: the other one writes its intention before it adds
                claimed = self._claimed(self.journal.member(wanted.identity))
            ghosts.update({ghost.identity: ghost for ghost in self._leftovers(wanted.identity, view)})
            decided = planning.plan_join(
                wanted.identity,
                view,
                progress,
                claimed=claimed,
                ghosts=tuple(ghosts.values()),
                replaces=replaces,
                version=versions.of_release(wanted.release.url if wanted.release else wanted.image),
            )
            if decided.steps and isinstance(decided.steps[0], AddLearner | Remove):
                self._joining_answer(wanted, view, 0, replaces)
            if decided.steps and isinstance(decided.steps[0], AddLearner):
                self._intend(wanted.identity)
                claimed = True
            return decided

        return plan

    def _unless_deleted(self, pursuit: Pursuit, identity: Identity, endpoints: Sequence[str]) -> None:
        """A Delete that came between the intention and the add found nothing to remove: then it is removed here."""
        record = self.journal.member(identity)
        if record is None or record.state != "left":
            return
        pursuit.run(
            lambda view, _: planning.plan_eviction(
                identity, view, member_id=0, staying=endpoints, doomed=False
            )
        )
        raise _deleted_meanwhile(identity)

    def _leftovers(self, identity: Identity, view: ClusterView) -> Iterator[Ghost]:
        """What stands in this member's way and was left there by a stack of this place that is no more.

        A namesake of an earlier life, or a learner of a sibling: the members of a parent join one at a time, so
        no sibling that lives has a learner now. Nor has this stack itself more than the member that is replaced:
        another one was promoted for a function that died, and was forgotten in the rollback.
        """
        previous = self.request.previous_identity

        def outlived(stack_id: str, member: Member) -> bool:
            if previous and stack_id == self.request.stack_id:
                return previous.peer_url not in member.peer_urls
            related = siblings if member.is_learner else same_place
            return same_place(stack_id, self.request.stack_id) or related(stack_id, self.request.stack_id)

        in_the_way = [
            member
            for member in view.members
            if identity.peer_url not in member.peer_urls
            and (member.is_learner or member.name == identity.name)
        ]
        return self.ghosts(identity.cluster, in_the_way, outlived)

    def _intend(self, identity: Identity) -> None:
        record = self.journal.member(identity)
        repeated = record is not None and record.request_id == self.request.request_id
        if record and record.state == "left" and (repeated or record.at >= self.started):
            raise _deleted_meanwhile(identity)
        intended = record is not None and (record.state, repeated) == ("intended", True)
        if not intended and not self.journal.replace_member(identity, self.record("intended")):
            raise Retryable(f"the journal of {identity} was written to at the same time")

    def _joined(
        self,
        wanted: MemberProperties,
        view: ClusterView,
        record: MemberRecord | None,
        replaces: Identity | None,
    ) -> Answer:
        member = view.at(wanted.identity.peer_url)
        if member is None:  # pragma: no cover — the plan is done only when it is there
            raise Retryable(f"{wanted.identity.name} was a member a moment ago")
        if record and record.answer and record.member_id == member.id:
            return dict(record.answer)
        if self.journal.cluster(wanted.identity.cluster) is None:
            self.journal.record_cluster(wanted.identity.cluster, ClusterRecord(cluster_id=view.cluster_id))
        return self._journaled(wanted, member.id, self._joining_answer(wanted, view, member.id, replaces))

    def _bootstrap(self, wanted: MemberProperties, record: MemberRecord | None) -> Answer:
        if record and record.answer:
            return dict(record.answer)
        identity = wanted.identity
        known = self.journal.cluster(identity.cluster)
        if known and known.established:
            raise Refused(
                f"the cluster {identity.cluster} was bootstrapped before, and once more would be an empty one:"
                " give ExistingEndpoints, or another ClusterName"
            )
        if wanted.restore_from:  # refused before anything is made, if it is no sound snapshot
            self._restoration = self.outside.snapshots.restorable(wanted.restore_from)
        if trusted := self.trusted(identity.cluster):
            trusted.establish()
        token = f"{identity.cluster}-{self.request.stack_id.rsplit('/', 1)[-1][:8]}"
        member_id = bootstrap_member_id(identity.peer_url, token)
        spec = self._spec(wanted, ((identity.name, identity.peer_url),), "new", token)
        answered = self._answer(wanted, spec, member_id)
        cluster = ClusterRecord(cluster_id=bootstrap_cluster_id(member_id))
        self.journal.record_cluster(identity.cluster, cluster)
        return self._journaled(wanted, member_id, answered)

    def _journaled(self, wanted: MemberProperties, member_id: int, answered: Answer) -> Answer:
        """Journal the answer. If the same event ran twice at once, whatever was journaled first is the answer.

        A document that is fetched has another URL each time, so two answers of one event may differ.
        """
        while True:
            record = self.journal.member(wanted.identity)
            if record and self._claimed(record) and record.answer and record.member_id == member_id:
                return dict(record.answer)
            added = self.record("added", member_id, answered)
            added = replace(added, serial=self._serial, expires=self._expires, settings=wanted.settings)
            if self.journal.replace_member(wanted.identity, added):
                return answered

    # --- the answer ---

    def _joining_answer(
        self, wanted: MemberProperties, view: ClusterView, member_id: int, replaces: Identity | None
    ) -> Answer:
        """The newcomer's name is filled in: an unstarted member has none, and its etcd must find itself.

        Names stand for one member each: of the two that share one until the clean-up, the older gets its ID appended.
        etcd compares the initial cluster with the real one by peer URLs alone (``ValidateClusterAndAssignIDs``).
        """
        identity = wanted.identity
        present = [member for member in view.members if identity.peer_url not in member.peer_urls]
        taken = [identity.name, *(member.name for member in present)]
        others = [
            (f"{member.name}-{hex_id(member.id)}" if taken.count(member.name) > 1 else member.name, url)
            for member in present
            for url in member.peer_urls
        ]
        initial_cluster = (*others, (identity.name, identity.peer_url))
        spec = self._spec(wanted, initial_cluster, "existing", identity.cluster)
        old = view.at(replaces.peer_url) if replaces else None
        fate = "leaves in the clean-up" if old and old.health.serving else "was dead, and is out already"
        return self._answer(wanted, spec, member_id, f"{replaces}: {fate}" if replaces else "")

    def _spec(
        self, wanted: MemberProperties, initial_cluster: tuple[tuple[str, str], ...], state: str, token: str
    ) -> MemberSpec:
        trusted = self.trusted(wanted.identity.cluster)
        if trusted and self._bundle is None:
            # asked for once an event, as a URL is: another one is another answer
            self._bundle, signed = trusted.bundle(wanted.identity)
            self._serial, self._expires = signed.serial, signed.expires
        return MemberSpec(
            wanted.identity,
            initial_cluster,
            state,
            token,
            settings=wanted.tuning,
            release=wanted.release,
            image=wanted.image,
            bundle=self._bundle,
            peers=trusted.peers() if trusted else "",
            restoration=self._restoration,
        )

    def _answer(
        self, wanted: MemberProperties, spec: MemberSpec, member_id: int, replaced: str = ""
    ) -> Answer:
        """``member_id`` 0: not known yet, measured as the longest it can be."""
        identity, request = spec.identity, self.request
        answered = {
            "Name": identity.name,
            "MemberId": hex_id(member_id) if member_id else "f" * 16,
            "PeerURL": identity.peer_url,
            "ClientURL": identity.client_url,
            "InitialCluster": spec.initial_cluster_text,
            "InitialClusterState": spec.state,
            **dict(wanted.machine),
            "HttpTokens": userdata.http_tokens(wanted.dialect),
            "Replaced": replaced,
            "UserData": "",
        }
        room = answer.room(request.physical_id, request.stack_id, request.logical_id, answered)
        answered["UserData"] = self._user_data(wanted, spec, room)
        return answered

    def _user_data(self, wanted: MemberProperties, spec: MemberSpec, room: int) -> str:
        """What does not fit the answer is kept in the bucket, and fetched by what does."""
        document = userdata.render(wanted.dialect, spec, wanted.base)
        try:
            return userdata.encode(wanted.dialect, document, room)
        except userdata.TooLarge:
            url = self._url_of(spec.identity, document)
        try:
            return userdata.encode(wanted.dialect, userdata.fetching(wanted.dialect, url, document), room)
        except userdata.TooLarge as problem:
            raise InvalidRequest(
                f"the UserData of {spec.identity} is too large, even one that fetches the rest: {problem}:"
                " shorten the names"
            ) from problem

    def _url_of(self, identity: Identity, document: bytes) -> str:
        """The URL is asked for once an event: another one would make another answer of the same document."""
        if document not in self._urls:
            self._urls[document] = self.outside.snapshots.keep(identity, document)
        return self._urls[document]


def _deleted_meanwhile(identity: Identity) -> Refused:
    return Refused(f"{identity.name} was deleted while it was being created")
