"""The writes that go on while a fault lasts."""

from __future__ import annotations

import threading

from playground.connections import Connections
from playground.faults.cloud import wait_until
from playground.faults.world import World
from playground.observer import Observer
from playground.writer import Keys, Timing, Writer

PAUSE_SECONDS = 0.02
"""Between two writes: many stacks share two processors."""


class Stream:
    """The writer of one world while a fault lasts, with the observer that finds its endpoints."""

    def __init__(self, world: World, run: str) -> None:
        self.connections = Connections(world.papers)
        self.observer = Observer(lambda: world.endpoints, world.papers, period=0.4)
        self.writer = Writer(
            self.connections, self.observer.endpoints, Keys(run), timing=Timing(pause=PAUSE_SECONDS)
        )
        self._stopped = threading.Event()

    def start(self) -> None:
        """Write, and return when the first writes are acknowledged."""
        self.observer.start()
        self.writer.start()
        wait_until(lambda: self.writer.ledger.numbers, "the writer writes", 30)

    def stop(self) -> None:
        """Write no more."""
        if not self._stopped.is_set():
            self._stopped.set()
            self.writer.stop()
            self.observer.stop()

    def close(self) -> None:
        """Let go of the connections."""
        self.stop()
        self.connections.close()
