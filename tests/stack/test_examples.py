"""The examples: built and deployed as their page says, in stacks that have this project's stack inside."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from playground.local import Playground
from playground.tools import ROOT, etcd
from tests.support.pages import blocks

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PAGE = blocks("examples/README.md")
SHIPS = ("LICENSE", "README.md", "member.yaml", "samconfig.toml", "template.yaml")
CHECKOUT = ("examples", "functions", "layers", "scripts", *SHIPS)


class Desk:
    """Where a user types: a checkout, led to the playground, with etcdctl at hand."""

    def __init__(self, playground: Playground, folder: Path) -> None:
        self.playground, self._folder = playground, folder
        for name in CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        path = os.pathsep.join([str(etcd().parent), playground.environment["PATH"]])
        self._environment = {**os.environ, **playground.environment, "PATH": path}
        given = playground.parameters()
        self.inside = f"{playground.network}.128.0/20"
        self._placeholders = {
            "vpc-0123456789abcdef0": given["VpcId"],
            "subnet-0aaaaaaaaaaaaaaaa,subnet-0bbbbbbbbbbbbbbbb,subnet-0cccccccccccccccc": given["SubnetIds"],
            "rtb-0123456789abcdef0": given["RouteTableIds"],
            "10.0.0.0/16": f"{playground.network}.0.0/16",
            "10.0.0.0/20": self.inside,
            "ClusterSize=3": "ClusterSize=1",  # it shows the same, sooner
            "ClusterSize=5": "ClusterSize=2",
        }

    def type(self, lines: Sequence[str], placeholders: Mapping[str, str] | None = None) -> str:
        """What these lines print, with what is here in place of the page's placeholders."""
        text = "\n".join(lines)
        for placeholder, value in {**self._placeholders, **(placeholders or {})}.items():
            text = text.replace(placeholder, value)
        done = subprocess.run(
            ["sh", "-euc", text],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def members(self, stack: str, *options: str) -> list[str]:
        """The names of the started members, as etcdctl lists them at the stack's endpoints."""
        endpoints = self.playground.outputs(stack)["ClientEndpoints"]
        listed = self.type([f"ETCDCTL_API=3 etcdctl --endpoints={endpoints} {' '.join(options)} member list"])
        return sorted(line.split(", ")[2] for line in listed.splitlines() if ", started, " in line)


@pytest.fixture
def desk(playground: Playground, tmp_path: Path) -> Desk:
    return Desk(playground, tmp_path)


@pytest.fixture(autouse=True)
def nothing_stays(playground: Playground) -> Iterator[None]:
    """Delete the stacks of an example that failed."""
    yield
    for stack in ("vpc", "more", "plain", "flatcar"):
        if playground.status(stack):
            playground.delete(stack)


def test_a_cluster_in_a_vpc_of_its_own_grows_by_the_number_outside(desk: Desk) -> None:
    playground = desk.playground
    new, larger = PAGE["A VPC with the cluster inside"]
    desk.type(new)
    outputs = playground.outputs("vpc")
    desk.type([outputs["ClientBundleCommand"]])
    files = {"cacert": "ca.pem", "cert": "client.pem", "key": "client-key.pem"}
    bundle = [f"--{option}=etcd-client/{file}" for option, file in files.items()]
    assert desk.members("vpc", *bundle) == ["etcd-1"]
    desk.type(larger)
    assert desk.members("vpc", *bundle) == ["etcd-1", "etcd-2"]
    addresses = [
        ipaddress.ip_address(url.split("/")[2].split(":")[0])
        for url in playground.outputs("vpc")["ClientEndpoints"].split(",")
    ]
    assert len(addresses) == 2
    assert all(address in ipaddress.ip_network(desk.inside) for address in addresses)
    assert playground.delete("vpc").ok
    left = {vpc["VpcId"] for vpc in playground.client("ec2").describe_vpcs()["Vpcs"]}
    assert outputs["VpcId"] not in left
    assert not {str(address) for address in addresses} & {one.address for one in playground.machines()}


def test_a_cluster_without_tls_refuses_a_name_twice_is_joined_and_left_again(desk: Desk) -> None:
    playground = desk.playground
    (plain,) = PAGE["Without TLS"]
    (join,) = PAGE["More members for a cluster that is there"]
    desk.type(plain)
    outputs = playground.outputs("plain")
    etcdctl = f"ETCDCTL_API=3 etcdctl --endpoints={outputs['ClientEndpoints']}"
    desk.type([f"{etcdctl} put kept yes"])
    theirs = {
        "http://10.0.0.5:2379": outputs["ClientEndpoints"],
        "sg-0123456789abcdef0": outputs["MemberSecurityGroupId"],
    }
    with pytest.raises(AssertionError, match="ROLLBACK_COMPLETE"):
        desk.type(join, {**theirs, "ClusterSize=1": "ClusterSize=1 ClusterName=etcd"})
    (why,) = PAGE["When one fails"]
    assert "the name etcd-1 is taken by etcd-1" in desk.type(why, {"vpc": "more"})
    assert playground.delete("more").ok
    desk.type(join, theirs)
    assert desk.members("plain") == ["etcd-1", "more-1"]
    rules = playground.client("ec2").describe_security_groups(GroupIds=[outputs["MemberSecurityGroupId"]])
    opened = [
        one["CidrIp"] for rule in rules["SecurityGroups"][0]["IpPermissions"] for one in rule["IpRanges"]
    ]
    assert f"{playground.network}.0.0/16" in opened
    assert playground.delete("more").ok
    assert desk.members("plain") == ["etcd-1"]
    assert desk.type([f"{etcdctl} get kept --print-value-only"]) == "yes\n"


def test_members_on_flatcar_boot_from_an_ignition_document(desk: Desk) -> None:
    playground = desk.playground
    (flatcar,) = PAGE["Flatcar"]
    desk.type(flatcar)
    assert desk.members("flatcar") == ["etcd-1"]
    (endpoint,) = playground.outputs("flatcar")["ClientEndpoints"].split(",")
    (machine,) = [one for one in playground.machines() if one.address in endpoint]
    document = json.loads(machine.user_data)
    masked = [unit["name"] for unit in document["systemd"]["units"] if unit.get("mask")]
    assert sorted(masked) == ["locksmithd.service", "update-engine.service"]
    assert machine.image == "ami-0123456789abcdef0"
