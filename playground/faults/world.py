"""One stack in the cloud that can be broken, with its cluster: what a user does to it, and the orders that break it.

Nothing here judges: `checks.py` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from etcd_resize.errors import EtcdResizeError
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.cluster import ClusterView, Member
from etcd_resize.model.urls import client_url
from playground import network, papers, tools
from playground.account import CAPABILITIES, PlaygroundError
from playground.faults.cloud import QUICK, Cloud, Record, wait_until
from playground.faults.mailbox import Mailbox
from playground.machines import Machine
from playground.observer import is_whole


class World:
    """One stack, whose cluster is called as the stack is."""

    def __init__(self, cloud: Cloud, template: str, stack: str) -> None:
        self.cloud, self.stack = cloud, stack
        self.orders = cloud.control / stack
        self.problems: list[str] = []
        """What did not hold, a sentence each."""
        self.seeds: tuple[str, ...] = ()
        """Client URLs of members that are not this stack's."""
        self.id = ""
        self.tls = True
        self.papers = papers.of_stack(cloud, stack)
        self.template = template
        self._client = cloud.client("cloudformation")
        self._marked = 0
        self.orders.mkdir(parents=True, exist_ok=True)
        self.lift_all()

    # ---- what a user does ----

    def create(self, size: int, **parameters: str) -> str:
        """Create the stack and wait for its end; its status."""
        given = {
            "ClusterSize": str(size),
            "ClusterName": self.stack,
            **self.cloud.parameters(),
            **QUICK,
            **parameters,
        }
        self.tls = parameters.get("Tls", "on") == "on"
        self.id = self._client.create_stack(
            StackName=self.stack,
            TemplateURL=self.template,  # a body in the request may have 51,200 bytes
            Capabilities=list(CAPABILITIES),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        )["StackId"]
        return self.rest()

    def begin(self, size: int, **parameters: str) -> None:
        """Ask for another size, and do not wait."""
        given = {"ClusterSize": str(size), **QUICK, **parameters}
        self._client.update_stack(
            StackName=self.stack,
            UsePreviousTemplate=True,
            Capabilities=list(CAPABILITIES),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": given[name]}
                if name in given
                else {"ParameterKey": name, "UsePreviousValue": True}
                for name in self._parameter_names()
            ],
        )

    def resize(self, size: int, **parameters: str) -> str:
        """Ask for another size and wait for its end; the stack's status."""
        self.begin(size, **parameters)
        return self.rest()

    @contextlib.contextmanager
    def resizing(self, size: int, **parameters: str) -> Iterator[None]:
        """A resize that goes on while something else happens; it has ended when this is left."""
        self.begin(size, **parameters)
        try:
            yield
        finally:
            self.order("go-on")
            self.rest()

    def cancel(self) -> None:
        """Cancel the update that goes on."""
        self._client.cancel_update_stack(StackName=self.stack)

    def delete(self) -> str:
        """Delete the whole stack and wait for its end; its status."""
        self._client.delete_stack(StackName=self.stack)
        return self.rest()

    def rest(self) -> str:
        """Wait until the stack is in a final state."""
        wait_until(lambda: not self.status.endswith("_IN_PROGRESS"), f"{self.stack} in a final state")
        return self.status

    def _parameter_names(self) -> list[str]:
        stack = self._client.describe_stacks(StackName=self.id)["Stacks"][0]
        return [parameter["ParameterKey"] for parameter in stack["Parameters"]]

    # ---- what can be seen ----

    @property
    def status(self) -> str:
        """The stack's status."""
        return self.cloud.status(self.id)

    @property
    def sentence(self) -> str:
        """Why the last operation failed; nothing if it did not."""
        return self.cloud.reason(self.id)

    @property
    def size(self) -> int:
        """ClusterSize as CloudFormation has it."""
        return int(self.parameter("ClusterSize"))

    def parameter(self, name: str) -> str:
        """A parameter as CloudFormation has it."""
        stack = self._client.describe_stacks(StackName=self.id)["Stacks"][0]
        return str(next(one["ParameterValue"] for one in stack["Parameters"] if one["ParameterKey"] == name))

    def flipped(self, *numbers: int) -> dict[str, str]:
        """The parameter that gives these members the other colour, whichever they have."""
        colours = self.parameter("Members").split(",")
        for number in numbers:
            colours[number - 1] = "green" if colours[number - 1] == "blue" else "blue"
        return {"Members": ",".join(colours)}

    @property
    def machines(self) -> list[Machine]:
        """The machines of this stack's members, by name."""
        mine = [one for one in self.cloud.machines() if re.fullmatch(rf"{self.stack}-\d", one.name)]
        return sorted(mine, key=lambda machine: machine.name)

    def machine(self, number: int) -> Machine:
        """The machine of a member."""
        return next(one for one in self.machines if one.name == f"{self.stack}-{number}")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of the machines that run, and of the members that are somebody else's."""
        return (
            *self.seeds,
            *(client_url(one.address, tls=self.tls) for one in self.machines if one.state == "running"),
        )

    @contextlib.contextmanager
    def gateway(self) -> Iterator[EtcdGateway]:
        """A connection to the cluster, as the function has one."""
        gateway = EtcdGateway(self.endpoints, self.papers() if self.tls else None)
        try:
            yield gateway
        finally:
            gateway.close()

    def view(self) -> ClusterView:
        """The cluster now. Raises EtcdResizeError if nobody answers."""
        with self.gateway() as gateway:
            return gateway.view()

    def is_whole(self, size: int) -> bool:
        """Whether there are so many healthy voters and nobody else."""
        with contextlib.suppress(EtcdResizeError):
            return is_whole(self.view(), size)
        return False

    def has_quorum(self) -> bool:
        """Whether a linearizable read is answered."""
        with contextlib.suppress(EtcdResizeError):
            return self.view().has_quorum
        return False

    def member(self, number: int) -> Member:
        """A member by its number."""
        found = self.view().named(f"{self.stack}-{number}")
        if found is None:
            raise PlaygroundError(f"{self.stack}-{number} is no member")
        return found

    def lead(self, number: int) -> None:
        """Let a member lead."""
        with self.gateway() as gateway:
            view = gateway.view()
            wanted = view.named(f"{self.stack}-{number}")
            if wanted and view.leader and view.leader != wanted:
                gateway.move_leader(view.leader, wanted)
        wait_until(lambda: self._leads(number), f"{self.stack}-{number} leads")

    def _leads(self, number: int) -> bool:
        leader = self.view().leader
        return leader is not None and leader.name == f"{self.stack}-{number}"

    def leader(self) -> int:
        """The number of the member that leads."""
        wait_until(lambda: self.view().leader, f"{self.stack} has a leader")
        leader = self.view().leader
        return int(leader.name.rpartition("-")[2]) if leader else 0

    # ---- what the cloud has written down ----

    @property
    def records(self) -> list[Record]:
        """The journal of this stack and its nested stacks, since `mark`."""
        name = re.compile(rf"{self.stack}(-Member\d-\w+)?")
        return [
            one
            for one in self.cloud.written()[self._marked :]
            if name.fullmatch(one.get("stack", "")) or one.get("name", "").startswith(f"{self.stack}-")
        ]

    def mark(self) -> None:
        """Forget what was written down so far."""
        self._marked = len(self.cloud.written())

    def happened(self, kind: str, **fields: str) -> bool:
        """Whether a record like this was written."""
        return any(
            one["kind"] == kind and all(one.get(name) == value for name, value in fields.items())
            for one in self.records
        )

    def wait_for(self, kind: str, **fields: str) -> None:
        """Wait for a record like this."""
        wait_until(lambda: self.happened(kind, **fields), f"{self.stack}: {kind} {fields}")

    # ---- orders ----

    def order(self, name: str, *lines: str) -> None:
        """Put an order for this stack."""
        draft = self.orders / f".{name}"
        draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        draft.replace(self.orders / name)

    def lift(self, *names: str) -> None:
        """Take orders away."""
        for name in names:
            (self.orders / name).unlink(missing_ok=True)

    def lift_all(self) -> None:
        """Take every order away. The machines' stays, and is empty: it is read at each boot."""
        for file in self.orders.iterdir():
            file.unlink(missing_ok=True)
        self.order("machines")

    def ordered(self, name: str) -> list[str]:
        """The lines of an order, or of what was written in answer to one."""
        with contextlib.suppress(FileNotFoundError):
            return (self.orders / name).read_text(encoding="utf-8").splitlines()
        return []

    def reached(self, point: str) -> None:
        """Wait until the function is at a point."""
        wait_until(lambda: point in self.ordered("reached"), f"{self.stack}: the function at {point}", 60)

    @contextlib.contextmanager
    def stopped_at(self, point: str, size: int, **parameters: str) -> Iterator[None]:
        """A resize whose function waits at a point while something else happens; then it goes on to its end."""
        self.order("points", f"{point} pause")
        with self.resizing(size, **parameters):
            self.reached(point)
            yield

    def give_up(self) -> None:
        """Let the ServiceTimeout of the event that waits now pass."""
        self.order("time-out")
        wait_until(
            lambda: not (self.orders / "time-out").exists(), f"{self.stack}: an event was given up", 60
        )

    def call(self, match: str, do: str, seconds: float = 0) -> str:
        """A line of the order `calls`."""
        return json.dumps({"match": match, "do": do, "seconds": seconds})

    # ---- breaking and mending by hand ----

    def kill(self, *numbers: int) -> None:
        """The power of machines goes."""
        for number in numbers:
            self.cloud.kill(self.machine(number))

    def restart(self, *numbers: int) -> None:
        """It comes back."""
        for number in numbers:
            self.cloud.restart(self.machine(number))

    @contextlib.contextmanager
    def cut_off(self, *machines: Machine) -> Iterator[None]:
        """Nobody reaches these machines, nor one the other, until this is left: their addresses lead nowhere (root)."""
        with contextlib.ExitStack() as healing:
            for one in machines:
                route = ("blackhole", f"{one.address}/32", "table", "local")
                network.ip("route", "replace", *route)
                healing.callback(network.ip, "route", "delete", *route)
            yield

    def wait_whole(self, size: int) -> None:
        """Wait until so many voters are healthy and nobody else is listed."""
        wait_until(lambda: self.is_whole(size), f"{self.stack}: {size} healthy voters", 40)

    def etcdctl(self, *words: str) -> str:
        """What a person at a terminal does. Raises PlaygroundError."""
        control = tools.etcd().parent / "etcdctl"
        done = subprocess.run(
            [str(control), *words],
            env={"PATH": os.defpath, **self._etcdctl_settings()},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode:
            raise PlaygroundError(f"etcdctl {' '.join(words)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def context(self) -> ssl.SSLContext | None:
        """What a program that speaks HTTP to a member shows it; None without TLS."""
        settings = self._etcdctl_settings()
        if "ETCDCTL_CACERT" not in settings:
            return None
        context = ssl.create_default_context(cafile=settings["ETCDCTL_CACERT"])
        context.load_cert_chain(settings["ETCDCTL_CERT"], settings["ETCDCTL_KEY"])
        return context

    def _etcdctl_settings(self) -> dict[str, str]:
        settings = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)}
        shown = self.papers() if self.tls else None
        if shown:
            settings |= papers.as_files(shown, self.cloud.directory / "papers" / self.stack)
        return settings

    def terminate(self, instance: str) -> None:
        """What an operator does with the machine of a ghost."""
        ec2 = self.cloud.client("ec2")
        ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
        ec2.terminate_instances(InstanceIds=[instance])

    # ---- events of our own ----

    @property
    def function(self) -> str:
        """The name of the function."""
        return f"{self.stack}-etcd-resize"

    def nested(self, number: int) -> str:
        """The id of the nested stack of a member."""
        resource = self._client.describe_stack_resource(
            StackName=self.stack, LogicalResourceId=f"Member{number}"
        )
        return str(resource["StackResourceDetail"]["PhysicalResourceId"])

    def invoke(self, mailbox: Mailbox, event: Mapping[str, Any]) -> Record:
        """Send an event of our own to the function; its answer."""
        url, answered = mailbox.address()
        payload = json.dumps({**event, "ResponseURL": url}).encode()
        self.cloud.client("lambda").invoke(FunctionName=self.function, Payload=payload)
        return answered(30.0)

    # ---- what must hold ----

    def expect(self, holds: object, sentence: str) -> None:
        """Note a problem unless it holds."""
        if not holds:
            self.problems.append(sentence)

    def expect_status(self, wanted: str) -> None:
        """Note a problem unless the stack is in that state."""
        status = self.status
        self.expect(status == wanted, f"the stack is in {status}, not in {wanted}: {self.sentence}")

    def expect_sentence(self, part: str) -> None:
        """Note a problem unless the stack's sentence has that part."""
        said = self.sentence
        self.expect(part in said, f"the stack did not say {part!r} but {said!r}")
