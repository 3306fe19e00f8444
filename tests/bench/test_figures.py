"""What the bench makes of its rounds; the rounds themselves are `make bench`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import cold
from bench.__main__ import show
from bench.figures import GOALS, dollars, figures, missed, named
from bench.page import BEGIN, END, PAGE, lines
from bench.ways import WAYS

COLD = {"import_to_bare": 0.7, "peak_mb": 80.0, "layer_mb": 12.5}


def a_round(
    way: str, seconds: float, *, failed: int = 0, gap: float = 50.0, p99: float = 10.0
) -> dict[str, Any]:
    writes = {"acked": 100, "failed": failed, "p50_ms": 1.0, "p99_ms": p99, "longest_gap_ms": gap}
    return {
        "way": way,
        "steps": [{"from": 1, "to": 3, "seconds": seconds}, {"from": 3, "to": 1, "seconds": seconds / 10}],
        "rest": {**writes, "p99_ms": 8.0},
        "resizing": writes,
        "slow": 1,
        "leaderless_seconds": 0.0,
    }


def a_result(ours: float, **further: float) -> dict[str, Any]:
    rounds = [a_round(way, 8.0) for way in WAYS if way != "ours" for _ in range(3)]
    rounds += [a_round("ours", seconds, **further) for seconds in (ours, ours * 5, ours)]  # type: ignore[arg-type]
    return figures(rounds, COLD) | {"planning_us": {"join": 20.0}}


def test_a_ratio_is_of_medians_so_one_slow_round_does_not_count() -> None:
    assert a_result(8.4)["handler_to_floor"] == {"grow": 1.05, "shrink": 1.05}


def test_the_worst_of_the_rounds_counts_for_what_must_never_be_bad() -> None:
    result = a_result(8.0, failed=1, gap=120.0)
    assert (result["writes_failed"], result["longest_gap_ms"]) == (3, 120.0)
    assert result["ways"]["floor"]["failed"] == 0
    assert result["p99_resizing_to_rest"] == 1.25


def test_every_goal_is_a_figure_and_a_goal_that_is_missed_is_told() -> None:
    good = a_result(8.0)
    assert missed(good) == []
    assert [named(good, name) <= most for name, most in GOALS.items()] == [True] * len(GOALS)
    told = missed(a_result(9.0, gap=101.0))
    assert [sentence.split()[0] for sentence in told] == [
        "handler_to_floor.grow",
        "handler_to_floor.shrink",
        "longest_gap_ms",
    ]


def test_the_tables_name_every_way_and_every_goal() -> None:
    shown = io.StringIO()
    show(a_result(9.0), Console(file=shown, width=160))
    assert all(name in shown.getvalue() for name in (*WAYS, *GOALS))
    assert "handler_to_floor.grow is 1.125, the goal is at most 1.1" in shown.getvalue()


def test_the_page_has_the_goals_and_says_which_are_missed() -> None:
    result = a_result(9.0) | {
        "etcd": "default",
        "python": "3.13",
        "rounds_a_way": 3,
        "cold": {"seconds": {"bare": 0.5}},
    }
    told = "\n".join(lines(result))
    assert "| `handler_to_floor.grow` | 1.125 | 1.1 |" in told
    assert "Missed: handler_to_floor.grow is 1.125, the goal is at most 1.1." in told
    assert all(f"\n| {way} |" in told for way in WAYS)
    page = PAGE.read_text()
    assert 0 < page.index(BEGIN) < page.index(END)


def test_a_member_costs_what_its_seconds_and_its_calls_cost() -> None:
    assert dollars(0)["a_member"] == pytest.approx(2 * 0.2e-6 + 4 * 5e-6)
    assert dollars(100)["a_member"] - dollars(0)["a_member"] == pytest.approx(
        100 * 0.5 * 0.0000133334, rel=1e-3
    )


def test_sizes_are_those_of_what_was_built(tmp_path: Path) -> None:
    assert cold.sizes(tmp_path / "never-built") == {"layer_mb": None}
    for name, size in (
        ("PackagesArm64/python/grpc.so", 2_000_000),
        ("Provider/etcd_resize/model.py", 500_000),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert cold.sizes(tmp_path) == {"layer_mb": 2.0, "PackagesArm64_mb": 2.0, "Provider_mb": 0.5}
