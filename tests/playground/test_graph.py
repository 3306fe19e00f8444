from __future__ import annotations

import threading

import pytest

from playground.cloud.graph import Cancel, reverse, walk


def test_a_node_is_visited_after_what_it_depends_on() -> None:
    visited: list[str] = []

    def visit(node: str) -> bool:
        visited.append(node)
        return True

    assert walk({"c": ["b"], "b": ["a"], "a": [], "x": ["a", "unknown"]}, visit)
    assert visited[0] == "a"
    assert visited.index("b") < visited.index("c")
    assert len(visited) == 4


def test_independent_nodes_are_visited_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def visit(_: str) -> bool:
        together.wait()
        return True

    assert walk({"a": [], "b": [], "c": []}, visit)


def test_after_a_failure_nothing_more_starts_and_what_is_under_way_is_waited_for() -> None:
    failed = threading.Event()
    visited: list[str] = []

    def visit(node: str) -> bool:
        if node == "slow":
            failed.wait(10)
        visited.append(node)
        if node == "bad":
            failed.set()
        return node != "bad"

    assert not walk({"bad": [], "slow": [], "after": ["slow"]}, visit)
    assert visited == ["bad", "slow"]


def test_an_exception_reaches_the_caller() -> None:
    def visit(_: str) -> bool:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        walk({"a": []}, visit)


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Circular dependency between resources: \[a, b\]"):
        walk({"a": ["b"], "b": ["a"]}, lambda _: True)


def test_the_reverse_of_a_graph() -> None:
    assert reverse({"a": [], "b": ["a"], "c": ["a", "b"]}) == {"a": {"b", "c"}, "b": {"c"}, "c": set()}


def test_a_cancel_holds_for_everything_below() -> None:
    above = Cancel()
    below, beside = Cancel(above), Cancel()
    above.set()
    assert (below.is_set(), beside.is_set()) == (True, False)
    lower = Cancel()
    Cancel(lower).set()
    assert not lower.is_set()
