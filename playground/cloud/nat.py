"""A way out of a VPC: elastic IPs and NAT gateways for CloudFormation, which ministack has in EC2's own API alone.

Nothing is routed here: the machines of the playground reach nobody.
"""

from __future__ import annotations

from playground.cloud import parts
from playground.cloud.stack import Record

ec2 = parts.ec2


def handlers() -> dict[str, Record]:
    """The resource types, in the form of ministack's own table."""
    return {
        "AWS::EC2::EIP": {"create": create_address, "delete": release_address},
        "AWS::EC2::NatGateway": {"create": create_gateway, "delete": delete_gateway},
    }


def create_address(_logical: str, _properties: Record, _stack: str) -> tuple[str, Record]:
    """Allocate an address, which is its physical id."""
    known = set(ec2._addresses)
    ec2._allocate_address({})
    (allocation,) = set(ec2._addresses) - known
    address = ec2._addresses[allocation]["PublicIp"]
    return address, {"PublicIp": address, "AllocationId": allocation}


def release_address(physical: str, _properties: Record) -> None:
    """Give an address back; one that is gone already is fine."""
    for allocation in [name for name, one in ec2._addresses.items() if one["PublicIp"] == physical]:
        ec2._release_address({"AllocationId": [allocation]})


def create_gateway(_logical: str, properties: Record, _stack: str) -> tuple[str, Record]:
    """Make a NAT gateway in a subnet. Raises ValueError if the subnet or its address is not there."""
    subnet, allocation = properties.get("SubnetId"), properties.get("AllocationId")
    if subnet not in ec2._subnets:
        raise ValueError(f"The subnet ID '{subnet}' does not exist")
    if allocation not in ec2._addresses:
        raise ValueError(f"The allocation ID '{allocation}' does not exist")
    known = set(ec2._nat_gateways)
    ec2._create_nat_gateway({"SubnetId": [subnet], "AllocationId": [allocation]})
    (gateway,) = set(ec2._nat_gateways) - known
    return gateway, {"NatGatewayId": gateway}


def delete_gateway(physical: str, _properties: Record) -> None:
    """Delete a NAT gateway; one that is gone already is fine."""
    ec2._delete_nat_gateway({"NatGatewayId": [physical]})
