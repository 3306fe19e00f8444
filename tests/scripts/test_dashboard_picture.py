"""The dashboard's picture has what the template's dashboard has, drawn of what the health report logs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from etcd_resize.health import handler as health
from etcd_resize.health.report import Found, Report, judge
from etcd_resize.model.cluster import ClusterView, Health, Member
from playground.metrics import metric_lines, write
from playground.tools import ROOT
from scripts.dashboard_picture import draw, main, reports, round_up, shown, stretches, ticks, widgets

SVG = "{http://www.w3.org/2000/svg}"
WIDGETS = widgets((ROOT / "template.yaml").read_text())


def report() -> Report:
    """One in which everything is known, of two members."""
    members = tuple(
        Member(
            number,
            f"m{number}",
            (f"https://10.0.0.{number}:2380",),
            (f"https://10.0.0.{number}:2379",),
            health=Health(serving=True, reachable=True, leader=1, db_size=20_480, read_seconds=0.001),
        )
        for number in (1, 2)
    )
    view = ClusterView(1, members, has_quorum=True)
    writes = {1: 0.002, 2: 0.004}
    return judge(Found("etcd", 2, 1000.0, 1 << 31, view, writes=writes, snapshot_at=910.0, shown_until=1e7))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the real handler logs of it, and the lines of others."""
    settings = {"CLUSTER": "etcd", "CLUSTER_SIZE": "2", "BUCKET": "b", "QUOTA_BYTES": "1"}
    settings |= {"SNAPSHOT_RATE": "rate(1 hour)", "SNAPSHOT_MAX_AGE_HOURS": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(health, "examine", lambda *_: report())
    for stack in ("prod", "other"):
        monkeypatch.setenv("STACK", stack)
        health.handler({}, SimpleNamespace(aws_request_id="r-1"))
    log = ['START "_aws"', '["_aws"]', *capsys.readouterr().out.splitlines()]
    return list(metric_lines(log, "prod"))


def test_every_widget_has_a_line_for_all_that_it_names(lines: list[str]) -> None:
    found = reports(lines)
    for widget in WIDGETS:
        drawn = shown(widget, found)
        by_member = [metric for metric in widget.metrics if metric.by_member]
        assert len(drawn) == len(widget.metrics) + len(by_member), widget.title  # two members
        assert all(len(series.points) == 1 for _, series in drawn), "the other stack is not in it"


def test_the_picture_has_a_title_lines_and_a_legend_for_each_widget(lines: list[str], tmp_path: Path) -> None:
    metrics, picture = tmp_path / "metrics.jsonl", tmp_path / "dashboard.svg"
    write(lines, metrics)
    assert main([str(metrics), str(picture)]) == 0
    root = ET.fromstring(picture.read_text())  # noqa: S314 - our own
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {widget.title for widget in WIDGETS} <= set(texts)
    assert {"HasLeader", "MembersOff", "m1", "m2"} <= set(texts)
    assert "no report had a value" not in texts
    drawn = sum(len(shown(widget, reports(lines))) for widget in WIDGETS)
    assert len(list(root.iter(f"{SVG}polyline"))) == drawn


def test_a_metric_that_nobody_reported_is_an_empty_widget_and_no_metrics_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(WIDGETS, {}).count("no report had a value") == len(WIDGETS)
    assert main([str(tmp_path / "none"), str(tmp_path / "picture")]) == 1
    assert "run make demo" in capsys.readouterr().err


def test_an_entry_of_another_kind_is_an_error_and_not_left_out() -> None:
    template = (ROOT / "template.yaml").read_text().replace("SEARCH(", "METRICS(")
    with pytest.raises(ValueError, match="cannot draw METRICS"):
        widgets(template)


def test_the_picture_in_the_docs_is_of_the_dashboard_as_it_is_now() -> None:
    root = ET.fromstring((ROOT / "docs/dashboard.svg").read_text())  # noqa: S314 - our own
    titles = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "title"]
    assert titles == [widget.title for widget in WIDGETS], "make demo dashboard-picture draws it anew"
    assert "no report had a value" not in [text.text for text in root.iter(f"{SVG}text")]


def test_axes_end_at_round_numbers() -> None:
    assert [round_up(value) for value in (0, 0.7, 1, 3.2, 5, 61, 1000)] == [1, 1, 1, 5, 5, 100, 1000]
    assert ticks(130) == [0, 30, 60, 90, 120]


def test_a_line_has_a_gap_where_no_report_came() -> None:
    points = [(0.0, 1.0), (5.0, 1.0), (60.0, 2.0)]
    assert stretches(points) == [points[:2], points[2:]]
