"""A stack under test: deployed with real sam, watched by its journal, with a writer that never stops."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from etcd_resize.model.cluster import ClusterView
from etcd_resize.model.urls import client_url
from playground import papers
from playground.account import Deployment
from playground.connections import Connections
from playground.local import Playground
from playground.machines import Machine
from playground.observer import Observer, is_whole
from playground.writer import Keys, Writer, read_back
from tests.support.waiting import wait_until

Record = dict[str, Any]

QUICK = {"StabilizationSeconds": "0", "TimeoutSeconds": "20"}
"""A test need not watch a new member for long, nor wait ten minutes for what will never come."""
BOOTING = {"TimeoutSeconds": "120"}
"""A container boots a whole system; how long that may take, the tests that measure it say."""


class World:
    """One stack, whose cluster is called as the stack is."""

    def __init__(self, playground: Playground, stack: str) -> None:
        self.playground, self.stack = playground, stack
        self.created = False
        self.tls = True
        self.papers = papers.of_stack(playground, stack)
        self._begin = len(playground.journal.records())

    @property
    def patience(self) -> dict[str, str]:
        """How long the steps of its resizes may wait."""
        return QUICK | BOOTING if self.playground.kind == "container" else QUICK

    # --- what a user does ---

    def deploy(self, size: int | str, **parameters: str) -> Deployment:
        """``sam deploy``: the first one says all, a later one only what changes."""
        given = {"ClusterSize": str(size), **parameters}
        self.tls = given.get("Tls", "on" if self.tls else "off") == "on"
        if not self.created:
            given = {**self.patience, "ClusterName": self.stack, **given}
        done = self.playground.deploy(self.stack, given)
        self.created = self.created or done.ok
        return done

    def resize(self, size: int, **parameters: str) -> Deployment:
        """A deploy that must succeed."""
        done = self.deploy(size, **parameters)
        assert done.ok, f"{done.status}: {done.reason}\n{done.output[-2000:]}"
        return done

    def delete(self) -> None:
        """``sam delete``, which must succeed."""
        done = self.playground.delete(self.stack)
        assert done.ok, f"{done.status}: {done.reason}\n{done.output[-2000:]}"
        self.created = False

    def end(self) -> None:
        """After a test: let go of every protection, and delete what is left."""
        if not self.playground.status(self.stack):
            return
        for machine in self.machines:
            self.playground.client("ec2").modify_instance_attribute(
                InstanceId=machine.instance, DisableApiTermination={"Value": False}
            )
        self.playground.delete(self.stack)

    # --- what can be seen ---

    @property
    def records(self) -> list[Record]:
        """The journal of this stack, its nested stacks and machines, since the test began."""
        return [record for record in self.playground.journal.records()[self._begin :] if self._mine(record)]

    def _mine(self, record: Record) -> bool:
        if record["kind"] == "machine":
            return record["name"].startswith(f"{self.stack}-") or not record["name"]
        return bool(re.fullmatch(rf"{self.stack}(-Member\d-\w+)?", record["stack"]))

    @property
    def story(self) -> list[str]:
        """The custom resource events and the machines' starts and stops, in order, a few words each."""
        return [told for record in self.records if (told := self._tell(record))]

    def _tell(self, record: Record) -> str:
        if record["kind"] == "event":
            number = re.match(rf"{self.stack}-Member(\d)-", record["stack"])
            kind = record["resource"].removeprefix("Custom::Etcd")
            return f"{record['request']} {kind}{number[1] if number else ''}"
        if record["kind"] == "machine" and record["what"] in {
            "start",
            "stop",
            "reboot",
            "never-booted",
            "refused",
        }:
            return f"{record['what']} {record['name'].removeprefix(f'{self.stack}-')}"
        return ""

    @property
    def machines(self) -> list[Machine]:
        """The machines of this stack's members, the first one first."""
        mine = [one for one in self.playground.machines() if one.name.startswith(f"{self.stack}-")]
        return sorted(mine, key=lambda machine: machine.name)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of the machines that run."""
        running = [one for one in self.machines if one.state == "running"]
        return tuple(client_url(one.address, tls=self.tls) for one in running)

    def frozen(self) -> dict[str, tuple[str, str, int | None]]:
        """What a resize must not touch: UserData, image and process of each machine."""
        return {
            one.name: (hashlib.sha256(one.user_data).hexdigest(), one.image, one.pid) for one in self.machines
        }

    def view(self, endpoints: Sequence[str] = ()) -> ClusterView:
        """The cluster now."""
        observer = Observer(lambda: endpoints or self.endpoints, self.papers)
        try:
            return observer.look()
        finally:
            observer.stop()

    def wait_whole(self, size: int) -> ClusterView:
        """The cluster once so many voters serve and nobody else is listed."""
        wait_until(lambda: is_whole(self.view(), size), f"{self.stack}: {size} healthy voters")
        return self.view()

    def names(self, endpoints: Sequence[str] = ()) -> list[str]:
        """The members' names in order, a peer URL for those without."""
        return sorted(member.name or member.peer_urls[0] for member in self.view(endpoints).members)

    def identities(self) -> dict[str, str]:
        """Who is who: the peer URL and the role of each member, by its ID."""
        return {
            f"{member.id:x}": f"{member.peer_urls[0]}{' learner' if member.is_learner else ''}"
            for member in self.view().members
        }

    # --- what happens meanwhile ---

    @contextmanager
    def written_to(self, endpoints: Sequence[str] = ()) -> Iterator[Writer]:
        """Writes that never stop; at the end none may have failed and none may be lost."""
        connections = Connections(self.papers)
        observer = Observer(lambda: endpoints or self.endpoints, self.papers, period=0.2)
        writer = Writer(connections, observer.endpoints, Keys(self.stack))
        observer.start()
        writer.start()
        try:
            wait_until(lambda: len(writer.ledger.numbers) > 10, "the writer writes")
            yield writer
        finally:
            writer.stop()
            observer.stop()
        assert writer.ledger.failures == []
        assert read_back(connections, _urls(observer), writer.keys, writer.ledger.numbers) == []
        connections.close()

    @contextmanager
    def in_the_background(self, size: int, **parameters: str) -> Iterator[list[Deployment]]:
        """A deploy that runs while the test does something else; its end is waited for."""
        done: list[Deployment] = []
        thread = threading.Thread(target=lambda: done.append(self.deploy(size, **parameters)), daemon=True)
        thread.start()
        try:
            yield done
        finally:
            thread.join(timeout=300)
            assert not thread.is_alive()

    @contextmanager
    def held_back(self, event: str) -> Iterator[None]:
        """Events like ``Delete Custom::EtcdVoter`` do not go out before this ends."""
        orders = self.playground.directory / "control/hold"
        orders.write_text(f"{event}\n", encoding="utf-8")
        try:
            yield
        finally:
            orders.unlink()

    def wait_for(self, kind: str, **fields: str) -> Record:
        """The first record of the journal like this; it is waited for."""
        found: list[Record] = []

        def there() -> bool:
            found.extend(
                record
                for record in self.records
                if record["kind"] == kind and all(record[name] == value for name, value in fields.items())
            )
            return bool(found)

        wait_until(there, f"{kind} {fields}", patience=120)
        return found[0]


def _urls(observer: Observer) -> Sequence[str]:
    """Where to read back: the observer's seeds, looked at once more."""
    seen = observer.latest
    return tuple(url for member in seen.voters if member.health.serving for url in member.client_urls)
