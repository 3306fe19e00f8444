"""The report of the faults, and the table itself: no etcd, no cloud."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from playground.faults import report, table
from playground.faults.report import Row

HELD = Row(
    "one", "kills", "SIGKILL", "it works", held=True, seconds=3.25, acked=100, end_state="UPDATE_COMPLETE"
)
BROKEN = Row(
    "two", "aws", "no EC2", "it works", held=False, acked=7, lost=2, failed=1, problems=("2 writes are lost",)
)
SKIPPED = Row("three", "machines", "", "", held=None, sentence="it needs root")


def test_every_row_has_the_figures_that_were_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "faults/result.json"
    report.write([HELD, BROKEN, SKIPPED], file, version="3.5.16", seconds=12.34)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["held"], result["not_held"], result["skipped"]) == (1, 1, 1)
    assert (result["acked"], result["lost"], result["failed"], result["seconds"]) == (107, 2, 1, 12.3)
    wanted = {"name", "held", "seconds", "acked", "lost", "failed", "end_state", "sentence"}
    assert all(wanted <= row.keys() for row in result["faults"])
    assert [row["held"] for row in result["faults"]] == [True, False, None]


def test_one_that_did_not_hold_fails_the_run() -> None:
    assert report.exit_status([HELD]) == 0
    assert report.exit_status([HELD, SKIPPED]) == 0
    assert report.exit_status([HELD, BROKEN]) == 1


def test_a_run_that_tried_nothing_proves_nothing() -> None:
    assert report.exit_status([]) == 1
    assert report.exit_status([SKIPPED]) == 1


def test_a_line_says_what_did_not_hold_and_why_something_was_skipped() -> None:
    assert report.line(HELD, 1, 3) == "[ 1/3] held       3.2 s  one"
    assert report.line(BROKEN, 2, 3).splitlines()[1].strip() == "2 writes are lost"
    assert report.line(SKIPPED, 3, 3).endswith("three: it needs root")


def test_the_table_shows_every_row_and_its_problems() -> None:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(report.table([HELD, BROKEN, SKIPPED]))
    drawn = console.export_text()
    assert all(
        word in drawn for word in ("one", "NOT HELD", "2 writes are lost", "skipped", "UPDATE_COMPLETE")
    )


def test_the_summary_counts() -> None:
    assert report.summary([HELD, BROKEN, SKIPPED], 12.0) == (
        "1 faults held, 1 did not, 1 were skipped, in 12 s: 107 writes acknowledged, 2 lost, 1 failed."
    )


def test_faults_have_names_of_their_own_and_a_next_resize_that_changes_something() -> None:
    names = [fault.name for fault in table.FAULTS]
    assert len(set(names)) == len(names)
    for fault in table.FAULTS:
        assert 1 <= fault.size <= 7, fault.name
        assert fault.ends_deleted or 1 <= fault.again <= 7, fault.name


def test_faults_are_found_by_name_by_its_beginning_and_by_group() -> None:
    assert len(table.named([])) == len(table.FAULTS)
    assert [fault.name for fault in table.named(["answers twice"])] == ["answers twice"]
    assert {fault.group for fault in table.named(["aws"])} == {"aws"}
    assert len(table.named(["killed before-add"])) == 2
    assert table.named(["nothing is called so"]) == ()
