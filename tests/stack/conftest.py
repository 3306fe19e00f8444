"""The stack tests' world: real `sam`, the local CloudFormation, machines, and a writer that never stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from playground import network
from playground.local import Playground
from tests.support import containers
from tests.support.addresses import STACKS, STACKS_34, STACKS_CONTAINERS, free_port
from tests.support.etcd import program
from tests.support.stacks import World


@contextmanager
def playground_of(version: str, network: str, folder: Path) -> Iterator[Playground]:
    with Playground(folder, network=network, port=free_port(), etcd=program(version)) as playground:
        playground.build()
        playground.package()
        yield playground


@pytest.fixture(scope="session")
def playground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Playground]:
    """One playground for all tests, with etcd 3.5; each test deploys stacks of its own name.

    MACHINES=container runs them on machines that boot Debian 13.
    """
    if os.environ.get("MACHINES") == "container":
        yield request.getfixturevalue("playground_containers")
        return
    with playground_of("3.5", STACKS, tmp_path_factory.mktemp("playground")) as running:
        yield running


@pytest.fixture(scope="session")
def playground_34(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """The same with etcd 3.4, for the main job."""
    with playground_of("3.4", STACKS_34, tmp_path_factory.mktemp("playground34")) as running:
        yield running


@pytest.fixture(scope="session")
def playground_containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """The same with machines that boot Debian: 13, unless their image is of 12."""
    containers.require()
    folder = tmp_path_factory.mktemp("containers")
    with Playground(
        folder, kind="container", network=STACKS_CONTAINERS, port=free_port(), by_image=True
    ) as playground:
        playground.build()
        playground.package()
        yield playground
    assert containers.remains(network.name_of(folder)) == []


@pytest.fixture
def new_world() -> Iterator[Callable[[Playground, str], World]]:
    """A stack of that name, deleted after the test whatever became of it."""
    with ExitStack() as ending:

        def make(playground: Playground, stack: str) -> World:
            world = World(playground, stack)
            ending.callback(world.end)
            return world

        yield make
