"""A thread that works beside the rest until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable


class StoppableThread:
    """``work`` runs from ``start`` on. It is to return soon once ``stopped``."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tell it, and wait until it has returned. It need not have begun."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def stopped(self) -> bool:
        """Whether it was told."""
        return self._stop.is_set()

    def rest(self, seconds: float) -> bool:
        """For the work itself: wait, but not past ``stop``; whether that has come."""
        return self._stop.wait(seconds)
