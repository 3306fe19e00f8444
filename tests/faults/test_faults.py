"""Some rows of `make faults`, one of each subject, on every run of the tests; the whole table is run by itself."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from playground import tools
from playground.faults.__main__ import main
from tests.support.addresses import free_port
from tests.support.pages import inline

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]

NETWORK = f"127.{220 + os.getpid() % 30}"
ONLY = inline("docs/promises.md", "python -m playground.faults")
CHOSEN = (
    "killed after-add in 1 → 2, for good",
    "killed after-remove in 2 → 1, and is run again",
    "answer lost in a grow",
    "no quorum before a shrink",
    "somebody removes our learner",
    "EC2 refuses the protection",
    "roll: the old one, which leads, dies at the guard",
    "roll: the function is killed after the promotion, for good",
)


def test_a_resize_survives_one_fault_of_each_kind(tmp_path: Path) -> None:
    """By the command that docs/promises.md has."""
    try:
        tools.etcd()
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))
    *_, only, example = shlex.split(ONLY[0])
    assert any(name.startswith(example) for name in CHOSEN)
    result = tmp_path / "result.json"
    where = ["--directory", str(tmp_path / "cloud"), "--result", str(result)]
    status = main([only, *CHOSEN, *where, "--network", NETWORK, "--port", str(free_port())])
    told = json.loads(result.read_text())
    rows = told["faults"]
    assert sorted(row["name"] for row in rows) == sorted(CHOSEN)
    assert {row["name"]: row["problems"] for row in rows if not row["held"]} == {}
    assert [row["lost"] for row in rows] == [0] * len(CHOSEN)
    assert all(row["acked"] > 0 for row in rows)
    assert (status, told["held"], told["skipped"]) == (0, len(CHOSEN), 0)
