"""Some rows of `make faults`, one of each subject, on every run of the tests; the whole table is run by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground import tools
from playground.faults import report, table
from playground.faults.cloud import Cloud
from playground.faults.mailbox import Mailbox
from playground.faults.run import Runner
from tests.support.addresses import free_port

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420)]

NETWORK = f"127.{220 + os.getpid() % 30}"
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
    faults = table.named(list(CHOSEN))
    assert {fault.name for fault in faults} == set(CHOSEN)
    try:
        etcd = tools.etcd()
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))
    with Cloud(tmp_path / "cloud", network=NETWORK, port=free_port(), etcd=etcd) as cloud:
        template = cloud.prepare()
        with Mailbox(cloud.certificate) as mailbox:
            rows = Runner(cloud, template, mailbox, lambda _: None).run(faults, 2)
    assert {row.name: row.problems for row in rows if not row.held} == {}
    assert [row.lost for row in rows] == [0] * len(CHOSEN)
    assert all(row.acked > 0 for row in rows)
    assert report.exit_status(rows) == 0
