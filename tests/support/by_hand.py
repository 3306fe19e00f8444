"""CloudFormation's part, played by hand: the service on real etcd, machines that boot from the UserData."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from etcd_resize import service
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.identity import Identity
from etcd_resize.model.urls import client_url
from etcd_resize.request import CLUSTER, MEMBER, VOTER, parse
from playground.cloud import userdata
from tests.support.etcd import Etcd, wait_healthy
from tests.support.events import cluster_properties, event, member_properties, voter_properties
from tests.support.fakes import FakeBucket, FakeMachines


class Stack:
    """The events of a stack in the order in which they come."""

    def __init__(self, etcd: Path, folder: Path, addresses: list[str]) -> None:
        self.etcd, self.folder, self.addresses = etcd, folder, addresses
        self.bucket, self.ec2 = FakeBucket(), FakeMachines()
        self.machines: list[Etcd] = []
        self.answers: list[dict[str, str]] = []
        bucket = self.bucket
        self.outside = service.Outside(EtcdGateway, bucket, bucket, self.ec2, time, bucket.vault)

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        return service.handle(self.outside, parse(sent), budget=30)

    def identity(self, number: int) -> Identity:
        return Identity("etcd", f"etcd-{number}", self.addresses[number - 1])

    def endpoints(self, number: int) -> str:
        """What the members before that one offer."""
        return ",".join(map(client_url, self.addresses[: number - 1]))

    def create_member(self, number: int, **changes: str) -> dict[str, str]:
        properties = member_properties(self.identity(number), self.endpoints(number), **changes)
        answer = self.send(event("Create", MEMBER, properties))
        self.answers.append(answer)
        return answer

    def boot(self, answer: dict[str, str]) -> None:
        self.machines.append(Etcd(self.etcd, self.folder, environment(answer)))

    def create_voter(self, number: int, **changes: str) -> None:
        self.send(event("Create", VOTER, self.voter(number, **changes)))

    def voter(self, number: int, **changes: str) -> dict[str, str]:
        identity = self.identity(number)
        return voter_properties(
            identity, self.answers[number - 1]["MemberId"], self.endpoints(number), **changes
        )

    def grow(self, size: int) -> None:
        for number in range(len(self.machines) + 1, size + 1):
            self.boot(self.create_member(number))
            self.create_voter(number)
        before = cluster_properties("etcd", self.addresses[: max(1, size - 1)])
        wanted = cluster_properties("etcd", self.addresses[:size])
        action = "Update" if "etcd" in self.bucket.clusters and size > 1 else "Create"
        self.send(event(action, CLUSTER, wanted, old=before, physical_id="etcd/cluster"))

    def guard(self, size: int) -> dict[str, str]:
        return self.send(
            event(
                "Update",
                CLUSTER,
                cluster_properties("etcd", self.addresses[:size]),
                old=cluster_properties("etcd", self.addresses[: len(self.machines)]),
                physical_id="etcd/cluster",
            )
        )

    def delete_voter(self, number: int) -> None:
        physical_id = str(self.identity(number))
        self.send(event("Delete", VOTER, self.voter(number), physical_id=physical_id))

    def delete_member(self, number: int) -> None:
        properties = member_properties(self.identity(number), self.endpoints(number))
        self.send(event("Delete", MEMBER, properties, physical_id=str(self.identity(number))))

    def shrink(self, size: int) -> None:
        self.guard(size)
        for number in range(len(self.machines), size, -1):
            self.delete_voter(number)
            self.machines.pop().kill()
            self.delete_member(number)
            self.answers.pop()

    def names(self, size: int) -> list[str]:
        seen = wait_healthy(self.endpoints(size + 1).split(","), size)
        return sorted(member.name for member in seen.voters)

    def stop(self) -> None:
        for machine in self.machines:
            machine.kill()


def environment(answer: dict[str, str]) -> dict[str, str]:
    """What the machine's etcd is started with, read from the UserData as cloud-init and systemd would."""
    return userdata.read(base64.b64decode(answer["UserData"])).environment
