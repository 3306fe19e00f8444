"""Walking a dependency graph as CloudFormation does: whatever depends on nothing unfinished is worked on at once.

It knows nothing of stacks or resources.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Collection, Mapping

Graph = Mapping[str, Collection[str]]
"""What each node depends on. Names that are no node of the graph are ignored."""


class Cancel:
    """A request to stop, which also holds for everything below the one that was asked."""

    def __init__(self, above: Cancel | None = None) -> None:
        self._above = above
        self._asked = threading.Event()

    def set(self) -> None:
        """Ask."""
        self._asked.set()

    def is_set(self) -> bool:
        """Whether this or anything above was asked to stop."""
        return self._asked.is_set() or (self._above is not None and self._above.is_set())


def walk(graph: Graph, visit: Callable[[str], bool]) -> bool:
    """Visit each node after everything that it depends on; nodes that can be visited at the same time are.

    Each visit runs in a thread of its own, with the caller's context variables. A visit that returns False lets nothing
    more start; what is under way is waited for. Returns whether every node was visited with True. An exception of a
    visit counts as False and is raised at the end. Raises ValueError for a graph with a circle.
    """
    waiting = {node: {other for other in others if other in graph} - {node} for node, others in graph.items()}
    finished: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
    errors: list[BaseException] = []
    under_way = 0
    going = True

    def work(node: str) -> None:
        try:
            good = visit(node)
        except BaseException as error:  # noqa: BLE001 - raised by `walk` itself, in the caller's thread
            errors.append(error)
            good = False
        finished.put((node, good))

    while True:
        for node in [node for node, others in waiting.items() if going and not others]:
            del waiting[node]
            under_way += 1
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(work, node), daemon=True, name=node).start()
        if not under_way:
            break
        node, good = finished.get()
        under_way -= 1
        going = going and good
        for others in waiting.values():
            others.discard(node)
    if errors:
        raise errors[0]
    if going and waiting:
        raise ValueError(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
    return going


def reverse(graph: Graph) -> dict[str, set[str]]:
    """The graph the other way round: what must be gone before a node may go."""
    dependants: dict[str, set[str]] = {node: set() for node in graph}
    for node, others in graph.items():
        for other in others:
            if other in dependants:
                dependants[other].add(node)
    return dependants
