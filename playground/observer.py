"""Keep looking at the cluster: who is a member, who leads, who answers.

For people who watch, and for the writer that needs endpoints. It must not change anything in the cluster,
and it never fails: while nobody answers, the last known members are shown without health.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView, Health, Member
from etcd_resize.model.urls import is_tls
from playground.papers import Papers, none
from playground.threads import StoppableThread

PERIOD = 0.5
"""Seconds between two looks."""

NOTHING = ClusterView(cluster_id=0, members=(), has_quorum=False)
"""What is seen before the first member answers."""

Role = Literal["voter", "learner", "unstarted"]


def role(member: Member) -> Role:
    """What a member is: it counts for the quorum, it follows, or its machine has not said a word yet."""
    if not member.started:
        return "unstarted"
    return "learner" if member.is_learner else "voter"


def endpoints(view: ClusterView) -> tuple[str, ...]:
    """Where to write: the client URLs of the voters that serve, or of all voters while none does.

    A learner is left out because it refuses writes.
    """
    started = [voter for voter in view.voters if voter.client_urls]
    serving = [voter for voter in started if voter.health.serving]
    return tuple(voter.client_urls[0] for voter in serving or started)


def is_whole(view: ClusterView, size: int) -> bool:
    """Whether there are exactly ``size`` members, all of them serving voters, and a leader."""
    serving = [voter for voter in view.voters if voter.health.serving]
    return len(view.members) == len(serving) == size and view.leader is not None


def in_order(view: ClusterView) -> list[Member]:
    """The members by name, those without a name last."""
    return sorted(view.members, key=lambda member: (not member.started, member.name))


def _shape(view: ClusterView) -> tuple[object, ...]:
    leader = view.leader.id if view.leader else 0
    return leader, *sorted(
        (member.id, member.name, role(member), member.health.serving) for member in view.members
    )


class Observer:
    """Looks at the cluster from a thread of its own, and keeps the latest view.

    ``seeds`` gives client URLs to begin with, and again whenever no known member answers; ``papers`` what is shown to
    those with TLS.
    """

    def __init__(
        self, seeds: Callable[[], Iterable[str]], papers: Papers = none, *, period: float = PERIOD
    ) -> None:
        self._seeds = seeds
        self._papers = papers
        self._period = period
        self._gateway: EtcdGateway | None = None
        self._looking = threading.Lock()
        self._thread = StoppableThread(self._run, "observer")
        self.latest = NOTHING
        self.history: list[tuple[float, ClusterView]] = []
        """What was seen, and when, in seconds since the epoch; only views that differ in more than lag or size."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the connections."""
        self._thread.stop()
        self._let_go()

    def endpoints(self) -> tuple[str, ...]:
        """Where to write, by the latest view."""
        return endpoints(self.latest)

    def look(self) -> ClusterView:
        """Look once, now."""
        with self._looking:
            try:
                self.latest = self._connected().view()
            except (Retryable, Refused):
                self._let_go()
                silent = Health(serving=False)
                members = tuple(replace(member, health=silent) for member in self.latest.members)
                self.latest = replace(self.latest, members=members, has_quorum=False)
            self._remember()
            return self.latest

    def wait(self, wanted: Callable[[ClusterView], bool], patience: float) -> ClusterView:
        """Look until ``wanted`` holds, at most ``patience`` seconds. Returns what was seen last."""
        deadline = time.monotonic() + patience
        while not wanted(seen := self.look()) and time.monotonic() < deadline:
            time.sleep(self._period)
        return seen

    def _remember(self) -> None:
        before = self.history[-1][1] if self.history else NOTHING
        if _shape(before) != _shape(self.latest):
            self.history.append((time.time(), self.latest))

    def _connected(self) -> EtcdGateway:
        if self._gateway is None:
            known = [url for member in self.latest.members for url in member.client_urls]
            urls = tuple(dict.fromkeys((*known, *self._seeds())))
            self._gateway = EtcdGateway(urls, self._papers() if any(map(is_tls, urls)) else None)
        return self._gateway

    def _let_go(self) -> None:
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None

    def _run(self) -> None:
        while not self._thread.stopped:
            self.look()
            self._thread.rest(self._period)
