"""Instances that are machines: booting, protection, replacement, and what a resize must not touch."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from playground.machines import Machine
from tests.playground.client import Cloud

pytestmark = pytest.mark.stack

PARAMETER = "/aws/service/debian/release/13/latest/arm64"
TEMPLATE = """
Parameters:
  Subnet: {Type: String}
  Image: {Type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>', Default: /aws/service/debian/release/13/latest/arm64}
  Frozen: {Type: String, Default: ''}
  Extra: {Type: String, Default: 'A=1'}
  Tag: {Type: String, Default: one}
  More: {Type: String, Default: 'no'}
Conditions:
  Frozen: !Not [!Equals [!Ref Frozen, '']]
  More: !Equals [!Ref More, 'yes']
Resources:
  Interface:
    Type: AWS::EC2::NetworkInterface
    Properties: {SubnetId: !Ref Subnet}
  Spare:
    Type: AWS::EC2::NetworkInterface
    Condition: More
    Properties: {SubnetId: !Ref Subnet}
  Instance:
    Type: AWS::EC2::Instance
    Properties:
      ImageId: !If [Frozen, !Ref Frozen, !Ref Image]
      NetworkInterfaces: [{DeviceIndex: '0', NetworkInterfaceId: !If [More, !Ref Spare, !Ref Interface]}]
      Tags: [{Key: Name, Value: !Ref Tag}]
      UserData:
        Fn::Base64: !Sub
        - |
          #cloud-config
          package_update: true
          packages: [etcd-server, etcd-client]
          write_files:
          - path: /etc/systemd/system/etcd.service.d/10-etcd-resize.conf
            permissions: '0644'
            owner: root:root
            content: |
              [Service]
              Environment="ETCD_NAME=lonely"
              Environment="ETCD_DATA_DIR=/var/lib/etcd/default"
              Environment="ETCD_LISTEN_PEER_URLS=http://${Address}:2380"
              Environment="ETCD_LISTEN_CLIENT_URLS=http://${Address}:2379"
              Environment="ETCD_ADVERTISE_CLIENT_URLS=http://${Address}:2379"
              Environment="ETCD_INITIAL_ADVERTISE_PEER_URLS=http://${Address}:2380"
              Environment="ETCD_INITIAL_CLUSTER=lonely=http://${Address}:2380" "${Extra}"
        - Address: !If [More, !GetAtt Spare.PrimaryPrivateIpAddress, !GetAtt Interface.PrimaryPrivateIpAddress]
Outputs:
  Address: {Value: !GetAtt Interface.PrimaryPrivateIpAddress}
"""


@pytest.fixture
def stack(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[str]:
    """A stack with one machine; afterwards it is gone, whatever the test did to it."""
    name = request.node.name.replace("_", "-")
    subnet = cloud.playground.subnet_ids[0]
    assert cloud.create(name, TEMPLATE, Subnet=subnet) == "CREATE_COMPLETE", cloud.playground.reason(name)
    yield name
    for machine in cloud.playground.machines():
        protect(cloud, machine, protected=False)
    cloud.api.delete_stack(StackName=name)
    assert eventually(lambda: not cloud.playground.machines())


def the_machine(cloud: Cloud) -> Machine:
    (machine,) = cloud.playground.machines()
    return machine


def protect(cloud: Cloud, machine: Machine, *, protected: bool) -> None:
    cloud.ec2.modify_instance_attribute(
        InstanceId=machine.instance, DisableApiTermination={"Value": protected}
    )


def healthy(machine: Machine) -> bool:
    try:
        with urllib.request.urlopen(f"http://{machine.address}:2379/health", timeout=1) as answer:
            return bool(json.load(answer)["health"] == "true")
    except OSError:
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def happened(cloud: Cloud, machine: Machine) -> list[str]:
    records = cloud.playground.journal.records()
    return [r["what"] for r in records if r["kind"] == "machine" and r["instance"] == machine.instance]


def test_a_machine_boots_etcd_from_its_user_data(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert eventually(lambda: healthy(machine))
    assert (machine.name, machine.state, machine.protected) == ("lonely", "running", False)
    assert machine.address == cloud.playground.outputs(stack)["Address"]
    assert machine.address.startswith("127.81.1.")
    assert machine.user_data.startswith(b"#cloud-config")
    assert (machine.folder / "root/var/lib/etcd/default/member").is_dir()
    (reservation,) = cloud.ec2.describe_instances(InstanceIds=[machine.instance])["Reservations"]
    assert reservation["Instances"][0]["PrivateIpAddress"] == machine.address
    cloud.delete(stack)
    assert not healthy(machine)
    assert happened(cloud, machine) == ["start", "stop"]


def test_a_protected_machine_is_not_terminated(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert eventually(lambda: healthy(machine))
    protect(cloud, machine, protected=True)
    attribute = cloud.ec2.describe_instance_attribute(
        InstanceId=machine.instance, Attribute="disableApiTermination"
    )
    assert attribute["DisableApiTermination"] == {"Value": True}
    with pytest.raises(
        ClientError, match=r"OperationNotPermitted.*: The instance 'i-\w+' may not be terminated. Modify"
    ):
        cloud.ec2.terminate_instances(InstanceIds=[machine.instance])
    assert cloud.delete(stack) == "DELETE_FAILED"
    assert set(cloud.resources(stack)) == {"Interface", "Instance"}
    assert "is currently in use" in str(cloud.raw_events(stack))
    assert healthy(machine)
    assert the_machine(cloud).protected
    protect(cloud, machine, protected=False)
    assert cloud.delete(stack) == "DELETE_COMPLETE"
    assert happened(cloud, machine) == ["start", "protect", "refused", "refused", "unprotect", "stop"]


def test_ec2_says_so_when_there_is_no_such_instance(cloud: Cloud) -> None:
    with pytest.raises(
        ClientError, match=r"InvalidInstanceID.NotFound.*The instance ID 'i-0123456789abcdef0' does not"
    ):
        cloud.ec2.modify_instance_attribute(
            InstanceId="i-0123456789abcdef0", DisableApiTermination={"Value": True}
        )


def test_another_user_data_restarts_the_machine_and_keeps_it(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert (
        cloud.update(stack, TEMPLATE, Subnet=cloud.playground.subnet_ids[0], Extra="A=2") == "UPDATE_COMPLETE"
    )
    now = the_machine(cloud)
    assert (now.instance, now.address) == (machine.instance, machine.address)
    assert now.pid != machine.pid
    assert happened(cloud, machine) == ["start", "reboot"]
    assert eventually(lambda: healthy(now))


def test_another_tag_leaves_the_machine_alone(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert (
        cloud.update(stack, TEMPLATE, Subnet=cloud.playground.subnet_ids[0], Tag="two") == "UPDATE_COMPLETE"
    )
    assert the_machine(cloud) == machine


def test_another_network_interface_replaces_the_machine(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert (
        cloud.update(stack, TEMPLATE, Subnet=cloud.playground.subnet_ids[0], More="yes") == "UPDATE_COMPLETE"
    )
    now = the_machine(cloud)
    assert now.instance != machine.instance
    assert now.address != machine.address
    events = cloud.events(stack)
    assert events[-2:] == [("Instance", "DELETE_COMPLETE"), (stack, "UPDATE_COMPLETE")]


def test_a_newer_image_replaces_the_machine_unless_it_is_frozen(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    subnet = cloud.playground.subnet_ids[0]
    images = cloud.playground.directory / "control/images.json"
    images.write_text(json.dumps({PARAMETER: "ami-0newer"}))
    try:
        assert (
            cloud.update(stack, TEMPLATE, Subnet=subnet, Frozen=machine.image, Tag="two") == "UPDATE_COMPLETE"
        )
        assert the_machine(cloud) == machine
        assert cloud.update(stack, TEMPLATE, Subnet=subnet, Tag="three") == "UPDATE_ROLLBACK_COMPLETE"
        assert "in use" in cloud.playground.reason(
            stack
        )  # the new instance wants the old one's interface, as on AWS
    finally:
        images.unlink()


def test_a_machine_that_never_boots_starts_no_etcd(cloud: Cloud, request: pytest.FixtureRequest) -> None:
    switch = cloud.playground.directory / "control/never-boot"
    switch.touch()
    try:
        cloud.create("never", TEMPLATE, Subnet=cloud.playground.subnet_ids[0])
    finally:
        switch.unlink()
    machine = the_machine(cloud)
    assert (machine.name, machine.state, machine.pid) == ("lonely", "never-booted", None)
    assert cloud.delete("never") == "DELETE_COMPLETE"
    assert happened(cloud, machine) == ["never-booted", "stop"]


def test_an_unknown_key_leaves_the_machine_never_booted(cloud: Cloud) -> None:
    template = TEMPLATE.replace("package_update: true", "runcmd: [reboot]")
    cloud.create("strict", template, Subnet=cloud.playground.subnet_ids[0])
    machine = the_machine(cloud)
    assert machine.state == "never-booted"
    assert "the document has an unknown key: runcmd" in (machine.folder / "etcd.log").read_text()
    assert cloud.delete("strict") == "DELETE_COMPLETE"


def test_machines_are_killed_paused_and_restarted(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    playground = cloud.playground
    assert eventually(lambda: healthy(machine))
    playground.pause(machine)
    assert not healthy(machine)
    playground.resume(machine)
    assert eventually(lambda: healthy(machine))
    playground.kill(machine)
    assert the_machine(cloud).state == "stopped"
    assert not healthy(machine)
    playground.restart(machine)
    assert eventually(lambda: healthy(machine))


def test_ec2_stops_and_starts_a_machine_on_its_own_data(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert eventually(lambda: healthy(machine))
    cloud.ec2.stop_instances(InstanceIds=[machine.instance])
    assert eventually(lambda: the_machine(cloud).state == "stopped")
    assert not healthy(machine)
    cloud.ec2.start_instances(InstanceIds=[machine.instance])
    assert eventually(lambda: healthy(machine))
    before = the_machine(cloud).pid
    cloud.ec2.start_instances(InstanceIds=[machine.instance])  # it runs: nothing is done
    cloud.ec2.stop_instances(InstanceIds=[machine.instance])
    cloud.ec2.start_instances(InstanceIds=[machine.instance])  # before it is down
    assert eventually(lambda: the_machine(cloud).pid not in (before, None))
    assert eventually(lambda: healthy(machine))
    assert happened(cloud, machine) == ["start"]


def test_a_crash_is_restarted_as_the_unit_would(cloud: Cloud, stack: str) -> None:
    machine = the_machine(cloud)
    assert machine.pid
    os.kill(machine.pid, signal.SIGKILL)
    assert eventually(lambda: the_machine(cloud).pid not in (machine.pid, None))
    assert eventually(lambda: healthy(machine))


@pytest.mark.parametrize("attempt", range(3))
def test_a_machine_that_ends_while_it_is_signalled_is_gone_all_the_same(cloud: Cloud, attempt: int) -> None:
    """etcd that has just started dies of SIGTERM at once: the SIGCONT after it must not fail the delete."""
    name = f"young-{attempt}"
    cloud.create(name, TEMPLATE, Subnet=cloud.playground.subnet_ids[2])
    assert cloud.delete(name) == "DELETE_COMPLETE"


def test_an_address_is_not_used_again_at_once(cloud: Cloud, stack: str) -> None:
    subnet = cloud.playground.subnet_ids[1]
    template = """
Parameters: {Subnet: {Type: String}}
Resources: {I: {Type: AWS::EC2::NetworkInterface, Properties: {SubnetId: !Ref Subnet}}}
Outputs: {A: {Value: !GetAtt I.PrimaryPrivateIpAddress}}
"""
    addresses: list[Any] = []
    for name in ("address-1", "address-2"):
        cloud.create(name, template, Subnet=subnet)
        addresses.append(cloud.playground.outputs(name)["A"])
        cloud.delete(name)
    assert addresses == ["127.81.2.11", "127.81.2.12"]
