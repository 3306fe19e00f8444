"""The verdict of the demo of a restore: what is not as it must be is told, and all else is not."""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from playground.bulk import Contents
from playground.restore_demo import Options, amount, options
from playground.restore_report import Outcome, Phase, problems, result, revision_of, summary

HELD = Contents(1000, 57_000, "ab" * 32)
OUTCOME = Outcome(
    keys=1000,
    late=10,
    snapshot="s3://b/etcd/snapshots/20260101T000000Z-r42-etcd-r7.db",
    database_bytes=25_000_000,
    last=52,
    restored=1_000_000_042,
    before=HELD,
    after=HELD,
    held={"https://h1:2379": 1000},
    missing=0,
    phases=[Phase("take a snapshot", 1.25)],
    etcd="3.5.16",
)


def test_a_restore_of_everything_has_no_problem() -> None:
    assert problems(OUTCOME) == []
    told = json.loads(json.dumps(result(OUTCOME)))
    assert (told["ok"], told["keys"], told["missing"], told["database_bytes"]) == (True, 1000, 0, 25_000_000)
    assert told["revision"] == {"snapshot": 42, "before": 52, "after": 1_000_000_042}
    assert told["phases"] == [{"title": "take a snapshot", "seconds": 1.2}]
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(summary(OUTCOME))
    assert "All 1,000 keys of the snapshot are there." in console.export_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"missing": 3}, "3 of 1,000 keys are missing"),
        ({"missing": None}, "did not come to its end"),
        ({"after": replace(HELD, sha256="cd" * 32)}, "before and after differ"),
        ({"after": replace(HELD, keys=1010)}, "before and after differ"),
        ({"held": {"https://h1:2379": 999}}, "https://h1:2379 holds 999 keys of 1,000"),
        ({"restored": 52}, "The revision is 52 after the restore and was 52 before"),
        ({"survivors": 1}, "1 members of the first cluster answered"),
        ({"stopped": "no quorum"}, "no quorum"),
    ],
)
def test_what_is_not_as_it_must_be_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    (found,) = problems(replace(OUTCOME, **changes))
    assert sentence in found
    assert not result(replace(OUTCOME, **changes))["ok"]


def test_a_run_that_stopped_at_once_is_told_without_figures() -> None:
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(summary(Outcome(stopped="sam failed")))
    assert "sam failed" in console.export_text()
    assert result(Outcome())["revision"]["snapshot"] is None
    assert revision_of("s3://b/k.db") is None


def test_the_number_of_keys_is_read_as_people_write_it() -> None:
    assert options([]) == Options()
    assert options(["--keys", "20,000", "--plain"]) == Options(keys=20_000, plain=True)
    for text in ("", "0", "many", "-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a number of keys"):
            amount(text)
