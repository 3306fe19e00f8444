"""What a person sees while the demo runs: one picture in a terminal, lines anywhere else.

Everything shown is in one frozen ``Frame``. Drawing is a function of a frame, so it can be tested and
recorded. Nothing here looks at the cluster or decides about the demo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from etcd_resize.model.cluster import ClusterView, Member, hex_id
from playground.observer import NOTHING, in_order, role
from playground.threads import StoppableThread

EVENTS_SHOWN = 8
FEWEST_EVENTS = 2
"""What is left of the events on a low terminal: the members and the writes matter more."""

FRAMES_ROWS = 12
"""Rows of the picture that are neither a member, nor a step that is over, nor an event."""

JOURNAL_SECONDS = 0.5
"""How old what is shown of the journal may be."""

PICTURES_PER_SECOND = 4
LINES_EVERY = 0.5
"""Seconds between two comparisons of the plain view."""

WRITES_EVERY = 10.0
"""Seconds between two lines about the writes alone in the plain view."""


@dataclass(frozen=True, slots=True)
class WritesSeen:
    """The writer's account in short; ``slowest_ms`` is the slowest acknowledged write."""

    acked: int = 0
    failed: int = 0
    retried: int = 0
    slowest_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """The demo at one moment, times in seconds.

    ``events`` and ``done`` (the steps that are over) are lines of text that only ever grow in number.
    """

    step: int = 0
    steps: int = 0
    title: str = "starting"
    elapsed: float = 0.0
    step_elapsed: float = 0.0
    cluster: ClusterView = NOTHING
    writes: WritesSeen = WritesSeen()
    events: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


class View(Protocol):
    """Shows frames from ``start`` to ``stop``."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show the last frame and end."""


def heading(frame: Frame) -> str:
    """Which step of how many, and what it does."""
    return f"Step {frame.step} of {frame.steps}: {frame.title}" if frame.step else frame.title.capitalize()


def event_line(record: Mapping[str, Any], started: float) -> str | None:
    """A line for a record of the playground's journal, or None for a record that is not shown.

    Shown are custom resource events with their answers, and machines; times are seconds since ``started``.
    """
    kind, at = record.get("kind"), f"{float(record.get('at', started)) - started:6.1f} s"
    who = f"{record.get('resource')} {record.get('physical') or record.get('logical')}"
    if kind == "event":
        return f"{at}  {record.get('request')} {who}"
    if kind == "answer":
        reason = f": {record['reason']}" if record.get("reason") else ""
        return f"{at}  {record.get('request')} {who} {record.get('status')}{reason}"
    if kind == "machine":
        name = record.get("name") or record.get("instance")
        return f"{at}  machine {name} ({record.get('address')}) {record.get('what')}"
    return None


class EventLines:
    """The lines of a journal that only grows, read anew when they are older than ``JOURNAL_SECONDS``."""

    def __init__(
        self,
        records: Callable[[], Iterable[Mapping[str, Any]]],
        started: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._started = started
        self._clock = clock
        self._lines: tuple[str, ...] = ()
        self._due = 0.0

    def now(self) -> tuple[str, ...]:
        """All lines so far."""
        if self._clock() >= self._due:
            self.refresh()
            self._due = self._clock() + JOURNAL_SECONDS
        return self._lines

    def refresh(self) -> None:
        """Read the journal, however old the lines are."""
        lines = (event_line(record, self._started) for record in self._records())
        self._lines = tuple(line for line in lines if line)


def members_table(cluster: ClusterView) -> Table:
    """The members as they were last seen."""
    table = Table(expand=True, title="members", title_justify="left")
    for column in ("ID", "name", "role", "leader", "version", "health"):
        table.add_column(column)
    for member in in_order(cluster):
        healthy = member.health.serving
        table.add_row(
            hex_id(member.id),
            member.name or "(none yet)",
            Text(role(member), style="green" if role(member) == "voter" else "yellow"),
            Text("leader", style="bold cyan") if member == cluster.leader else "",
            member.health.version,
            Text(health(member), style="green" if healthy else "red"),
        )
    if not cluster.members:
        table.add_row("-", "none yet", "", "", "", "")
    return table


def health(member: Member) -> str:
    """Whether it serves, or in a few words why it does not."""
    if not member.started:
        return "not started"
    return "healthy" if member.health.serving else member.health.problem or "no answer"


def writes_line(writes: WritesSeen) -> Text:
    """The writer's account in one line."""
    line = Text("writes  ", style="bold")
    line.append(f"{writes.acked:,} acknowledged", style="green")
    line.append(f"   {writes.failed} failed", style="red" if writes.failed else "green")
    line.append(f"   {writes.retried} retried", style="yellow" if writes.retried else "green")
    line.append(f"   slowest {writes.slowest_ms:.0f} ms", style="default")
    return line


def draw(frame: Frame, height: int = 100) -> RenderableType:
    """The whole picture of a frame, with as many events as ``height`` rows leave room for."""
    room = height - FRAMES_ROWS - len(frame.done) - max(len(frame.cluster.members), 1)
    shown = max(min(room, EVENTS_SHOWN), FEWEST_EVENTS)
    times = f"{frame.step_elapsed:.0f} s in this step, {frame.elapsed:.0f} s in all"
    done = [Text(line, style="dim") for line in frame.done]
    events = Text("\n".join(frame.events[-shown:]) or "nothing yet", no_wrap=True, overflow="ellipsis")
    return Group(
        Panel(Text(heading(frame), style="bold"), subtitle=times, subtitle_align="right"),
        *done,
        members_table(frame.cluster),
        writes_line(frame.writes),
        Panel(events, title="events", title_align="left"),
    )


def members_words(cluster: ClusterView) -> str:
    """All members in a few words each."""
    return "; ".join(
        f"{member.name or hex_id(member.id)} {role(member)}{', leader' if member == cluster.leader else ''}"
        f", {health(member)}"
        for member in in_order(cluster)
    )


def _writes_words(writes: WritesSeen) -> str:
    return (
        f"{writes.acked} acknowledged, {writes.failed} failed, {writes.retried} retried, "
        f"slowest {writes.slowest_ms:.0f} ms"
    )


def changes(before: Frame, now: Frame, *, writes: bool = False) -> Iterator[str]:
    """The lines that tell how ``now`` differs from ``before``; with the writes if asked or if one failed."""
    yield from now.done[len(before.done) :]
    if (before.step, before.title) != (now.step, now.title):
        yield f"{heading(now)} ({now.elapsed:.1f} s)"
    yield from now.events[len(before.events) :]
    told = members_words(now.cluster)
    if members_words(before.cluster) != told:
        yield f"{now.elapsed:6.1f} s  members: {told}"
    if writes or before.writes.failed != now.writes.failed:
        yield f"{now.elapsed:6.1f} s  writes: {_writes_words(now.writes)}"


class RichView:
    """The picture, drawn anew four times a second in the same place of a terminal."""

    def __init__(self, frame: Callable[[], Frame], console: Console) -> None:
        self._live = Live(
            get_renderable=lambda: draw(frame(), console.size.height),
            console=console,
            refresh_per_second=PICTURES_PER_SECOND,
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Begin to show."""
        self._live.start()

    def stop(self) -> None:
        """Show the last frame and end."""
        self._live.stop()


class PlainView:
    """Lines, written when something has changed: for a log, a pipe, or a terminal that cannot draw."""

    def __init__(
        self,
        frame: Callable[[], Frame],
        write: Callable[[str], object] = print,
        *,
        every: float = LINES_EVERY,
    ) -> None:
        self._frame = frame
        self._write = write
        self._every = every
        self._last = Frame()
        self._told, self._told_at = self._last.writes, 0.0
        self._thread = StoppableThread(self._run, "view")

    def start(self) -> None:
        """Begin to show."""
        self._thread.start()

    def stop(self) -> None:
        """Show the last frame and end."""
        self._thread.stop()
        self.tell(writes=True)

    def tell(self, *, writes: bool = False) -> None:
        """Write the lines for what has changed since the last time."""
        now = self._frame()
        due = now.writes != self._told and now.elapsed - self._told_at >= WRITES_EVERY
        if due:
            self._told, self._told_at = now.writes, now.elapsed
        for line in changes(self._last, now, writes=writes or due):
            self._write(line)
        self._last = now

    def _run(self) -> None:
        while not self._thread.rest(self._every):
            self.tell()


def choose(frame: Callable[[], Frame], console: Console, *, plain: bool) -> View:
    """The picture for a terminal, lines for everything else or when ``plain`` is asked for."""
    if plain or not console.is_terminal:
        return PlainView(frame, lambda line: console.file.write(line + "\n"))
    return RichView(frame, console)
