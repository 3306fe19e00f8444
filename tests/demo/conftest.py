"""The demo's fixtures: one etcd, connections that are closed, and an observer that is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from playground import tools
from playground.connections import Connections
from playground.observer import Observer


@pytest.fixture
def etcd() -> Path:
    """One etcd is enough here: the demo itself runs with each of them, by ETCD_VERSION."""
    return tools.etcd()


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections()
    yield made
    made.close()


@pytest.fixture
def observe() -> Iterator[Callable[[Sequence[str]], Observer]]:
    """Start to observe the cluster behind these URLs."""
    with ExitStack() as ending:

        def begin(urls: Sequence[str]) -> Observer:
            observer = Observer(lambda: urls, period=0.1)
            ending.callback(observer.stop)
            observer.look()
            observer.start()
            return observer

        yield begin
