"""What an operator does between two resizes: asks for the health, and types what docs/operations.md says."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playground import __main__ as command
from playground.local import Playground
from playground.machines import Machine
from playground.tools import ROOT, etcd
from tests.support.pages import blocks
from tests.support.permissions import Role, calls
from tests.support.stacks import World
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]

PAGE = blocks("operations.md")
SETUP = "Before you type"
SAYS = {
    SETUP: "",
    "Find the reason": "REPORT RequestId",
    "How the cluster is": "cluster is healthy",
    "Alarms": "",
    "NoLeaderAlarm": "\trunning\t",
    "UnhealthyMembersAlarm": "",
    "MembersOffAlarm": "CREATE_COMPLETE\n",
    "EtcdAlarm": "",
    "QuotaAlarm": "etcd-resize",
    "SnapshotAgeAlarm": ".db\n",
    "CertificateAlarm": "Successfully created/updated stack",
    "HealthSilentAlarm": "ENABLED",
    "HealthErrorsAlarm": "CloudWatchMetrics",
    "MaintenanceErrorsAlarm": '"Snapshot"',
    "ProviderErrorsAlarm": "REPORT RequestId",
    "FailedResizeAlarm": "",
    "No space": "Finished defragmenting etcd member",
    "Defragment": "Defragmented",
    "A member died": "Successfully created/updated stack",
    "A removal failed after the guard had agreed": "removed from cluster",
    "The journal": "\t",
}
"""What the commands of each section, in the page's order, print among other things in this test."""

READS = ("sam logs ", "sh scripts/why.sh ")


@pytest.fixture(scope="module")
def world(playground: Playground) -> Iterator[World]:
    """A cluster of three, by the name that the page has. Each test leaves it healthy."""
    made = World(playground, "etcd")
    made.resize(3)
    yield made
    made.end()


def member(world: World, name: str) -> Machine:
    return next(machine for machine in world.machines if machine.name == name)


def test_health_is_told_as_text_and_as_data_with_no_more_rights_than_it_takes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    playground = world.playground
    begin = time.time()
    ask = ["health", "--directory", str(playground.directory)]
    assert command.main(ask) == 0
    text = capsys.readouterr().out.splitlines()
    assert "cluster is healthy" in text
    assert len([line for line in text if " is healthy: got healthy result from " in line]) == 3
    playground.kill(member(world, "etcd-2"))
    assert command.main([*ask, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["state"] == "degraded"
    assert [one["name"] for one in report["members"] if not one["healthy"]] == ["etcd-2"]
    assert report["wanted"] == report["present"] == 3
    role = Role.of_stack(playground, "etcd", "HealthRole")
    asked = [call for call in calls(playground, begin) if call.action.startswith("s3:")]
    assert asked
    assert [call for call in asked if not role.granting(call)] == []
    assert not [grant for grant in role.allowed if grant.action.startswith("s3:Put")]
    playground.restart(member(world, "etcd-2"))
    world.wait_whole(3)


def test_maintenance_is_done_by_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.time()
    where = ["--directory", str(world.playground.directory)]
    assert command.main(["maintain", "defragment", *where]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Defragmented: etcd-")
    assert told.count(" bytes") == 3
    role = Role.of_stack(world.playground, "etcd", "MaintenanceRole")
    assert [call for call in calls(world.playground, begin) if not role.granting(call)] == []


def test_the_page_of_operations_typed_line_by_line(world: World, tmp_path: Path) -> None:
    assert list(PAGE) == list(SAYS)
    playground = world.playground
    before: dict[str, Callable[[], None]] = {
        "UnhealthyMembersAlarm": lambda: playground.kill(member(world, "etcd-2")),
        "A member died": lambda: playground.kill(member(world, "etcd-2")),
    }
    after: dict[str, Callable[[], object]] = {
        "UnhealthyMembersAlarm": lambda: world.wait_whole(3),
        "A member died": lambda: world.wait_whole(3),
        "A removal failed after the guard had agreed": lambda: wait_until(
            lambda: [machine.name for machine in world.machines] == ["etcd-1", "etcd-2"], "etcd-3 is out"
        ),
    }
    desk = Desk(playground, tmp_path)
    for section, said in list(SAYS.items())[1:]:  # the first one is the desk's own
        before.get(section, lambda: None)()
        printed = "".join(typed(desk, block) for block in PAGE[section])
        assert said in printed, f"{section}:\n{printed}"
        after.get(section, lambda: None)()


def typed(desk: Desk, block: list[str]) -> str:
    """What a block prints; typed again while etcd says "not now", as it does until all have been connected for 5 s."""
    printed: list[str] = []

    def taken() -> bool:
        try:
            printed.append(desk.type(block))
        except AssertionError as failed:
            if "etcdserver: unhealthy cluster" not in str(failed):
                raise
        return bool(printed)

    wait_until(taken, block[0])
    return printed[0]


class Desk:
    """Where an operator types: a checkout in which ``sam build`` has run, led to the playground.

    A line that only reads, and was typed before, is not typed again: its answer is known.
    """

    def __init__(self, playground: Playground, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, str] = {}
        (folder / "scripts").symlink_to(ROOT / "scripts")
        config = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
        deploy = "[default.deploy.parameters]\n"
        assert deploy in config
        built = f'{deploy}template_file = "{playground.built_template}"\n'
        (folder / "samconfig.toml").write_text(config.replace(deploy, built), encoding="utf-8")
        path = [str(etcd().parent), playground.environment["PATH"]]
        self._environment = {**os.environ, **playground.environment, "PATH": os.pathsep.join(path)}
        ((self._function, *rest),) = PAGE[SETUP]
        self.type([*rest, "env -0 > exported"])
        exported = (folder / "exported").read_text(encoding="utf-8").rstrip("\0").split("\0")
        self._environment = dict(pair.split("=", 1) for pair in exported)

    def type(self, lines: list[str]) -> str:
        """What these lines print, in a shell that has read the page's first section."""
        if all(line in self._read for line in lines):
            return "".join(self._read[line] for line in lines)
        lines = [line for line in lines if line not in self._read]
        done = subprocess.run(
            ["sh", "-euc", "\n".join([self._function, *lines])],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{lines} ended with {done.returncode}:\n{done.stdout}"
        self._read |= {line: done.stdout for line in lines if line.startswith(READS)}
        return done.stdout
