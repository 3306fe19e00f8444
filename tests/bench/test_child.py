"""A way in a process of its own, and that nothing is left of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.child import child
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration


def test_it_goes_to_a_size_and_of_a_process_that_dies_no_member_is_left(
    etcd: Path, addresses: list[str], tmp_path: Path
) -> None:
    with child("floor", etcd, tmp_path, addresses) as way:
        took = way.go(2)
        assert (took["seconds"] > 0, took["leaderless_seconds"]) == (True, 0)
        way._process.kill()
        with pytest.raises(RuntimeError, match="the way's process has ended"):
            way.answer()
    wait_until(lambda: not any(map(_open, addresses[:2])), "both members are gone")


def _open(address: str) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((address, 2379)) == 0
