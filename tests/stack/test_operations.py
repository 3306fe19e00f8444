"""ClusterHealth in a stack, by the command line of the playground: healthy, then one machine dies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from playground import __main__ as command
from playground.local import Playground
from tests.support.permissions import Role, calls
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def test_health_is_told_as_text_and_as_data_with_no_more_rights_than_it_takes(
    playground: Playground,
    new_world: Callable[[Playground, str], World],
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = new_world(playground, "well")
    world.resize(3)
    begin = time.time()
    ask = ["health", "--directory", str(playground.directory), "--stack", "well"]
    assert command.main(ask) == 0
    text = capsys.readouterr().out.splitlines()
    assert "cluster is healthy" in text
    assert len([line for line in text if " is healthy: got healthy result from " in line]) == 3
    playground.kill(next(machine for machine in world.machines if machine.name == "well-2"))
    assert command.main([*ask, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["state"] == "degraded"
    assert [one["name"] for one in report["members"] if not one["healthy"]] == ["well-2"]
    assert report["wanted"] == report["present"] == 3
    role = Role.of_stack(playground, "well", "HealthRole")
    asked = [call for call in calls(playground, begin) if call.action.startswith("s3:")]
    assert asked
    assert [call for call in asked if not role.granting(call)] == []
    assert not [grant for grant in role.allowed if grant.action.startswith("s3:Put")]
