"""What must hold after every fault, once the dust has settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from etcd_resize.errors import EtcdResizeError
from etcd_resize.model.cluster import Member, quorum
from playground.connections import Connections, NoAnswerError
from playground.faults.world import World
from playground.machines import Machine
from playground.observer import endpoints
from playground.writer import Keys, read_back

FINAL = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "ROLLBACK_COMPLETE",
    "DELETE_COMPLETE",
    "DELETE_FAILED",
    "UPDATE_ROLLBACK_FAILED",
)


def standing(world: World) -> Iterator[str]:
    """What is wrong with the stack and its cluster, a sentence each."""
    if world.status not in FINAL:
        yield f"the stack is in {world.status}, which is no final state"
    machines = world.machines
    running = [one for one in machines if one.state == "running"]
    try:
        view = world.view()
    except EtcdResizeError as problem:
        if running:
            yield f"{len(running)} machines are up, but: {problem}"
        return
    voters = view.voters
    up = [voter for voter in voters if _machine_of(voter, running) or not _own(world, voter)]
    if len(up) >= quorum(len(voters)) and not view.has_quorum:
        yield f"{len(up)} of {len(voters)} voters' machines are up, and there is no quorum"
    for member in view.members:
        if _own(world, member) and not _machine_of(member, machines) and not reported(world, member):
            yield f"{member.label} is a member without a machine, and nobody says so"
    for machine in machines:
        if not any(_machine_of(member, [machine]) for member in view.members) and not told(
            world, machine.name
        ):
            yield f"{machine.name} ({machine.instance}) is a machine without a member, and nobody says so"


def _own(world: World, member: Member) -> bool:
    """Whether a member has an address that this stack gave, not somebody else's cluster's."""
    seeds = {urlsplit(url).hostname for url in world.seeds}
    return not any(urlsplit(url).hostname in seeds for url in member.peer_urls)


def _machine_of(member: Member, machines: Sequence[Machine]) -> bool:
    addresses = {urlsplit(url).hostname for url in member.peer_urls}
    return any(one.address in addresses for one in machines)


def reported(world: World, member: Member) -> bool:
    """Whether somebody says that the member was left behind."""
    if member.name:
        return told(world, member.name)
    return any(told(world, f"{world.stack}-{number}") for number in range(1, 8))


def told(world: World, name: str) -> bool:
    """Whether the events say that a member's Delete failed, or the last answer of the guard names it as a ghost."""
    number = name.rpartition("-")[2]
    for record in world.records:
        if record["kind"] == "answer" and name in str(record["data"].get("Ghosts", "")):
            return True
        mine = record.get("stack", "").startswith(f"{world.stack}-Member{number}-")
        failed = record.get("status") in {"FAILED", "TIMEOUT"} or record.get("phase") == "failed"
        if mine and failed and "delete" in {str(record.get("request", "")).lower(), record.get("what")}:
            return True
    return False


def lost(world: World, connections: Connections, keys: Keys, numbers: Sequence[int]) -> list[int]:
    """The acknowledged writes that are not there. Raises NoAnswerError if nobody can say."""
    try:
        view = world.view()
    except EtcdResizeError as problem:
        raise NoAnswerError(str(problem)) from problem
    return read_back(connections, endpoints(view), keys, numbers)


def left_over(world: World) -> list[Machine]:
    """The machines that are there though their members are not, after all: an operator terminates those."""
    view = world.view()
    return [one for one in world.machines if not any(_machine_of(member, [one]) for member in view.members)]
