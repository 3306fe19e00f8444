"""One run of the demo of a restore: a cluster is filled, a snapshot is taken, it is lost, and all is there again.

It draws nothing and reads no command line. The clusters are told apart by nothing but what they answer: no file of
either is looked at.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from etcd_resize.health.examine import WRITTEN_KEY
from etcd_resize.snapshot import DIGEST_BYTES
from playground import papers
from playground.bulk import Contents, Load, contents, everything
from playground.connections import Connections, NoAnswerError, first_answer
from playground.demo_run import SETTLE_SECONDS, STACK, running_urls, why
from playground.local import Playground
from playground.observer import NOTHING, Observer, is_whole
from playground.restore_report import Outcome, Phase
from playground.view import EventLines, Frame, WritesSeen, members_words
from playground.writer import Keys, held_by, read_back

RESTORED = "etcd-2"
"""The stack that starts from the snapshot of ``STACK``."""
CLUSTER = "etcd"
"""What both clusters are called: the template's default."""
SIZE = 5
LATE = 1000
"""Keys that are written behind the snapshot: they must not come back, or it was not the snapshot that was restored."""
ANSWER_SECONDS = 30.0
"""How long an endpoint may take to count or to send a page."""
READ_BACK = 50_000
"""Keys that are compared between two words about how far it is."""
PHASES = (
    f"create a cluster of {SIZE}",
    "write the keys",
    "read them all",
    "take a snapshot",
    "write keys behind the snapshot",
    "kill all machines",
    "create a stack from the snapshot",
    f"grow it to {SIZE}",
    "read them all again",
    "compare key by key",
)


class StoppedError(Exception):
    """The run cannot go on. The text is the sentence why."""


class Cluster:
    """The cluster of one stack: deployed, watched, and asked what it holds. It is closed as ``ending`` ends."""

    def __init__(self, playground: Playground, stack: str, ending: ExitStack) -> None:
        self._playground, self._stack = playground, stack
        shown = papers.of_stack(playground, stack, CLUSTER)
        since = time.time()
        self.connections = Connections(shown)
        ending.callback(self.connections.close)
        self.observer = Observer(lambda: running_urls(since_then(playground, since), tls=True), shown)
        ending.callback(self.observer.stop)
        self.observer.start()

    @property
    def urls(self) -> tuple[str, ...]:
        """The client URLs of the voters that serve."""
        return self.observer.endpoints()

    def deploy(self, size: int, **parameters: str) -> None:
        """``sam deploy``. Raises StoppedError unless so many voters serve afterwards."""
        done = self._playground.deploy(self._stack, {"ClusterSize": str(size), **parameters})
        if not done.ok:
            raise StoppedError(why(done))
        seen = self.observer.wait(lambda view: is_whole(view, size), SETTLE_SECONDS)
        if not is_whole(seen, size):
            raise StoppedError(f"{size} healthy voters were wanted, and seen were {members_words(seen)}")

    def revision(self) -> int:
        """The revision of its keys."""
        ask = self.connections.revision
        return first_answer(self.urls, lambda url: ask(url, ANSWER_SECONDS))

    def contents(self, tell: Callable[[int], None]) -> Contents:
        """All that it holds but the key that the health report overwrites every minute."""
        return contents(everything(self.connections, self.urls, but=[WRITTEN_KEY.encode()], tell=tell))

    def snapshot(self) -> tuple[str, int]:
        """Let one be taken; where it is, and the bytes of the database in it."""
        answer = self._playground.invoke(self._stack, "ClusterMaintenance", {"action": "snapshot"})
        uri = str(answer["Snapshot"])
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        head = self._playground.client("s3").head_object(Bucket=bucket, Key=key)
        return uri, int(head["ContentLength"]) - DIGEST_BYTES


class RestoreDemo:
    """One run. ``frame`` may be asked from any thread, all else belongs to one."""

    def __init__(self, playground: Playground, keys: int) -> None:
        self.outcome = Outcome()
        self._playground = playground
        self._numbers = range(keys)
        run = uuid.uuid4().hex[:8]
        self._keys, self._late = Keys(run), Keys(f"{run}-late")
        self._load = Load(self._keys)
        self._cluster: Cluster | None = None
        self._title, self._share, self._phase = "starting the playground", "", 0
        self._begun = self._phase_begun = time.monotonic()
        started = time.time()
        self._lines = EventLines(lambda: since_then(playground, started), started)

    def run(self) -> Outcome:
        """Go through the phases, as far as they go."""
        self._title = "building with sam build"
        self._playground.build()
        with ExitStack() as ending:
            try:
                self._lose(ending)
                self._restore(ending)
            except (StoppedError, NoAnswerError) as stopped:
                self.outcome.stopped = f"'{self._title}' failed: {stopped}"
        return self.outcome

    def frame(self) -> Frame:
        """What is to be shown now."""
        now = time.monotonic()
        return Frame(
            step=self._phase,
            steps=len(PHASES),
            title=f"{self._title}{self._share}",
            elapsed=now - self._begun,
            step_elapsed=now - self._phase_begun,
            cluster=self._cluster.observer.latest if self._cluster else NOTHING,
            writes=WritesSeen(self._load.written, slowest_ms=self._load.slowest_ms),
            events=self._lines.now(),
            done=tuple(phase.line() for phase in self.outcome.phases),
        )

    def _lose(self, ending: ExitStack) -> None:
        """A cluster that is filled, has a snapshot taken, and dies."""
        outcome = self.outcome
        with self._next():
            cluster = self._cluster = Cluster(self._playground, STACK, ending)
            cluster.deploy(SIZE)
        with self._next():
            self._load.write(cluster.connections, cluster.urls, self._numbers)
            outcome.keys = self._load.written
        with self._next():
            outcome.before = cluster.contents(self._tell)
        with self._next():
            outcome.snapshot, outcome.database_bytes = cluster.snapshot()
        with self._next():
            late = Load(self._late)
            late.write(cluster.connections, cluster.urls, range(LATE))
            outcome.late, outcome.last = late.written, cluster.revision()
        with self._next():
            for machine in self._playground.machines():
                self._playground.kill(machine)
            outcome.survivors = sum(member.health.serving for member in cluster.observer.look().members)
            cluster.observer.stop()

    def _restore(self, ending: ExitStack) -> None:
        """Another one, which starts from that snapshot and is asked for everything."""
        outcome = self.outcome
        with self._next():
            cluster = self._cluster = Cluster(self._playground, RESTORED, ending)
            cluster.deploy(1, RestoreFrom=outcome.snapshot)
            outcome.restored = cluster.revision()
        with self._next():
            cluster.deploy(SIZE)
            outcome.etcd = cluster.observer.latest.version
        with self._next():
            outcome.after = cluster.contents(self._tell)
        with self._next():
            outcome.missing = self._missing(cluster)
            outcome.held = held_by(cluster.connections, cluster.urls, self._keys, timeout=ANSWER_SECONDS)

    def _missing(self, cluster: Cluster) -> int:
        """How many of the written keys are absent, or there with another value."""
        missing = 0
        for first in range(0, len(self._numbers), READ_BACK):
            self._tell(first)
            numbers = self._numbers[first : first + READ_BACK]
            missing += len(
                read_back(cluster.connections, cluster.urls, self._keys, numbers, timeout=ANSWER_SECONDS)
            )
        return missing

    @contextmanager
    def _next(self) -> Iterator[None]:
        """The next phase, which counts if it came to its end."""
        self._title, self._share, self._phase_begun = PHASES[self._phase], "", time.monotonic()
        self._phase += 1
        yield
        self.outcome.phases.append(Phase(self._title, time.monotonic() - self._phase_begun))

    def _tell(self, done: int) -> None:
        """How far the phase is, in tenths: a line for each, where lines are written."""
        tenths = done * 10 // max(len(self._numbers), 1)
        self._share = f", {tenths * 10} %" if 0 < tenths <= 10 else ""  # noqa: PLR2004 - ten of them


def since_then(playground: Playground, began: float) -> list[dict[str, Any]]:
    """The records of the journal since a moment in seconds since the epoch."""
    return [record for record in playground.journal.records() if record["at"] >= began]
