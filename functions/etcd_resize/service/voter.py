"""``Custom::EtcdVoter``: from learner to voter, and out of the cluster before the machine goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from etcd_resize import planning
from etcd_resize.errors import Refused, Retryable
from etcd_resize.model.identity import Identity
from etcd_resize.request import VoterProperties
from etcd_resize.service.event import GOODBYE_SECONDS, Answer, Event

logger = logging.getLogger(__name__)


class VoterEvent(Event):
    """One event of a ``Custom::EtcdVoter``."""

    def create(self, wanted: VoterProperties) -> Answer:
        """Wait for the machine's etcd, promote it, watch it, protect the machine."""
        return self._promote(wanted)

    def update(self, wanted: VoterProperties) -> Answer:
        """Another member, or another machine: as Create. Else only the protection can have changed."""
        old = self.request.old
        if isinstance(old, VoterProperties) and _who(old) == _who(wanted):
            if wanted.protect and not old.protect:
                self.outside.machines.protect(wanted.instance)
            if old.protect and not wanted.protect:
                self.outside.machines.unprotect(wanted.instance)
            return {"Name": wanted.identity.name}
        if self.is_rollback_to(wanted.identity):
            self._let_successor_go(wanted)
            return {"Name": wanted.identity.name}
        previous = self.request.previous_identity
        also = (previous.client_url, *self.accepted_endpoints(previous.cluster)) if previous else ()
        return self._promote(wanted, also)

    def delete(self, leaving: VoterProperties) -> Answer:
        """Leave: snapshot, leadership, removal, and only then the machine's protection."""
        identity, record = self.claim(leaving.identity)
        if record is None:
            return {}
        instance = leaving.instance if leaving.protect else ""
        doomed = self.doomed(identity.cluster, bootstrapped=leaving.bootstrapped)
        others = () if doomed else self.accepted_endpoints(identity.cluster)
        self.leave(
            identity.cluster,
            tuple(dict.fromkeys((*leaving.endpoints, identity.client_url, *others))),
            lambda view, progress: planning.plan_leave(
                identity,
                view,
                progress,
                member_id=record.member_id,
                staying=others or leaving.endpoints,
                instance=instance,
                doomed=doomed,
            ),
            (lambda progress: planning.plan_release(identity, progress, instance=instance))
            if doomed
            else None,
        )
        return {}

    def _let_successor_go(self, wanted: VoterProperties) -> None:
        """Take the member out that was to replace this one, and let its machine go.

        Should the function have died right after the promotion, CloudFormation never heard of it, and no Delete names
        it. A rollback does not fail: what cannot be done is left to the next guard, or to the next flip.
        """
        old, cluster = self.request.old, wanted.identity.cluster
        if not isinstance(old, VoterProperties) or old.identity == wanted.identity:
            return
        record = self.journal.member(old.identity)
        if record is None or record.stack_id != self.request.stack_id or record.state == "left":
            return
        self.deadline = min(self.deadline, self.clock.monotonic() + GOODBYE_SECONDS)
        others = self.accepted_endpoints(cluster)
        try:
            self.leave(
                cluster,
                tuple(dict.fromkeys((*wanted.endpoints, wanted.identity.client_url, *others))),
                lambda view, progress: planning.plan_leave(
                    old.identity,
                    view,
                    progress,
                    member_id=record.member_id,
                    staying=others,
                    instance=old.instance if old.protect else "",
                ),
                None,
            )
        except (Refused, Retryable) as reason:
            logger.warning("%s stays for now: %s", old.identity, reason)

    def _promote(self, wanted: VoterProperties, also: Sequence[str] = ()) -> Answer:
        endpoints = tuple(dict.fromkeys((*wanted.endpoints, *also, wanted.identity.client_url)))
        record = self.journal.member(wanted.identity)
        if record and wanted.protect:  # should a Delete be forgotten, this is how its machine is found
            self.journal.record_member(wanted.identity, replace(record, instance=wanted.instance))
        with self.pursuing(wanted.identity.cluster, endpoints) as pursuit:
            pursuit.run(
                lambda view, progress: planning.plan_promotion(
                    wanted.identity,
                    view,
                    progress,
                    member_id=wanted.member_id,
                    stabilization=wanted.stabilization,
                    instance=wanted.instance if wanted.protect else "",
                )
            )
        return {"Name": wanted.identity.name}


def _who(voter: VoterProperties) -> tuple[Identity, int, str]:
    return voter.identity, voter.member_id, voter.instance
