"""The page of promises: every fault of the table tests exactly one of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from playground.faults import promises
from playground.faults.promises import PROMISES, lines, of
from playground.faults.table import FAULTS


def test_every_fault_tests_one_promise_and_every_promise_is_tested() -> None:
    names = [fault.name for fault in FAULTS]
    told = [name for promise in PROMISES for name in of(promise, names)]
    assert sorted(told) == sorted(names)
    assert all(of(promise, names) for promise in PROMISES)


def test_the_figures_are_the_sums_of_the_rows() -> None:
    row = {"seconds": 2.0, "acked": 1500, "lost": 0, "failed": 1}
    rows = [
        {**row, "name": "S3 refuses the journal", "held": True},
        {**row, "name": "S3 is slow", "held": False},
    ]
    run = {"version": "3.5.16", "seconds": 9.0, "held": 1, "not_held": 1, "skipped": 0, "faults": rows}
    table = "\n".join(lines([{**run, "acked": 3000, "lost": 0, "failed": 2}]))
    assert "1 of 2 held, 2 s; 3,000 acknowledged, 0 lost, 2 failed" in table
    assert "etcd 3.5.16: 2 faults in 9 s, 1 held, 1 did not, 0 skipped; 3,000 writes acknowledged" in table


def test_the_command_writes_the_table_of_whole_runs_into_the_page_and_refuses_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, result = tmp_path / "promises.md", tmp_path / "3.5.json"
    page.write_text(promises.PAGE.read_text())
    monkeypatch.setattr(promises, "PAGE", page)
    row = {"seconds": 2.0, "acked": 1, "lost": 0, "failed": 0, "held": True}
    rows = [{**row, "name": fault.name} for fault in FAULTS]
    run = {
        "version": "3.5.99",
        "seconds": 9.0,
        "held": len(rows),
        "not_held": 0,
        "skipped": 0,
        "faults": rows,
    }
    result.write_text(json.dumps({**run, "acked": len(rows), "lost": 0, "failed": 0}))
    assert promises.main([str(result)]) == 0
    assert f"etcd 3.5.99: {len(rows)} faults" in page.read_text()
    result.write_text(json.dumps({**run, "faults": rows[1:]}))
    assert promises.main([str(result)]) == 1
    assert "run make faults" in capsys.readouterr().err
