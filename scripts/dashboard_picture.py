"""The dashboard's picture for the docs: the template's own widgets, drawn of what a demo's own reports measured.

    .venv/bin/python -m scripts.dashboard_picture [METRICS [PICTURE]]

METRICS are lines of CloudWatch's embedded metric format, as ``make demo`` leaves them in build/demo/metrics.jsonl. The
widgets are read from template.yaml, so the picture has what the dashboard has. Each report is a point here; CloudWatch
makes one of a minute's reports, by the statistic of the widget. Nothing is fetched.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import yaml

from playground.page import COLOURS, DARK
from playground.tools import ROOT

METRICS, PICTURE = ROOT / "build/demo/metrics.jsonl", ROOT / "docs/dashboard.svg"
COLUMN, ROW, GAP = 42.0, 33.0, 8.0
"""Of CloudWatch's grid of 24 columns, and what is free between two widgets."""
COLUMNS = 24
LEFT, RIGHT, HEAD, FOOT = 58.0, 12.0, 30.0, 46.0
"""What of a widget is beside, above and below its lines: axis, margin, title, times and legend."""
BREAK_SECONDS = 30.0
"""A line has a gap where no report came for so long."""
TICKS = 3
"""At least so many steps between the marks of the time axis, and at most twice as many."""
CHARACTER = 6.8
"""The width of a character of the legend, more or less."""
TITLE, TITLE_SHARE = 13.0, 0.62
"""The size of a title that has room, and the width of its characters in parts of that."""
FACTORS = {"Bytes": (1e6, "MB"), "Milliseconds": (1.0, "ms"), "Percent": (1.0, "%"), "Seconds": (1.0, "s")}
"""What a unit is divided by, and what is written behind it."""
LIGHT_LINES = ("#2f6fbf", "#b3541e", "#1f7a43", "#8a3ea8", "#a3262e", "#5a6472", "#846a00")
DARK_LINES = ("#74aef2", "#f0a06a", "#6fd08f", "#cf9bea", "#ff8d86", "#aab4c2", "#e3c84b")


def _variables(colours: Iterable[str]) -> str:
    return " ".join(f"--line{number}: {colour};" for number, colour in enumerate(colours))


STYLE = f"""
:root {{ color-scheme: light dark; {COLOURS} {_variables(LIGHT_LINES)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} {_variables(DARK_LINES)} }} }}
text {{ font: 11px system-ui, sans-serif; fill: var(--ink); }}
.title {{ font-weight: 600; }} .quiet {{ fill: var(--quiet); }}
.paper {{ fill: var(--paper); }} .widget {{ fill: var(--band); stroke: var(--line); }}
.grid {{ stroke: var(--line); }}
.series {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }}
.dot {{ stroke-width: 4; }}
{"".join(f".s{n} {{ stroke: var(--line{n}); }} " for n in range(len(LIGHT_LINES)))}
"""


@dataclass(frozen=True)
class Metric:
    """What one entry of a widget shows. ``by_member``: a line for each member, else the one of the cluster."""

    name: str
    by_member: bool


@dataclass(frozen=True)
class Widget:
    """A widget and its place in the grid."""

    title: str
    x: int
    y: int
    width: int
    height: int
    metrics: tuple[Metric, ...]


@dataclass
class Series:
    """The values of a metric over time, in seconds since the epoch."""

    unit: str
    points: list[tuple[float, float]] = field(default_factory=list)


Reports = Mapping[tuple[str, str], Series]
"""By the name of the metric and that of the member, which is empty for the cluster's own."""


# ---- what there is ----


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as what they are applied to."""


def _plain(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


_Loader.add_multi_constructor("!", _plain)


def widgets(template: str) -> list[Widget]:
    """The widgets of the template's dashboard. Raises ValueError for an entry that this script cannot draw."""
    document = yaml.load(template, _Loader)  # noqa: S506 - a SafeLoader of ours
    body = document["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    return [
        Widget(
            one["properties"]["title"],
            one["x"],
            one["y"],
            one["width"],
            one["height"],
            tuple(map(_metric, one["properties"]["metrics"])),
        )
        for one in json.loads(body)["widgets"]
    ]


def _metric(entry: Sequence[Any]) -> Metric:
    if isinstance(entry[0], str):
        return Metric(entry[1], by_member=False)
    found = re.fullmatch(
        r"SEARCH\('\{EtcdResize,Member,Stack\} .*MetricName=\"(\w+)\"', '\w+', \d+\)",
        entry[0]["expression"],
    )
    if not found:
        raise ValueError(f"cannot draw {entry[0]['expression']}")
    return Metric(found[1], by_member=True)


def reports(lines: Iterable[str]) -> Reports:
    """The series in lines of the embedded metric format."""
    found: dict[tuple[str, str], Series] = {}
    for line in lines:
        record = json.loads(line)
        at = record["_aws"]["Timestamp"] / 1000
        for described in record["_aws"]["CloudWatchMetrics"]:
            for metric in described["Metrics"]:
                name, unit = metric["Name"], metric.get("Unit", "")
                value = record[name]
                values = value if isinstance(value, list) else [value]
                series = found.setdefault((name, record.get("Member", "")), Series(unit))
                series.points += [(at, float(one)) for one in values]
    for series in found.values():
        series.points.sort()
    return found


def shown(widget: Widget, found: Reports) -> list[tuple[str, Series]]:
    """The lines of a widget with what each is called."""
    lines = []
    for metric in widget.metrics:
        for (name, member), series in sorted(found.items()):
            if name == metric.name and bool(member) == metric.by_member:
                lines.append((member or name, series))
    return lines


# ---- the picture ----


def draw(all_of_them: Sequence[Widget], found: Reports) -> str:
    """The dashboard as SVG."""
    moments = [at for series in found.values() for at, _ in series.points]
    begin, end = min(moments, default=0.0), max(moments, default=1.0)
    height = max(one.y + one.height for one in all_of_them) * ROW + GAP
    width = COLUMNS * COLUMN + GAP
    drawn = "".join(part for one in all_of_them for part in _Panel(one, begin, end).parts(shown(one, found)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        f' aria-label="The dashboard during a resize: {escape(", ".join(one.title for one in all_of_them))}">'
        f'<style>{STYLE}</style><rect class="paper" width="{width:.0f}" height="{height:.0f}"/>{drawn}</svg>'
    )


class _Panel:
    """Where things lie in one widget, and its parts."""

    def __init__(self, widget: Widget, begin: float, end: float) -> None:
        self._widget = widget
        self._begin, self._end = begin, max(end, begin + 1)
        self._x, self._y = widget.x * COLUMN + GAP, widget.y * ROW + GAP
        self._width, self._height = widget.width * COLUMN - GAP, widget.height * ROW - GAP
        self._left, self._right = self._x + LEFT, self._x + self._width - RIGHT
        self._top, self._bottom = self._y + HEAD, self._y + self._height - FOOT

    def parts(self, lines: Sequence[tuple[str, Series]]) -> Iterator[str]:
        """Everything, the lowest layer first."""
        title = self._widget.title
        size = min(TITLE, (self._width - 20) / (len(title) * TITLE_SHARE))
        yield (
            f'<rect class="widget" x="{self._x:.0f}" y="{self._y:.0f}" width="{self._width:.0f}"'
            f' height="{self._height:.0f}" rx="4"/>'
            f'<text class="title" style="font-size: {size:.1f}px" x="{self._x + 10:.0f}" y="{self._y + 19:.0f}">'
            f"{escape(title)}</text>"
        )
        values = [value for _, series in lines for _, value in series.points]
        if not values:
            yield f'<text class="quiet" x="{self._left:.0f}" y="{self._top + 20:.0f}">no report had a value</text>'
            return
        factor, unit = FACTORS.get(lines[0][1].unit, (1.0, ""))
        top = round_up(max(values) / factor) * factor
        yield from self._axes(top, factor, unit)
        for number, (name, series) in enumerate(lines):
            yield from self._line(number, name, series, top)
        yield from self._legend([name for name, _ in lines])

    def _axes(self, top: float, factor: float, unit: str) -> Iterator[str]:
        for share in (0.0, 0.5, 1.0):
            y, label = self._at(0.0, top * share, top)[1], f"{top * share / factor:g} {unit}".strip()
            yield (
                f'<line class="grid" x1="{self._left:.0f}" x2="{self._right:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="quiet" x="{self._left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
        for seconds in ticks(self._end - self._begin):
            x = self._at(self._begin + seconds, 0.0, top)[0]
            yield (
                f'<text class="quiet" x="{x:.1f}" y="{self._bottom + 15:.1f}" text-anchor="middle">'
                f"{seconds:.0f} s</text>"
            )

    def _line(self, number: int, name: str, series: Series, top: float) -> Iterator[str]:
        for stretch in stretches(series.points):
            points = " ".join("{:.1f},{:.1f}".format(*self._at(at, value, top)) for at, value in stretch)
            kind = "series"
            if len(stretch) == 1:  # a line of no length is a dot
                kind, points = "series dot", f"{points} {points}"
            yield (
                f'<polyline class="{kind} s{number % len(LIGHT_LINES)}" points="{points}">'
                f"<title>{escape(name)}</title></polyline>"
            )

    def _legend(self, names: Sequence[str]) -> Iterator[str]:
        x, y = self._left, self._bottom + 34
        for number, name in enumerate(names):
            yield (
                f'<line class="series s{number % len(LIGHT_LINES)}" x1="{x:.0f}" x2="{x + 14:.0f}" y1="{y - 4:.0f}"'
                f' y2="{y - 4:.0f}"/><text x="{x + 18:.0f}" y="{y:.0f}">{escape(name)}</text>'
            )
            x += 28 + len(name) * CHARACTER

    def _at(self, at: float, value: float, top: float) -> tuple[float, float]:
        share = (at - self._begin) / (self._end - self._begin)
        return (
            self._left + (self._right - self._left) * share,
            self._bottom - (self._bottom - self._top) * value / top,
        )


def stretches(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, parted where no report came for BREAK_SECONDS."""
    found: list[list[tuple[float, float]]] = []
    for point in points:
        if found and point[0] - found[-1][-1][0] <= BREAK_SECONDS:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def round_up(value: float) -> float:
    """The next of 1, 2 and 5 and their tens; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{power * step:g}") for step in (1, 2, 5, 10) if value <= power * step * 1.0001)


def ticks(seconds: float) -> list[float]:
    """Round moments from the beginning on."""
    step = next((step for step in (5, 10, 20, 30, 60, 120, 300) if seconds / step <= 2 * TICKS), 600)
    return [float(at) for at in range(0, int(seconds) + 1, step)]


def main(arguments: Sequence[str]) -> int:
    """Draw. Status 1, with a sentence, if there are no metrics."""
    metrics, picture = [*map(Path, arguments), *(METRICS, PICTURE)[len(arguments) :]][:2]
    if not metrics.exists():
        print(f"There is no {metrics}: run make demo.", file=sys.stderr)
        return 1
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    lines = metrics.read_text(encoding="utf-8").splitlines()
    picture.write_text(draw(widgets(template), reports(lines)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
