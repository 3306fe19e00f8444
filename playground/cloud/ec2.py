"""What of EC2 ministack lacks: instances that are machines, network interfaces with addresses, termination protection.

The records stay ministack's, so DescribeInstances and the rest go on working. It decides nothing about stacks.
"""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from playground.cloud import parts
from playground.cloud.stack import Record
from playground.machines import Launch, Machines

ec2 = parts.ec2
Parameters = dict[str, list[str]]
Answer = tuple[int, dict[str, str], bytes]

FIRST_HOST = 11
"""The last byte of the first address that a network interface gets; the ones below are the network's own."""
REPLACING_PROPERTIES = {
    "AWS::EC2::Instance": (
        "ImageId",
        "NetworkInterfaces",
        "SubnetId",
        "PrivateIpAddress",
        "AvailabilityZone",
        "KeyName",
    ),
    "AWS::EC2::NetworkInterface": ("SubnetId", "PrivateIpAddress", "InterfaceType"),
    "AWS::EC2::SecurityGroupIngress": (
        "GroupId",
        "IpProtocol",
        "FromPort",
        "ToPort",
        "CidrIp",
        "SourceSecurityGroupId",
    ),
}
"""The properties whose change CloudFormation answers with a new resource, as its reference has it."""


class Ec2Error(Exception):
    """EC2 refuses. The message is what CloudFormation shows of it."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} (Service: Ec2, Status Code: 400, Error Code: {code})")
        self.code = code
        self.sentence = sentence


class Ec2:
    """The handlers for CloudFormation and for EC2's own API, over one set of machines."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._next_host: dict[str, int] = {}
        """By subnet: where to look for a free address. It only goes up, so an address is not used again at once."""

    def handlers(self) -> dict[str, Record]:
        """The resource types, in the form of ministack's own table."""
        return {
            "AWS::EC2::NetworkInterface": _handler(
                self.create_interface, self.update_interface, self.delete_interface
            ),
            "AWS::EC2::Instance": _handler(self.create_instance, self.update_instance, self.delete_instance),
            "AWS::EC2::SecurityGroupIngress": _handler(create_rule, update_rule, delete_rule),
        }

    def actions(
        self, before: dict[str, Callable[[Parameters], Answer]]
    ) -> dict[str, Callable[[Parameters], Answer]]:
        """The API actions, around those that ministack has."""

        def terminate(parameters: Parameters) -> Answer:
            identities = _list(parameters, "InstanceId")
            for identity in identities:
                if identity in ec2._instances:
                    self._refuse_if_protected(identity)
            answer = before["TerminateInstances"](parameters)
            if answer[0] == HTTPStatus.OK:
                for identity in identities:
                    self._end(identity)
            return answer

        def delete_interface(parameters: Parameters) -> Answer:
            identity = _one(parameters, "NetworkInterfaceId")
            if identity in ec2._network_interfaces:
                _refuse_if_in_use(identity)
            return before["DeleteNetworkInterface"](parameters)

        return {
            "TerminateInstances": _refusing(terminate),
            "StartInstances": self._power(before["StartInstances"], on=True),
            "StopInstances": self._power(before["StopInstances"], on=False),
            "ModifyInstanceAttribute": _refusing(self.modify_attribute),
            "DescribeInstanceAttribute": _refusing(
                lambda parameters: self.describe_attribute(parameters, before["DescribeInstanceAttribute"])
            ),
            "DeleteNetworkInterface": _refusing(delete_interface),
        }

    def _power(
        self, otherwise: Callable[[Parameters], Answer], *, on: bool
    ) -> Callable[[Parameters], Answer]:
        """StartInstances or StopInstances, for the machines as well."""

        def switch(parameters: Parameters) -> Answer:
            answer = otherwise(parameters)
            if answer[0] == HTTPStatus.OK:
                for identity in _list(parameters, "InstanceId"):
                    self._machines.power(identity, on=on)
            return answer

        return switch

    # ---- network interfaces ----

    def create_interface(self, _logical: str, properties: Record, _stack: str) -> tuple[str, Record]:
        """Create a network interface with an address of its subnet."""
        subnet = ec2._subnets.get(properties["SubnetId"])
        if subnet is None:
            raise Ec2Error(
                "InvalidSubnetID.NotFound", f"The subnet ID '{properties['SubnetId']}' does not exist"
            )
        address = properties.get("PrivateIpAddress") or self._free_address(subnet)
        if address in _addresses():
            raise Ec2Error("InvalidIPAddress.InUse", f"Address {address} is in use.")
        groups = {
            f"SecurityGroupId.{number}": [group]
            for number, group in enumerate(properties.get("GroupSet") or [], 1)
        }
        known = set(ec2._network_interfaces)
        ec2._create_network_interface(
            {"SubnetId": [subnet["SubnetId"]], "Description": [properties.get("Description", "")], **groups}
        )
        (identity,) = set(ec2._network_interfaces) - known
        ec2._network_interfaces[identity]["PrivateIpAddress"] = address
        ec2._tags[identity] = list(properties.get("Tags") or [])
        return identity, _interface_attributes(identity)

    def update_interface(
        self, physical: str, _old: Record, properties: Record, _stack: str, _logical: str
    ) -> tuple[str, Record]:
        """Change what can be changed in place: groups, description, tags."""
        interface = ec2._network_interfaces[physical]
        interface["Description"] = properties.get("Description", "")
        if "GroupSet" in properties:
            interface["Groups"] = [_group(group) for group in properties["GroupSet"]]
        ec2._tags[physical] = list(properties.get("Tags") or [])
        return physical, _interface_attributes(physical)

    def delete_interface(self, physical: str, _properties: Record) -> None:
        """Delete a network interface that no instance uses."""
        if physical in ec2._network_interfaces:
            _refuse_if_in_use(physical)
            del ec2._network_interfaces[physical]
            ec2._tags.pop(physical, None)

    def _free_address(self, subnet: Record) -> str:
        network = ipaddress.ip_network(subnet["CidrBlock"])
        hosts = network.num_addresses - 1 - FIRST_HOST
        used = _addresses()
        first = self._next_host.get(subnet["SubnetId"], 0)
        for number in range(first, first + hosts):
            address = str(network[FIRST_HOST + number % hosts])
            if address not in used:
                self._next_host[subnet["SubnetId"]] = number + 1
                return address
        raise Ec2Error(
            "InsufficientFreeAddressesInSubnet", f"The subnet '{subnet['SubnetId']}' has no free address."
        )

    # ---- instances ----

    def create_instance(self, _logical: str, properties: Record, _stack: str) -> tuple[str, Record]:
        """Launch an instance, which boots its machine."""
        interface = self._interface_for(properties)
        (instance,) = ec2._launch_instances_internal(
            image_id=properties.get("ImageId", ""),
            instance_type=properties.get("InstanceType", "m1.small"),
            subnet_id=interface["SubnetId"],
            count=1,
            key_name=properties.get("KeyName", ""),
            user_data=properties.get("UserData", ""),
            sg_ids=[group["GroupId"] for group in interface["Groups"]],
            requested_private_ip=interface["PrivateIpAddress"],
        )
        identity: str = instance["InstanceId"]
        interface["Status"] = "in-use"
        interface["Attachment"] = {
            "AttachmentId": "eni-attach-" + identity[2:],
            "InstanceId": identity,
            "DeviceIndex": 0,
            "Status": "attached",
            "AttachTime": instance["LaunchTime"],
        }
        ec2._tags[identity] = list(properties.get("Tags") or [])
        instance["Placement"]["AvailabilityZone"] = interface["AvailabilityZone"]
        self._machines.start(
            Launch(
                instance=identity,
                address=instance["PrivateIpAddress"],
                image=instance["ImageId"],
                user_data=base64.b64decode(properties.get("UserData", "")),
                name=next((tag["Value"] for tag in ec2._tags[identity] if tag["Key"] == "Name"), ""),
            )
        )
        self._protect(instance, protected=_true(properties.get("DisableApiTermination")))
        return identity, _instance_attributes(instance)

    def update_instance(
        self, physical: str, old: Record, properties: Record, _stack: str, _logical: str
    ) -> tuple[str, Record]:
        """Change an instance in place; another UserData stops and starts it."""
        instance = ec2._instances[physical]
        if old.get("UserData") != properties.get("UserData"):
            instance["UserData"] = properties.get("UserData", "")
            self._machines.reboot(physical, base64.b64decode(instance["UserData"]))
        if old.get("DisableApiTermination") != properties.get("DisableApiTermination"):
            self._protect(instance, protected=_true(properties.get("DisableApiTermination")))
        instance["InstanceType"] = properties.get("InstanceType", instance["InstanceType"])
        ec2._tags[physical] = list(properties.get("Tags") or [])
        return physical, _instance_attributes(instance)

    def delete_instance(self, physical: str, _properties: Record) -> None:
        """Terminate an instance, unless it is protected."""
        if physical in ec2._instances and ec2._instances[physical]["State"]["Name"] != "terminated":
            self._refuse_if_protected(physical)
            ec2._terminate_instances({"InstanceId.1": [physical]})
            self._end(physical)

    def _interface_for(self, properties: Record) -> Record:
        """The instance's network interface: one that is there, or a new one."""
        interfaces = properties.get("NetworkInterfaces") or [{}]
        identity = interfaces[0].get("NetworkInterfaceId")
        if identity is None:
            wanted = {
                "SubnetId": properties.get("SubnetId"),
                "GroupSet": properties.get("SecurityGroupIds"),
                **interfaces[0],
            }
            identity, _ = self.create_interface("", wanted, "")
            ec2._network_interfaces[identity]["_delete_with_instance"] = True
        interface: Record | None = ec2._network_interfaces.get(identity)
        if interface is None:
            raise Ec2Error(
                "InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{identity}' does not exist"
            )
        if interface["Attachment"]:
            raise Ec2Error("InvalidNetworkInterface.InUse", f"Interface: [{identity}] in use.")
        return interface

    def _end(self, identity: str) -> None:
        """Stop the machine of an instance that was terminated, and free its network interface."""
        self._machines.stop(identity)
        for name, interface in ec2._network_interfaces.items():
            if (interface["Attachment"] or {}).get("InstanceId") == identity:
                interface["Attachment"] = None
                interface["Status"] = "available"
                if interface.get("_delete_with_instance"):
                    del ec2._network_interfaces[name]

    # ---- termination protection ----

    def modify_attribute(self, parameters: Parameters) -> Answer:
        """ModifyInstanceAttribute for DisableApiTermination; any other attribute is refused, not ignored."""
        instance = _instance(parameters)
        value = _one(parameters, "DisableApiTermination.Value")
        if _one(parameters, "Attribute") == "disableApiTermination":
            value = _one(parameters, "Value")
        if not value:
            raise Ec2Error("UnsupportedOperation", "The playground modifies only DisableApiTermination.")
        self._protect(instance, protected=_true(value))
        answer: Answer = ec2._xml(200, "ModifyInstanceAttributeResponse", "<return>true</return>")
        return answer

    def describe_attribute(self, parameters: Parameters, otherwise: Callable[[Parameters], Answer]) -> Answer:
        """DescribeInstanceAttribute: the two attributes that ministack makes up."""
        instance = _instance(parameters)
        attribute = _one(parameters, "Attribute")
        values = {
            "disableApiTermination": str(bool(instance.get("_protected"))).lower(),
            "userData": instance.get("UserData", ""),
        }
        if attribute not in values:
            return otherwise(parameters)
        answer: Answer = ec2._xml(
            200,
            "DescribeInstanceAttributeResponse",
            f"<instanceId>{instance['InstanceId']}</instanceId>"
            f"<{attribute}><value>{values[attribute]}</value></{attribute}>",
        )
        return answer

    def _protect(self, instance: Record, *, protected: bool) -> None:
        instance["_protected"] = protected
        self._machines.protect(instance["InstanceId"], protected=protected)

    def _refuse_if_protected(self, identity: str) -> None:
        if ec2._instances[identity].get("_protected"):
            self._machines.refuse(identity)
            raise Ec2Error(
                "OperationNotPermitted",
                f"The instance '{identity}' may not be terminated. "
                "Modify its 'disableApiTermination' instance attribute and try again.",
            )


# ---- rules of security groups ----


def create_rule(logical: str, properties: Record, stack: str) -> tuple[str, Record]:
    """Add a rule to a security group."""
    group = ec2._security_groups.get(properties.get("GroupId"))
    if group is None:
        raise Ec2Error(
            "InvalidGroup.NotFound", f"The security group '{properties.get('GroupId')}' does not exist"
        )
    group["IpPermissions"] += parts.provisioners._ec2_sg_permissions([properties])
    identity = f"sgr-{stack}-{logical}-{parts.new_uuid()[:8]}"
    return identity, {"Id": identity}


def update_rule(
    physical: str, old: Record, properties: Record, _stack: str, _logical: str
) -> tuple[str, Record]:
    """Change a rule's description."""
    delete_rule(physical, old)
    group = ec2._security_groups[properties["GroupId"]]
    group["IpPermissions"] += parts.provisioners._ec2_sg_permissions([properties])
    return physical, {"Id": physical}


def delete_rule(_physical: str, properties: Record) -> None:
    """Take a rule out of its security group, if that is still there."""
    group = ec2._security_groups.get(properties.get("GroupId"))
    (rule,) = parts.provisioners._ec2_sg_permissions([properties])
    if group and rule in group["IpPermissions"]:
        group["IpPermissions"].remove(rule)


# ---- the network that is there from the start ----


def create_network(prefix: str, file: Path) -> None:
    """Make a VPC <prefix>.0.0/16 with three subnets and a route table, and write their ids into a file."""
    ec2._ensure_defaults_initialized()
    known = set(ec2._vpcs)
    ec2._create_vpc({"CidrBlock": [f"{prefix}.0.0/16"]})
    (vpc,) = set(ec2._vpcs) - known
    subnets: list[str] = []
    for number, zone in enumerate("abc", 1):
        known = set(ec2._subnets)
        ec2._create_subnet(
            {
                "VpcId": [vpc],
                "CidrBlock": [f"{prefix}.{number}.0/24"],
                "AvailabilityZone": [parts.get_region() + zone],
            }
        )
        subnets += set(ec2._subnets) - known
    table = ec2._vpcs[vpc]["MainRouteTableId"]
    file.write_text(json.dumps({"vpc": vpc, "subnets": subnets, "route_table": table}), encoding="utf-8")


# ---- small things ----


def _handler(create: object, update: object, delete: object) -> Record:
    return {"create": create, "update": update, "update_with_logical_id": True, "delete": delete}


def _refusing(action: Callable[[Parameters], Answer]) -> Callable[[Parameters], Answer]:
    """An API action that answers with the error that its body raised."""

    def answer(parameters: Parameters) -> Answer:
        try:
            return action(parameters)
        except Ec2Error as error:
            refusal: Answer = ec2._error(error.code, error.sentence, 400)
            return refusal

    return answer


def _instance(parameters: Parameters) -> Record:
    identity = _one(parameters, "InstanceId")
    instance: Record | None = ec2._instances.get(identity)
    if instance is None or instance["State"]["Name"] == "terminated":
        raise Ec2Error("InvalidInstanceID.NotFound", f"The instance ID '{identity}' does not exist")
    return instance


def _refuse_if_in_use(identity: str) -> None:
    if ec2._network_interfaces[identity]["Attachment"]:
        raise Ec2Error("InvalidParameterValue", f"Network interface '{identity}' is currently in use.")


def _addresses() -> set[str]:
    return {interface["PrivateIpAddress"] for interface in ec2._network_interfaces.values()}


def _group(identity: str) -> Record:
    return {
        "GroupId": identity,
        "GroupName": ec2._security_groups.get(identity, {}).get("GroupName", identity),
    }


def _interface_attributes(identity: str) -> Record:
    interface = ec2._network_interfaces[identity]
    return {
        "Id": identity,
        "PrimaryPrivateIpAddress": interface["PrivateIpAddress"],
        "SecondaryPrivateIpAddresses": [],
        "VpcId": interface["VpcId"],
    }


def _instance_attributes(instance: Record) -> Record:
    return {
        "InstanceId": instance["InstanceId"],
        "PrivateIp": instance["PrivateIpAddress"],
        "PrivateDnsName": instance["PrivateDnsName"],
        "AvailabilityZone": instance["Placement"]["AvailabilityZone"],
        "VpcId": instance["VpcId"],
    }


def _true(value: Any) -> bool:
    return str(value).lower() == "true"


def _one(parameters: Parameters, name: str) -> str:
    return (parameters.get(name) or [""])[0]


def _list(parameters: Parameters, name: str) -> list[str]:
    identities: list[str] = ec2._parse_member_list(parameters, name)
    return identities
