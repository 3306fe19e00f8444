"""The table of faults, in the order in which they are run. To add one: a `Fault` in a module of `rows`."""

from __future__ import annotations

from playground.faults.fault import Fault
from playground.faults.rows import answers, aws, deaths, kills, machines, roll, sizes, strangers

FAULTS: tuple[Fault, ...] = (
    *sizes.FAULTS,  # the longest ones first, so that nobody waits for them at the end
    *roll.FAULTS,
    *deaths.FAULTS,
    *kills.FAULTS,
    *answers.FAULTS,
    *machines.FAULTS,
    *strangers.FAULTS,
    *aws.FAULTS,
)


def named(names: list[str]) -> tuple[Fault, ...]:
    """The faults of those names, or whose names begin so, or of those groups; all if there is none given."""
    return tuple(
        fault
        for fault in FAULTS
        if not names or any(fault.name.startswith(name) or fault.group == name for name in names)
    )
