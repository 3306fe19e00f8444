"""What a row of the table is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playground.faults.mailbox import Mailbox
from playground.faults.world import World


@dataclass(frozen=True)
class Fault:
    """One fault: how it is caused, and what must hold after, beside what must hold after every one (`checks.py`).

    ``size`` is what the stack has before, ``again`` the size that is asked for afterwards, when nothing is broken
    any more; it must be reached. ``outage``: the fault takes the quorum away, so writes may fail (none may be lost).
    ``skip``: why it is not run here, empty if it is. ``ends_deleted``: the stack is gone at its end.
    ``alone``: a fresh stack, and none that another fault was tried on.
    """

    name: str
    group: str
    cause: str
    after: str
    size: int
    again: int
    run: Callable[[World, Mailbox], None]
    outage: bool = False
    ends_deleted: bool = False
    alone: bool = False
    skip: Callable[[], str] = lambda: ""
