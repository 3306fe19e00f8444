"""The ancestor's case: a cluster of three that somebody started by hand gets a fourth member, and loses it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import etcd3
import pytest

from playground import tools
from playground.local import Playground
from tests.support.addresses import TESTS
from tests.support.containers import beside
from tests.support.desk import Desk
from tests.support.etcd import HandMade, program
from tests.support.pages import blocks
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NewWorld = Callable[[Playground, str], World]

(JOIN,) = blocks("README.md")["A cluster that is already there"]
THEIRS = "http://10.0.0.5:2379,http://10.0.0.6:2379,http://10.0.0.7:2379"


@pytest.fixture
def three(playground: Playground, tmp_path: Path) -> Iterator[HandMade]:
    with beside(playground, TESTS, 3) as addresses:
        names = {f"instance{number}": address for number, address in enumerate(addresses, 1)}
        made = HandMade(program("3.5"), tmp_path, names)
        made.wait_healthy()
        yield made
        made.stop()


def everything(cluster: HandMade) -> dict[str, object]:
    """All keys with their values and revisions, and what the three are registered with."""
    with etcd3.client(host=cluster.endpoints[0].split("/")[2].split(":")[0]) as client:
        keys = {meta.key: (value, meta.mod_revision, meta.version) for value, meta in client.get_all()}
        members = {
            member.name: (list(member.peer_urls), list(member.client_urls)) for member in client.members
        }
    three = {name: urls for name, urls in members.items() if name.startswith("instance")}
    return {"keys": keys, "members": three}


def fill(cluster: HandMade) -> None:
    with etcd3.client(host=cluster.endpoints[0].split("/")[2].split(":")[0]) as client:
        for number in range(500):
            client.put(f"/data/{number}", f"value {number}")


def test_three_become_four_and_three_again(
    playground: Playground, new_world: NewWorld, three: HandMade, tmp_path: Path
) -> None:
    fill(three)
    before = everything(three)
    pids = [member.process.pid for member in three.members]
    world = new_world(playground, "fourth")
    Desk(world, tmp_path).deploy(JOIN, {THEIRS: ",".join(three.endpoints)})
    assert world.names(three.endpoints) == ["fourth-1", "instance1", "instance2", "instance3"]
    assert everything(three) == before
    outputs = playground.outputs("fourth")
    assert "name=fourth-1" in outputs["MemberList"]
    assert set(three.endpoints) < set(outputs["ClientEndpoints"].split(","))

    one_more_by_member_yaml_alone(playground, three, outputs)

    world.delete()
    assert world.names(three.endpoints) == ["instance1", "instance2", "instance3"]
    assert everything(three) == before
    assert [member.process.pid for member in three.members if member.running] == pids
    assert world.machines == []


def one_more_by_member_yaml_alone(playground: Playground, three: HandMade, outputs: dict[str, str]) -> None:
    """A fifth one, without the stack around it but for its function."""
    alone = World(playground, "alone")
    parameters = {
        "Provider": outputs["Provider"],
        "ClusterName": "alone",
        "MemberName": "alone-1",
        "Endpoints": ",".join(three.endpoints),
        "Tls": "off",
        "SubnetId": playground.subnet_ids[1],
        "SecurityGroupId": outputs["MemberSecurityGroupId"],
        "ImageId": "ami-0123456789abcdef0",
        **alone.patience,
    }
    try:
        done = playground.deploy("alone", parameters, template=tools.ROOT / "member.yaml")
        assert done.ok, done.reason
        assert alone.names(three.endpoints) == ["alone-1", "fourth-1", "instance1", "instance2", "instance3"]
        assert alone.machines[0].protected
        alone.delete()
        assert alone.names(three.endpoints) == ["fourth-1", "instance1", "instance2", "instance3"]
    finally:
        alone.end()
