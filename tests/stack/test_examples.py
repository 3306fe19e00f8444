"""The examples: built and deployed as their page says, in stacks that have this project's stack inside."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from etcd_resize.model.urls import host_of
from playground.local import Playground
from tests.support.desk import Desk
from tests.support.pages import blocks
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

NewWorld = Callable[[Playground, str], World]
PAGE = blocks("examples/README.md")
ONE = {"ClusterSize=3": "ClusterSize=1"}
"""One member shows the same as three, sooner."""
BUNDLE = "--cacert=etcd-client/ca.pem --cert=etcd-client/client.pem --key=etcd-client/client-key.pem"


def etcdctl(desk: Desk, world: World, command: str, options: str = "") -> str:
    """What etcdctl prints of a stack's cluster."""
    endpoints = world.playground.outputs(world.stack)["ClientEndpoints"]
    return desk.type([f"ETCDCTL_API=3 etcdctl --endpoints={endpoints} {options} {command}"])


def members(desk: Desk, world: World, options: str = "") -> list[str]:
    """The names of the members that have started."""
    listed = etcdctl(desk, world, "member list", options).splitlines()
    return sorted(line.split(", ")[2] for line in listed if ", started, " in line)


def test_a_cluster_in_a_vpc_of_its_own_grows_by_the_number_outside(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    world = new_world(playground, "vpc")
    desk = Desk(world, tmp_path, builds=True)
    new, larger = PAGE["A VPC with the cluster inside"]
    inside = ipaddress.ip_network(f"{playground.network}.128.0/20")
    desk.deploy(new, {**ONE, "10.0.0.0/20": str(inside)})
    outputs = playground.outputs("vpc")
    desk.type([outputs["ClientBundleCommand"]])
    assert members(desk, world, BUNDLE) == ["etcd-1"]
    desk.deploy(larger, {"ClusterSize=5": "ClusterSize=2"})
    assert members(desk, world, BUNDLE) == ["etcd-1", "etcd-2"]
    urls = playground.outputs("vpc")["ClientEndpoints"].split(",")
    addresses = [host_of(url) for url in urls]
    assert len(addresses) == 2
    assert all(ipaddress.ip_address(address) in inside for address in addresses)
    world.delete()
    assert outputs["VpcId"] not in {one["VpcId"] for one in playground.client("ec2").describe_vpcs()["Vpcs"]}
    assert not {*addresses} & {machine.address for machine in playground.machines()}


def test_a_cluster_without_tls_refuses_a_name_twice_is_joined_and_left_again(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    world, other = new_world(playground, "plain"), new_world(playground, "more")
    desk = Desk(world, tmp_path, builds=True)
    (plain,) = PAGE["Without TLS"]
    (join,) = PAGE["More members for a cluster that is there"]
    (why,) = PAGE["When one fails"]
    desk.deploy(plain, ONE)
    etcdctl(desk, world, "put kept yes")
    outputs = playground.outputs("plain")
    everybody = f"{playground.network}.0.0/16"
    theirs = {
        "http://10.0.0.5:2379": outputs["ClientEndpoints"],
        "sg-0123456789abcdef0": outputs["MemberSecurityGroupId"],
        "10.0.0.0/16": everybody,
    }
    with pytest.raises(AssertionError, match="ROLLBACK_COMPLETE"):
        desk.type(join, {**theirs, "ClusterSize=1": "ClusterSize=1 ClusterName=etcd"})
    assert "the name etcd-1 is taken by etcd-1" in desk.type(why, {"vpc": "more"})
    other.delete()
    desk.type(join[1:], theirs)  # it is built already
    assert members(desk, world) == ["etcd-1", "more-1"]
    (group,) = playground.client("ec2").describe_security_groups(GroupIds=[outputs["MemberSecurityGroupId"]])[
        "SecurityGroups"
    ]
    assert everybody in [one["CidrIp"] for rule in group["IpPermissions"] for one in rule["IpRanges"]]
    other.delete()
    assert members(desk, world) == ["etcd-1"]
    assert etcdctl(desk, world, "get kept --print-value-only") == "yes\n"


def test_members_on_flatcar_boot_from_an_ignition_document(
    playground: Playground, new_world: NewWorld, tmp_path: Path
) -> None:
    world = new_world(playground, "flatcar")
    desk = Desk(world, tmp_path, builds=True)
    (flatcar,) = PAGE["Flatcar"]
    image = "ami-0fedcba9876543210"
    clients = f"ClientCidr={playground.network}.0.0/16"
    desk.deploy(flatcar, {**ONE, "ClientCidr=10.0.0.0/16": clients, "ami-0123456789abcdef0": image})
    assert members(desk, world) == ["etcd-1"]
    endpoint = playground.outputs("flatcar")["ClientEndpoints"]
    (machine,) = [one for one in playground.machines() if one.address == host_of(endpoint)]
    assert machine.image == image
    units = json.loads(machine.user_data)["systemd"]["units"]
    masked = sorted(unit["name"] for unit in units if unit.get("mask"))
    assert masked == ["locksmithd.service", "update-engine.service"]
