"""The playground's live page: who is a member, what happens, and what to do about it, in a browser on this machine.

It shows one stack, and drives the playground as a user at the terminal would: `sam deploy`, and machines that are
broken. How a browser reaches it is in `live_server`. It decides nothing about etcd.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from etcd_resize.model.cluster import ClusterView, Member, hex_id
from etcd_resize.model.urls import host_of
from playground import machines, papers
from playground.account import HOST, PlaygroundError
from playground.demo_run import running_urls, why
from playground.live_server import OrderError, Server
from playground.local import Playground
from playground.machines import Machine
from playground.observer import Observer, in_order, role
from playground.view import event_line, health

SIZES = range(1, 8)
"""What `ClusterSize` may be."""
LINES = 200
"""How many of the newest events the page shows."""
STACK_SECONDS = 1.0
"""How often CloudFormation is asked about the stack."""
END_SECONDS = 0.1
"""How often a command is told to end, when everything ends."""

# ---- what is shown: values in, values out ----


def rows(
    view: ClusterView, found: Iterable[Machine], cut_off: Iterable[str], paused: Callable[[Machine], bool]
) -> list[dict[str, Any]]:
    """The machines with their members, by address, then the members whose machines are gone.

    `cut_off` are instance ids. Keys without a member or without a machine are empty.
    """
    members = {_address(member): member for member in in_order(view)}
    cut = set(cut_off)
    shown = []
    for machine in found:
        member = members.pop(machine.address, None)
        state = "paused" if machine.pid is not None and paused(machine) else machine.state
        shown.append(
            {
                "instance": machine.instance,
                "address": machine.address,
                "state": f"{state}, cut off" if machine.instance in cut else state,
                **_member(member, view, machine.name or machine.instance),
                "actions": actions(machine, state, cut_off=machine.instance in cut),
            }
        )
    gone = [
        {"instance": "", "address": address, "state": "no machine", **_member(member, view), "actions": []}
        for address, member in members.items()
    ]
    return shown + gone


def actions(machine: Machine, state: str, *, cut_off: bool) -> list[str]:
    """What can be done to a machine now; only a container is cut off."""
    if machine.pid is None:
        return ["start"] if state in {"stopped", "exited"} else []
    network = ["heal" if cut_off else "cut off"] if machine.kind == "container" else []
    return ["kill", "resume" if state == "paused" else "pause", *network]


def line(record: Mapping[str, Any], started: float) -> str | None:
    """A line for a record of the journal, or None for one that is not shown. Times are seconds since `started`."""
    if record.get("kind") == "stack":
        reason = f": {record['reason']}" if record.get("reason") else ""
        at = f"{float(record.get('at', started)) - started:6.1f} s"
        return f"{at}  stack {record.get('stack')} {record.get('status')}{reason}"
    return event_line(record, started)


def size_of(order: Mapping[str, Any]) -> int:
    """The ClusterSize that an order asks for. Raises OrderError."""
    size = order.get("size")
    if type(size) is not int or size not in SIZES:
        raise OrderError(f"ClusterSize is a whole number from {SIZES[0]} to {SIZES[-1]}.")
    return size


def _address(member: Member) -> str:
    return host_of(member.peer_urls[0])


def _member(member: Member | None, view: ClusterView, name: str = "") -> dict[str, Any]:
    if member is None:
        return {"name": name, "id": "", "role": "", "health": "", "serving": False, "version": "", "bytes": 0}
    return {
        "name": member.name or name or "(no name yet)",
        "id": hex_id(member.id),
        "role": "leader" if member == view.leader else role(member),
        "health": health(member),
        "serving": member.health.serving,
        "version": member.health.version,
        "bytes": member.health.db_size,
    }


# ---- the page's side of the playground ----


class Live:
    """One stack of a playground as a page. Use it as a context manager; `address` is the page's."""

    def __init__(self, playground: Playground, stack: str, *, port: int = 0) -> None:
        """`port` 0 takes any that is free."""
        self._playground = playground
        self._stack = stack
        self._started = time.time()
        self._ending = threading.Event()
        self._deploying = threading.Lock()
        self._stack_seen: dict[str, Any] = {}
        self._observer = Observer(tuple)
        self._urls: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._cut_off: set[str] = set()
        self._deployment: dict[str, Any] = {}
        self._token = secrets.token_urlsafe(16)
        try:
            self._server = Server((HOST, port), self, self._token)
        except OSError as error:
            raise PlaygroundError(f"The page cannot listen on port {port} of {HOST}: {error}") from error
        self.address = f"http://{HOST}:{self._server.server_port}/{self._token}/"
        self._threads = [
            threading.Thread(target=work, name=f"live {work.__name__}", daemon=True)
            for work in (self._serve, self._follow, self._watch)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a deployment that runs, every connection, and every thread."""
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            while thread.is_alive():
                self._playground.end_commands()
                thread.join(END_SECONDS)
        self._observer.stop()

    @property
    def ending(self) -> threading.Event:
        """Set as soon as nobody is to be told any more."""
        return self._ending

    def state(self) -> dict[str, Any]:
        """What the page shows now."""
        view, seen = self._observer.latest, self._stack_seen
        return {
            "stack": self._stack,
            "status": seen.get("StackStatus", ""),
            "size": parameters_of(seen).get("ClusterSize", ""),
            "kind": self._playground.kind,
            "quorum": view.has_quorum,
            "machines": rows(view, self._playground.machines(), self._cut_off, machines.is_paused),
            "deployment": self._deployment,
            "events": self._lines[-LINES:],
        }

    # ---- orders ----

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what the page asks for. Raises OrderError, or what the playground raises."""
        if order.get("do") == "deploy":
            self._deploy(size_of(order))
        else:
            self._do(str(order.get("do")), str(order.get("machine")))

    def _deploy(self, size: int) -> None:
        """Begin `sam deploy`."""
        if self._ending.is_set():
            raise OrderError("The playground is ending.")
        if not self._deploying.acquire(blocking=False):
            raise OrderError("A deployment runs already: wait until it has ended.")
        self._say(f"page: sam deploy, ClusterSize={size}")
        self._deployment = {"size": size, "runs": True}
        thread = threading.Thread(target=self._run_deployment, args=(size,), name="live deploy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_deployment(self, size: int) -> None:
        try:
            done = self._playground.deploy(self._stack, {"ClusterSize": str(size)})
            ended = {"ok": done.ok, "seconds": done.seconds, "reason": why(done)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the page has to say that it has ended
            ended = {"ok": False, "seconds": 0.0, "reason": str(error)}
        self._deployment = {"size": size, "runs": False, **ended}
        self._say(f"page: sam deploy, ClusterSize={size}: {'done' if ended['ok'] else ended['reason']}")
        self._deploying.release()

    def _do(self, what: str, instance: str) -> None:
        """Break a machine, or mend it."""
        found = next((one for one in self._playground.machines() if one.instance == instance), None)
        if found is None:
            raise OrderError(f"There is no machine {instance}.")
        orders: dict[str, Callable[[Machine], None]] = {
            "kill": self._playground.kill,
            "start": self._playground.restart,
            "pause": self._playground.pause,
            "resume": self._playground.resume,
            "cut off": self._playground.cut_off,
            "heal": self._playground.heal,
        }
        if what not in orders:
            raise OrderError(f"A machine is not told to {what}: it is told to {', '.join(orders)}.")
        orders[what](found)
        if what == "cut off":
            self._cut_off.add(instance)
        elif what == "heal":
            self._cut_off.discard(instance)
        self._say(f"page: {what} {found.name or instance}")

    def _say(self, words: str) -> None:
        self._lines.append(f"{time.time() - self._started:6.1f} s  {words}")

    # ---- threads ----

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def _follow(self) -> None:
        """Keep up with the journal."""
        for record in self._playground.journal.follow(over=self._ending.is_set):
            if record["kind"] == "machine":
                self._urls.append(record)
            if told := line(record, self._started):
                self._lines.append(told)

    def _watch(self) -> None:
        """Keep up with the stack; another stack of its name has another cluster."""
        while not self._ending.is_set():
            with contextlib.suppress(BotoCoreError, ClientError):
                seen = self._playground.describe(self._stack) or {}
                if _cluster(seen) != _cluster(self._stack_seen):
                    self._observer.stop()
                    self._observer = self._observe(parameters_of(seen)) if seen else Observer(tuple)
                self._stack_seen = seen
            self._ending.wait(STACK_SECONDS)

    def _observe(self, given: Mapping[str, str]) -> Observer:
        tls = given.get("Tls") == "on"
        cluster = given.get("ClusterName", self._stack)
        shown = papers.of_stack(self._playground, self._stack, cluster) if tls else papers.none
        observer = Observer(lambda: running_urls(self._urls, tls=tls), shown)
        observer.start()
        return observer


def parameters_of(seen: Mapping[str, Any]) -> dict[str, str]:
    """A described stack's parameters."""
    return {one["ParameterKey"]: one["ParameterValue"] for one in seen.get("Parameters", [])}


def _cluster(seen: Mapping[str, Any]) -> tuple[str | None, ...]:
    """What a stack's cluster is known by. A stack in review has an identity, and no parameters yet."""
    given = parameters_of(seen)
    return seen.get("StackId"), given.get("Tls"), given.get("ClusterName")
