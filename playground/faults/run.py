"""One fault after the other, a few side by side, each on a new stack or on one that the last fault left whole."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from etcd_resize.errors import EtcdResizeError
from playground.account import PlaygroundError
from playground.connections import NoAnswerError
from playground.faults import checks
from playground.faults.cloud import Cloud, wait_until
from playground.faults.fault import Fault
from playground.faults.mailbox import Mailbox
from playground.faults.report import Row
from playground.faults.stream import Stream
from playground.faults.world import World

SETTLE_SECONDS = 15.0
"""How long a cluster may take to elect and a machine to end before what is found counts."""

LOOK_AHEAD = 40
"""How many faults a lane looks at for one that suits its stack."""


@dataclass
class Runner:
    """Runs faults on a cloud. ``tell`` is called with each row when it is there."""

    cloud: Cloud
    template: str
    mailbox: Mailbox
    tell: Callable[[Row], None]
    rows: dict[str, Row] = field(default_factory=dict)
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, faults: Sequence[Fault], lanes: int) -> list[Row]:
        """Run them all, so many side by side; their rows, in the order of the table."""
        waiting = list(faults)
        threads = [
            threading.Thread(target=self._lane, args=(waiting,), name=f"lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [self.rows[fault.name] for fault in faults]

    def _lane(self, waiting: list[Fault]) -> None:
        world: World | None = None
        while True:
            fault = self._next(waiting, world)
            if fault is None:
                break
            if reason := fault.skip():
                self._keep(Row(fault.name, fault.group, fault.cause, fault.after, None, sentence=reason))
                continue
            world = self._try(fault, world)
        if world:
            self._retire(world)

    def _next(self, waiting: list[Fault], world: World | None) -> Fault | None:
        """The first that is left; rather one that begins with the size that the stack has."""
        with self._lock:
            if not waiting:
                return None
            size = world.size if world else 0
            fault = next(
                (one for one in waiting[:LOOK_AHEAD] if one.size == size and not one.alone), waiting[0]
            )
            waiting.remove(fault)
            return fault

    def _try(self, fault: Fault, world: World | None) -> World | None:
        """Run one fault; the world if it is whole afterwards."""
        begun = time.monotonic()
        try:
            world = self._prepared(fault, world)
            row = self._tried(fault, world)
        except Exception as error:  # noqa: BLE001 - a row that breaks is one that did not hold
            where = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
            state = world.status if world and world.id else ""
            row = Row(
                fault.name,
                fault.group,
                fault.cause,
                fault.after,
                held=False,
                seconds=round(time.monotonic() - begun, 1),
                end_state=state,
                problems=(*(world.problems if world else ()), problem),
            )
        self._keep(row)
        if world and (not row.held or fault.ends_deleted):
            self._retire(world)
            return None
        return world

    def _prepared(self, fault: Fault, world: World | None) -> World:
        """A whole stack of the size that the fault begins with."""
        if world and not fault.alone:
            world.lift_all()
            if world.size == fault.size or world.resize(fault.size) == "UPDATE_COMPLETE":
                world.wait_whole(fault.size)
                return world
        if world:
            self._retire(world)
        with self._lock:
            self._made += 1
            made = World(self.cloud, self.template, f"f{self._made}")
        if (status := made.create(fault.size)) != "CREATE_COMPLETE":
            raise PlaygroundError(f"the stack to begin with is in {status}: {made.sentence}")
        return made

    def _tried(self, fault: Fault, world: World) -> Row:
        world.mark()
        world.problems = []
        begun = time.monotonic()
        stream = Stream(world, f"{world.stack}-{abs(hash(fault.name)) % 10**8}")
        try:
            stream.start()
            fault.run(world, self.mailbox)
            state, sentence = world.status, world.sentence
            missing = self._judged(fault, world, stream)
        finally:
            stream.close()
        seconds = time.monotonic() - begun
        ledger = stream.writer.ledger
        figures = ledger.figures()
        world.expect(not missing, f"{len(missing)} acknowledged writes are lost: {missing[:5]}")
        if not fault.outage:
            world.expect(not ledger.failures, f"{figures.failed} writes failed: {ledger.failures[:1]}")
        return Row(
            fault.name,
            fault.group,
            fault.cause,
            fault.after,
            held=not world.problems,
            seconds=round(seconds, 1),
            acked=figures.acked,
            lost=len(missing),
            failed=figures.failed,
            longest_gap_ms=round(figures.longest_gap_ms, 1),
            end_state=state,
            sentence=sentence,
            problems=tuple(world.problems),
        )

    def _judged(self, fault: Fault, world: World, stream: Stream) -> list[int]:
        """What holds once nothing is broken any more; the acknowledged keys that are lost."""
        world.lift_all()
        if fault.ends_deleted:
            world.expect_status("DELETE_COMPLETE")
            stream.stop()
            return []
        self._check(world)
        self._resize_cleanly(world, fault.again)
        stream.stop()
        return checks.lost(world, stream.connections, stream.writer.keys, stream.writer.ledger.numbers)

    def _check(self, world: World) -> None:
        """What must hold, as soon as it does."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := list(checks.standing(world))) and time.monotonic() < deadline:
            time.sleep(0.3)
        world.problems += found

    def _resize_cleanly(self, world: World, size: int) -> None:
        """The next resize, with nothing broken any more, must work; and nobody may be left over unreported."""
        if world.size == size:  # an update that changes nothing is none
            world.expect(world.problems, "the next resize would change nothing: a mistake in the table")
            size += 1
        status = world.resize(size)
        world.expect(
            status.endswith("UPDATE_COMPLETE"), f"the next resize ended in {status}: {world.sentence}"
        )
        try:
            wait_until(
                lambda: world.is_whole(size), f"{size} healthy members after the next resize", SETTLE_SECONDS
            )
            for machine in checks.left_over(world):
                world.expect(
                    checks.told(world, machine.name),
                    f"{machine.name} ({machine.instance}) is left over, and nobody says so",
                )
                world.terminate(machine.instance)
        except (PlaygroundError, EtcdResizeError, NoAnswerError) as problem:
            world.problems.append(str(problem))

    def _retire(self, world: World) -> None:
        """Delete a stack that is not needed any more, whatever state it is in."""
        world.lift_all()
        if not world.id or world.status in {"", "DELETE_COMPLETE"}:
            return
        for machine in world.machines:
            self.cloud.client("ec2").modify_instance_attribute(
                InstanceId=machine.instance, DisableApiTermination={"Value": False}
            )
        world.delete()
        for machine in world.machines:
            world.terminate(machine.instance)

    def _keep(self, row: Row) -> None:
        with self._lock:
            self.rows[row.name] = row
        self.tell(row)
