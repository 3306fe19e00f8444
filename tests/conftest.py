"""Fixtures for all tests: the etcd versions, loopback addresses that no other test uses."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import etcd_resize  # noqa: F401 — before etcd3 and protobuf, see there
from tests.support.addresses import TESTS
from tests.support.etcd import HandMade, program

_subnets = count(1)


TOGETHER = ("stack", "faults", "playground", "demo", "artifact")
"""Folders whose tests share something that is slow to make, the slowest first: each runs on one worker, in order."""


STACKS_MIDDLE = "tests/stack/test_rep"
"""The files up to this name take about as long as those after it."""


def _folder(item: str) -> str:
    return item.split("/")[1] if item.count("/") > 1 else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it at the end."""
    items.sort(key=lambda item: [*TOGETHER, _folder(item.nodeid)].index(_folder(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keep a folder of ``TOGETHER``, or else a file, on one worker: `xdist_group` marks do nothing under pytest 9."""

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, folder = nodeid.partition("::")[0], _folder(nodeid)
            if folder == "stack":  # the longest by far: each half has a playground of its own
                return f"{folder} {int(file > STACKS_MIDDLE)}"
            return folder if folder in TOGETHER else file

    return Together(config, log)


@pytest.fixture(params=["3.4", "3.5"])
def etcd(request: pytest.FixtureRequest) -> Path:
    """Each etcd that the project supports, Debian 12's and Debian 13's."""
    return program(request.param)


@pytest.fixture
def addresses() -> list[str]:
    """Nine addresses of this test alone: late packets of another one go nowhere."""
    number = next(_subnets)
    return [f"{TESTS}.{number}.{last}" for last in range(11, 20)]


@pytest.fixture
def hand_made(etcd: Path, addresses: list[str], tmp_path: Path) -> Iterator[Callable[[int], HandMade]]:
    """Start a healthy cluster ``m1``, ``m2`` … of so many members, that nobody of ours has made."""
    with ExitStack() as ending:

        def make(size: int) -> HandMade:
            names = {f"m{number}": addresses[number - 1] for number in range(1, size + 1)}
            made = HandMade(etcd, tmp_path / "hand", names)
            ending.callback(made.stop)
            made.wait_healthy()
            return made

        yield make


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Give the signals back that a command takes for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
