"""The picture and the lines, from frames."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from etcd_resize.model.cluster import ClusterView, Health, Member
from playground.view import Frame, PlainView, RichView, WritesSeen, changes, choose, draw, event_line, heading

LEADING = Member(
    0xA1,
    "etcd-1",
    ("http://h1:2380",),
    ("http://h1:2379",),
    health=Health(serving=True, leader=0xA1, version="3.5.16"),
)
LEARNER = Member(
    0xB2,
    "etcd-2",
    ("http://h2:2380",),
    ("http://h2:2379",),
    is_learner=True,
    health=Health(serving=True, leader=0xA1),
)
UNSTARTED = Member(0xC3, "", ("http://h3:2380",), health=Health(serving=False))
DOWN = Member(
    0xD4,
    "etcd-4",
    ("http://h4:2380",),
    ("http://h4:2379",),
    health=Health(serving=False, problem="cannot be reached"),
)
FRAME = Frame(
    step=2,
    steps=6,
    title="grow 1 → 3",
    elapsed=21.5,
    step_elapsed=9.0,
    cluster=ClusterView(7, (UNSTARTED, DOWN, LEARNER, LEADING), has_quorum=True),
    writes=WritesSeen(acked=1234, failed=1, retried=2, slowest_ms=36.6),
    events=tuple(f"event {number}" for number in range(1, 21)),
    done=("create the stack with 1: 9.5 s",),
)


def text_of(frame: Frame) -> str:
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(draw(frame))
    return console.export_text()


def test_the_picture_shows_step_members_writes_and_the_last_events() -> None:
    text = text_of(FRAME)
    for expected in (
        *("Step 2 of 6: grow 1 → 3", "9 s in this step, 22 s in all", "create the stack with 1: 9.5 s"),
        *("1,234 acknowledged", "1 failed", "2 retried", "slowest 37 ms", "event 20"),
    ):
        assert expected in text
    assert "event 1 " not in text
    rows = [
        line for line in text.splitlines() if any(f" {part} " in line for part in ("a1", "b2", "c3", "d4"))
    ]
    assert [row.split("│")[1:-1][0].strip() for row in rows] == ["a1", "b2", "d4", "c3"]
    words = [" ".join(row.replace("│", " ").split()) for row in rows]
    assert words == [
        "a1 etcd-1 voter leader 3.5.16 healthy",
        "b2 etcd-2 learner healthy",
        "d4 etcd-4 voter cannot be reached",
        "c3 (none yet) unstarted not started",
    ]


def test_on_a_low_terminal_only_events_are_left_out() -> None:
    console = Console(width=80, file=io.StringIO())
    five = replace(FRAME, cluster=replace(FRAME.cluster, members=(LEADING,) * 5), done=("done",) * 4)
    rows = [len(console.render_lines(draw(five, height))) for height in (24, 25, 26, 60, 100)]
    assert rows == [23, 24, 25, 28, 28], "one row stays free for the cursor"


def test_the_picture_stands_before_there_is_anything() -> None:
    assert "Starting" in text_of(Frame())
    assert "none yet" in text_of(Frame())


def test_lines_tell_only_what_changed() -> None:
    assert list(changes(FRAME, replace(FRAME, elapsed=30.0))) == []
    later = replace(
        FRAME,
        step=3,
        title="grow 3 → 5",
        events=(*FRAME.events, "event 21"),
        cluster=replace(FRAME.cluster, members=(LEADING,)),
        done=(*FRAME.done, "grow 1 → 3: 12.0 s"),
        writes=replace(FRAME.writes, failed=2),
    )
    assert list(changes(FRAME, later)) == [
        "grow 1 → 3: 12.0 s",
        "Step 3 of 6: grow 3 → 5 (21.5 s)",
        "event 21",
        "  21.5 s  members: etcd-1 voter, leader, healthy",
        "  21.5 s  writes: 1234 acknowledged, 2 failed, 2 retried, slowest 37 ms",
    ]


def test_the_plain_view_writes_each_change_once_and_the_writes_at_the_end() -> None:
    lines: list[str] = []
    view = PlainView(lambda: FRAME, lines.append)
    view.tell()
    view.tell()
    view.stop()
    assert lines[:2] == ["create the stack with 1: 9.5 s", "Step 2 of 6: grow 1 → 3 (21.5 s)"]
    assert sum("members:" in line for line in lines) == 1
    assert sum("event 20" in line for line in lines) == 1
    assert lines[-1].endswith("1234 acknowledged, 1 failed, 2 retried, slowest 37 ms")


def test_the_plain_view_tells_the_writes_from_time_to_time_but_only_new_ones() -> None:
    lines: list[str] = []
    frames = iter(
        [
            FRAME,
            replace(FRAME, elapsed=40.0),
            replace(FRAME, elapsed=45.0, writes=replace(FRAME.writes, acked=2000)),
            replace(FRAME, elapsed=50.0, writes=replace(FRAME.writes, acked=3000)),
        ]
    )
    view = PlainView(lambda: next(frames), lines.append)
    view.tell()
    before = len(lines)
    for _ in range(3):
        view.tell()
    assert [line.split(":")[1].split(",")[0] for line in lines[before:]] == [" 2000 acknowledged"]


def test_the_rich_view_draws_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=110)
    view = choose(lambda: FRAME, console, plain=False)
    assert isinstance(view, RichView)
    view.start()
    view.stop()
    assert "grow 1 → 3" in output.getvalue()


@pytest.mark.parametrize(("terminal", "plain"), [(False, False), (True, True)])
def test_lines_are_written_where_nothing_can_be_drawn(*, terminal: bool, plain: bool) -> None:
    output = io.StringIO()
    view = choose(lambda: FRAME, Console(file=output, force_terminal=terminal), plain=plain)
    assert isinstance(view, PlainView)
    view.start()
    view.stop()
    assert "Step 2 of 6: grow 1 → 3" in output.getvalue()
    assert "\x1b" not in output.getvalue()


EVENT = {
    "request": "Create",
    "resource": "Custom::EtcdMember",
    "logical": "Member",
    "physical": None,
    "at": 12.5,
}


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({**EVENT, "kind": "event"}, "   2.5 s  Create Custom::EtcdMember Member"),
        (
            {**EVENT, "kind": "answer", "physical": "etcd/etcd-1@h", "status": "SUCCESS", "reason": ""},
            "   2.5 s  Create Custom::EtcdMember etcd/etcd-1@h SUCCESS",
        ),
        (
            {**EVENT, "kind": "answer", "status": "FAILED", "reason": "no quorum"},
            "   2.5 s  Create Custom::EtcdMember Member FAILED: no quorum",
        ),
        (
            {
                "kind": "machine",
                "what": "start",
                "instance": "i-1",
                "address": "h",
                "name": "etcd-1",
                "at": 10.0,
            },
            "   0.0 s  machine etcd-1 (h) start",
        ),
        (
            {"kind": "machine", "what": "stop", "instance": "i-1", "address": "h", "at": 10.0},
            "   0.0 s  machine i-1 (h) stop",
        ),
        ({"kind": "resource", "what": "create", "at": 10.0}, None),
    ],
)
def test_a_record_of_the_journal_is_one_line_or_none(record: dict[str, object], line: str | None) -> None:
    assert event_line(record, started=10.0) == line


def test_before_the_first_step_the_heading_is_what_is_being_done() -> None:
    assert heading(Frame(title="building with sam build")) == "Building with sam build"
