"""One run of the demo: the steps in turn, the writer beside them, and what it all came to.

It sees the playground only as a ``Cloud``, so a test can give it another one. It draws nothing and reads no
command line.
"""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from etcd_resize.errors import Refused, Retryable
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.urls import client_url
from playground import report
from playground.connections import Connections, NoAnswerError
from playground.observer import NOTHING, Observer, endpoints, in_order, is_whole
from playground.papers import Papers, none
from playground.report import MachineLeft, Outcome, StepDone
from playground.steps import KINDS, Step
from playground.timeline import Sighting, labelled, labels
from playground.view import EventLines, Frame, WritesSeen
from playground.writer import Keys, Mark, Timing, Writer, held_by, read_back

STACK = "etcd"
SETTLE_SECONDS = 10.0
"""How long the cluster may take after a deployment until it is seen whole."""

STRETCH_SECONDS = 0.25
"""The picture shows the slowest write of each stretch of this length."""


class Deployed(Protocol):
    """How a deployment or a deletion ended."""

    @property
    def ok(self) -> bool:
        """Whether the stack is now as it was asked for."""

    @property
    def reason(self) -> str:
        """The sentence of what failed."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def output(self) -> str:
        """What the command printed."""


class MachineSeen(Protocol):
    """A machine of the playground."""

    @property
    def name(self) -> str:
        """The name of its member."""

    @property
    def instance(self) -> str:
        """The instance ID."""

    @property
    def state(self) -> str:
        """Such as ``running`` or ``stopped``."""

    @property
    def protected(self) -> bool:
        """Whether its termination is refused."""


class Journal(Protocol):
    """What the playground wrote down."""

    def records(self) -> Sequence[Mapping[str, Any]]:
        """All records so far, in order."""


class Cloud(Protocol):
    """What the demo needs of the playground; see ``playground.local``."""

    def build(self) -> None:
        """Run ``sam build``."""

    def parameters(self) -> Mapping[str, str]:
        """The parameters that a first deployment needs here."""

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> Deployed:
        """Run ``sam deploy``."""

    def delete(self, stack: str) -> Deployed:
        """Run ``sam delete``."""

    def machines(self) -> Sequence[MachineSeen]:
        """All machines that have not been terminated."""

    def kill_member(self, name: str) -> None:
        """The power of a member's machine goes."""

    @property
    def journal(self) -> Journal:
        """What has happened."""


def running_urls(records: Iterable[Mapping[str, Any]], *, tls: bool) -> list[str]:
    """The client URLs of the machines that were started and not stopped, read off the journal."""
    running: dict[str, str] = {}
    for record in records:
        if record.get("kind") == "machine" and record.get("address"):
            if record.get("what") == "start":
                running[record["instance"]] = client_url(record["address"], tls=tls)
            elif record.get("what") == "stop":
                running.pop(record["instance"], None)
    return list(running.values())


def why(deployed: Deployed) -> str:
    """Why a deployment failed; nothing if it did not."""
    return "" if deployed.ok else deployed.reason or last_word(deployed.output)


def last_word(text: str) -> str:
    """Why a command gave up: the last line it printed that tells an error, else the last one at all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else "")


class Demo:
    """One run through all steps. ``frame`` may be asked from any thread, all else belongs to one."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        kind: str = "resize",
        timing: Timing = Timing(),  # noqa: B008 - a frozen value
        settle: float = SETTLE_SECONDS,
        leader_leaves: bool = False,
        papers: Papers | None = None,
    ) -> None:
        """Go through ``sizes``, and do what the ``kind`` of demo does at the last (``steps.KINDS``).

        ``leader_leaves``: before a shrink, let a member lead that is to leave. ``papers``: what the writer shows the
        members; the stack is one without TLS if there are none.
        """
        self.steps = KINDS[kind].steps(sizes)
        self.outcome = Outcome(
            started=time.time(), demo=kind, planned=len(self.steps), python=platform.python_version()
        )
        self._begun = self._step_begun = time.monotonic()
        self._settle = settle
        self._leader_leaves = leader_leaves
        self._mark = Mark()
        self._step = 0
        self._title = "starting the playground"
        self._cloud: Cloud | None = None
        self._lines = EventLines(self._records, self.outcome.started)
        self._tls, self._papers = papers is not None, papers or none
        self._connections = Connections(self._papers)
        self._observer = Observer(self._seeds, self._papers)
        self._writer = Writer(
            self._connections, self._observer.endpoints, Keys(uuid.uuid4().hex[:8]), timing=timing
        )

    def run(self, cloud: Cloud) -> Outcome:
        """Build, go through the steps, read everything back, delete the stack, look what is left."""
        self._cloud = cloud
        with ExitStack() as ending:
            ending.callback(self._connections.close)
            ending.callback(self._observer.stop)
            ending.callback(self._writer.stop)
            self._title = "building with sam build"
            cloud.build()
            self._observer.start()
            self._writer.start()
            self._resize_all(cloud)
            self._writer.stop()
            self._read_back()
            self._delete(cloud)
        self._look_what_is_left(cloud)
        return self.outcome

    def frame(self) -> Frame:
        """What is to be shown now."""
        now = time.monotonic()
        ledger = self._writer.ledger
        return Frame(
            step=self._step,
            steps=len(self.steps),
            title=self._title,
            elapsed=now - self._begun,
            step_elapsed=now - self._step_begun,
            cluster=self._observer.latest,
            writes=WritesSeen(len(ledger.numbers), len(ledger.failures), ledger.retried, ledger.slowest_ms),
            events=self._lines.now(),
            done=tuple(done.line() for done in self.outcome.steps),
        )

    def _resize_all(self, cloud: Cloud) -> None:
        parameters = {**cloud.parameters(), "Tls": "on" if self._tls else "off"}
        for step in self.steps[:-1]:
            if self._leader_leaves and step.after < step.before:
                self._let_lead(lambda view: in_order(view)[-1])  # the one that a shrink takes first
            if step.dies:
                self._let_die(cloud, step.dies)
            done = self._made(step, partial(cloud.deploy, STACK, {**parameters, **step.parameters}))
            self._check_stores(done)
            if not done.ok:
                return
            parameters = {}  # sam keeps the previous values: from now on only what the step says

    def _delete(self, cloud: Cloud) -> None:
        reached = [done.step.after for done in self.outcome.steps if done.ok]
        self._step = len(self.steps) - 1
        self._made(Step(reached[-1] if reached else 0, 0), partial(cloud.delete, STACK))

    def _let_die(self, cloud: Cloud, number: int) -> None:
        """Kill the machine of a member that leads, which is the worst."""
        name = f"{STACK}-{number}"
        self._title = f"the machine of {name} dies"
        self._let_lead(lambda view: view.named(name))
        cloud.kill_member(name)

    def _let_lead(self, who: Callable[[ClusterView], Member | None]) -> None:
        """Hand the leadership to a member."""
        view = self._observer.look()
        etcd = EtcdGateway(endpoints(view), self._papers())
        try:
            view = etcd.view()
            wanted = who(view)
            if wanted and view.leader and view.leader.id != wanted.id:
                etcd.move_leader(view.leader, wanted)
        except (Refused, Retryable) as error:
            self.outcome.missing.append(f"The leadership could not be handed over: {error}")
        finally:
            etcd.close()

    def _made(self, step: Step, make: Callable[[], Deployed]) -> StepDone:
        """Make the next step and write down how it went."""
        self._step += 1
        self._title, self._step_begun = step.title, time.monotonic()
        deployed = make()
        seen = self._seen_after(step) if deployed.ok else self._observer.latest
        since, self._mark = self._mark, self._writer.ledger.mark()
        done = StepDone(
            step=step,
            ok=deployed.ok,
            seconds=deployed.seconds,
            seen=seen,
            figures=self._writer.ledger.figures(since, self._mark),
            reason=why(deployed),
            at=self._step_begun - self._begun,
        )
        self.outcome.steps.append(done)
        self.outcome.etcd = seen.version or self.outcome.etcd
        return done

    def _seen_after(self, step: Step) -> ClusterView:
        if step.after == 0:
            return NOTHING
        return self._observer.wait(lambda view: is_whole(view, step.after), self._settle)

    def _check_stores(self, done: StepDone) -> None:
        """Every member's own store must hold what was acknowledged before it was asked."""
        acked = self._writer.ledger.mark().acked
        try:
            held = held_by(self._connections, endpoints(done.seen), self._writer.keys)
        except NoAnswerError as error:
            self.outcome.missing.append(f"After '{done.step.title}' the keys could not be counted: {error}")
            return
        self.outcome.missing += [
            f"After '{done.step.title}' the member at {url} held {count} keys of {acked} acknowledged."
            for url, count in held.items()
            if count < acked
        ]

    def _read_back(self) -> None:
        self._title = "reading every acknowledged key back"
        outcome, ledger, keys = self.outcome, self._writer.ledger, self._writer.keys
        outcome.figures, outcome.failures = ledger.figures(), tuple(ledger.failures)
        outcome.errors = dict(ledger.errors)
        try:
            lost = read_back(self._connections, self._observer.endpoints(), keys, ledger.numbers)
        except NoAnswerError as error:
            outcome.unreadable = str(error)
        else:
            outcome.lost = tuple(keys.key(number).decode() for number in lost)

    def _look_what_is_left(self, cloud: Cloud) -> None:
        started = self.outcome.started
        history = self._observer.history
        named = labels(view for _, view in history)
        self.outcome.sightings = [Sighting.of(view, at - started, named) for at, view in history]
        self.outcome.slowest = self._writer.ledger.slowest(self._begun, STRETCH_SECONDS)
        self._lines.refresh()  # so that the last picture shows the last event
        self.outcome.events = labelled(report.events(cloud.journal.records(), started), named)
        self.outcome.machines = tuple(
            MachineLeft(machine.name or machine.instance, machine.state, protected=machine.protected)
            for machine in cloud.machines()
        )

    def _records(self) -> list[Mapping[str, Any]]:
        records = self._cloud.journal.records() if self._cloud else ()
        return [record for record in records if record["at"] >= self.outcome.started]

    def _seeds(self) -> list[str]:
        return running_urls(self._records(), tls=self._tls)
