"""What an operator does between two resizes: asks for the health, and types what docs/operations.md says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from playground import __main__ as command
from playground.local import Playground
from playground.machines import Machine
from tests.support.desk import Desk
from tests.support.pages import blocks, inline
from tests.support.permissions import Role, calls
from tests.support.stacks import World
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]

PAGE = blocks("docs/operations.md")
HEALTH = inline("docs/operations.md", "python -m playground health")
MAINTAIN = inline("docs/operations.md", "python -m playground maintain")
_, DEPLOY, _, _, _, _ = blocks("README.md")["Deploy it on AWS"]
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
    """Whose stack has the name that the page has."""
    made = World(playground, "etcd")
    yield made
    made.end()


@pytest.fixture(scope="module", autouse=True)
def desk(world: World, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The README has made a cluster of three. Each test leaves it healthy."""
    made = Desk(world, tmp_path_factory.mktemp("desk"))
    made.deploy(DEPLOY)
    return made


def words(found: list[str]) -> list[str]:
    """What the page has behind ``python -m playground``, in its one command of that kind."""
    (line,) = found
    return line.split()[3:]


def member(world: World, name: str) -> Machine:
    return next(machine for machine in world.machines if machine.name == name)


def test_health_is_told_as_text_and_as_data_with_no_more_rights_than_it_takes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    playground = world.playground
    begin = time.time()
    ask = [*words(HEALTH), "--directory", str(playground.directory)]
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
    assert command.main([*words(MAINTAIN), *where]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Defragmented: etcd-")
    assert told.count(" bytes") == 3
    role = Role.of_stack(world.playground, "etcd", "MaintenanceRole")
    health = Role.of_stack(world.playground, "etcd", "HealthRole")  # whose minute may be just now
    asked = [call for call in calls(world.playground, begin) if not health.granting(call)]
    assert [call for call in asked if not role.granting(call)] == []


def test_the_page_of_operations_typed_line_by_line(world: World, desk: Desk) -> None:
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
    (setup,) = PAGE[SETUP]
    desk.keep(setup)
    for section, said in list(SAYS.items())[1:]:
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
