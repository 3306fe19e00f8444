"""The demo as one page for a browser, and its timeline as a picture: ``python -m playground.page RESULT.json``.

A pure function of the result as ``report.result`` gives it: nothing is fetched, nothing is scripted, light and dark
are the reader's own choice. It must not look at a cluster.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from playground.timeline import member_name

WIDTH, LEFT, RIGHT = 1000.0, 92.0, 12.0
"""Of the picture, and what of it is beside the time axis."""
HEAD, EVENTS, ROW, GAP, LATENCY, FOOT = 30.0, 34.0, 24.0, 16.0, 110.0, 26.0
"""Heights of the picture's parts, from top to bottom: steps, events, one member, the space between, writes, axis."""
FLOOR_MS, CEILING_MS = 1.0, 10_000.0
"""What the writes' axis spans, by powers of ten; it ends above the slowest write."""
GOAL_MS = 100.0
"""The line that no write should pass."""
TICKS = 10
"""At most so many steps between the marks of the time axis."""

COLOURS = """
  --paper: #ffffff; --ink: #1c2430; --quiet: #5d6878; --line: #d5dae1; --band: #f3f5f8;
  --voter: #3b74c9; --learner: #d9971f; --leader: #17376b; --bad: #c4281c; --good: #1f7a43; --write: #7a4bb5;
"""
DARK = """
  --paper: #14181f; --ink: #e6eaf0; --quiet: #9aa6b6; --line: #343c48; --band: #1c222b;
  --voter: #5b93e6; --learner: #e9ae43; --leader: #b9d3ff; --bad: #ff7466; --good: #62c98a; --write: #b990ef;
"""
PICTURE_STYLE = f"""
:root {{ color-scheme: light dark; {COLOURS} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
.picture text {{ font: 12px system-ui, sans-serif; fill: var(--ink); }}
.picture .quiet {{ fill: var(--quiet); }}
.paper {{ fill: var(--paper); }} .band {{ fill: var(--band); }}
.grid {{ stroke: var(--line); }} .goal {{ stroke: var(--bad); stroke-dasharray: 4 4; }}
.voter {{ fill: var(--voter); }} .learner {{ fill: var(--learner); }} .leader {{ fill: var(--leader); }}
.unstarted {{ fill: var(--quiet); }}
.boot {{ fill: var(--paper); stroke: var(--ink); stroke-width: 2; }}
.halt {{ fill: var(--ink); }}
.answer {{ stroke: var(--quiet); stroke-width: 1.5; }}
.refusal {{ stroke: var(--bad); stroke-width: 3; }}
.write {{ fill: none; stroke: var(--write); stroke-width: 1.5; stroke-linejoin: round; }}
"""
PAGE_STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-weight: 600; } .ok { color: var(--good); } .failed, td.FAILED { color: var(--bad); }
.wide { overflow-x: auto; } .wide svg { display: block; width: 100%; min-width: 44rem; height: auto; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
dl div { background: var(--band); border-radius: .4rem; padding: .5rem .75rem; }
dt { color: var(--quiet); font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
"""


def render(result: Mapping[str, Any]) -> str:
    """The whole page."""
    verdict = "".join(f"<li>{escape(problem)}</li>" for problem in result["problems"])
    good = "Nothing failed, and nothing was lost."
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>etcd-resize: {escape(result.get("demo", "resize"))}, seen</title>
<style>{PICTURE_STYLE}{PAGE_STYLE}</style>
<h1>{escape(_headline(result))}</h1>
{f'<ul class="verdict failed">{verdict}</ul>' if verdict else f'<p class="verdict ok">{good}</p>'}
<div class="wide">{picture(result, styled=False)}</div>
<h2>Summary</h2>
{_summary(result)}
<div class="wide">{_steps(result["steps"])}</div>
<h2>Events</h2>
<div class="wide">{_events(result["events"])}</div>
</html>
"""


def picture(result: Mapping[str, Any], *, styled: bool = True) -> str:
    """The timeline as SVG; ``styled`` if it is to stand alone."""
    drawing = _Drawing(result)
    style = f"<style>{PICTURE_STYLE}</style>" if styled else ""
    return (
        f'<svg class="picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {drawing.height:.0f}"'
        f' role="img" aria-label="{escape(_headline(result))}: events, members and writes over time">{style}'
        f'<rect class="paper" width="{WIDTH:.0f}" height="{drawing.height:.0f}"/>{"".join(drawing.parts())}</svg>'
    )


class _Drawing:
    """Where things lie in the picture, and the picture's parts."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.steps: Sequence[Mapping[str, Any]] = result["steps"]
        self.events: Sequence[Mapping[str, Any]] = result["events"]
        self.spans: Sequence[Mapping[str, Any]] = result["members"]
        self.writes: Sequence[Sequence[float]] = result["latency"]
        named = {str(span["name"]) for span in self.spans}
        machines = {member_name(event) for event in self.events if event["kind"] == "machine"}
        self.names = sorted(named | machines)
        moments = [*(event["at"] for event in self.events), *(span["end"] for span in self.spans)]
        moments += [step["at"] + step["seconds"] for step in self.steps]
        self.begin = min((step["at"] for step in self.steps), default=0.0)
        self.end = max(moments, default=self.begin) + 0.5
        slowest = max((milliseconds for _, milliseconds in self.writes), default=FLOOR_MS)
        self.ceiling = min(CEILING_MS, 10 ** math.ceil(math.log10(max(slowest, GOAL_MS) * 1.01)))
        self.members_top = HEAD + EVENTS + GAP
        self.writes_top = self.members_top + ROW * len(self.names) + GAP
        self.height = self.writes_top + LATENCY + FOOT + 22

    def parts(self) -> Iterator[str]:
        """Everything, the lowest layer first."""
        yield from self._steps()
        yield from self._axis()
        yield from self._members()
        yield from self._answers()
        yield from self._latency()
        yield from self._legend()

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - self.begin) / max(self.end - self.begin, 0.001)

    def y(self, milliseconds: float) -> float:
        share = math.log10(min(max(milliseconds, FLOOR_MS), self.ceiling) / FLOOR_MS)
        return self.writes_top + LATENCY * (1 - share / math.log10(self.ceiling / FLOOR_MS))

    def row(self, name: str) -> float:
        return self.members_top + ROW * self.names.index(name)

    def _steps(self) -> Iterator[str]:
        for step in self.steps:
            left, right = self.x(step["at"]), self.x(step["at"] + step["seconds"])
            words = escape(_what(step))
            yield (
                f'<rect class="band" x="{left:.1f}" y="4" width="{right - left:.1f}"'
                f' height="{self.writes_top + LATENCY - 4:.1f}"/>'
                f'<text x="{left + 4:.1f}" y="18">{words}<title>{step["seconds"]:.1f} s</title></text>'
            )

    def _axis(self) -> Iterator[str]:
        bottom = self.writes_top + LATENCY
        for at in _ticks(self.begin, self.end):
            x = self.x(at)
            yield (
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD:.0f}" y2="{bottom:.1f}"/>'
                f'<text class="quiet" x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{at:.0f} s</text>'
            )

    def _members(self) -> Iterator[str]:
        for name in self.names:
            yield f'<text x="6" y="{self.row(name) + 15:.1f}">{escape(name)}</text>'
        for span in self.spans:
            left, right = self.x(span["begin"]), self.x(span["end"])
            words = f"{span['name']}: {span['role']}, {span['begin']:.1f} s to {span['end']:.1f} s"
            yield (
                f'<rect class="{escape(span["role"])}" x="{left:.1f}" y="{self.row(span["name"]) + 4:.1f}"'
                f' width="{max(right - left, 1.5):.1f}" height="14"><title>{escape(words)}</title></rect>'
            )
        for event in self.events:
            if event["kind"] == "machine" and event["what"] in {"start", "stop"}:
                yield self._machine(event)

    def _machine(self, event: Mapping[str, Any]) -> str:
        name = member_name(event)
        x, y = self.x(event["at"]), self.row(name) + 11
        title = f"<title>machine of {escape(name)}: {event['what']}, {event['at']:.1f} s</title>"
        if event["what"] == "start":
            return f'<circle class="boot" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
        return f'<rect class="halt" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{title}</rect>'

    def _answers(self) -> Iterator[str]:
        yield f'<text class="quiet" x="6" y="{HEAD + 22:.0f}">events</text>'
        for event in self.events:
            if event["kind"] != "answer":
                continue
            x, title = self.x(event["at"]), f"<title>{escape(_said(event))}</title>"
            if event.get("status") == "FAILED":
                yield (
                    f'<path class="refusal" d="M{x - 6:.1f} {HEAD + 11:.0f}l12 12m0 -12l-12 12">{title}</path>'
                )
            else:
                yield (
                    f'<line class="answer" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD + 6:.0f}"'
                    f' y2="{HEAD + EVENTS - 4:.0f}">{title}</line>'
                )

    def _latency(self) -> Iterator[str]:
        milliseconds = FLOOR_MS
        while milliseconds <= self.ceiling:
            y, kind = self.y(milliseconds), "goal" if milliseconds == GOAL_MS else "grid"
            yield (
                f'<line class="{kind}" x1="{LEFT:.0f}" x2="{WIDTH - RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="quiet" x="{LEFT - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{milliseconds:g} ms</text>'
            )
            milliseconds *= 10
        yield f'<text x="6" y="{self.writes_top + LATENCY / 2 + 4:.1f}">writes</text>'
        if points := " ".join(f"{self.x(at):.1f},{self.y(took):.1f}" for at, took in self.writes):
            yield f'<polyline class="write" points="{points}"/>'

    def _legend(self) -> Iterator[str]:
        y, x = self.height - 8, LEFT
        for kind, words in (("learner", "learner"), ("voter", "voter"), ("leader", "leader")):
            yield f'<rect class="{kind}" x="{x:.0f}" y="{y - 10:.1f}" width="18" height="11"/>'
            yield f'<text x="{x + 24:.0f}" y="{y:.1f}">{words}</text>'
            x += 90
        yield f'<circle class="boot" cx="{x + 5:.0f}" cy="{y - 4:.1f}" r="4"/>'
        yield f'<text x="{x + 15:.0f}" y="{y:.1f}">machine boots</text>'
        yield f'<rect class="halt" x="{x + 118:.0f}" y="{y - 8:.1f}" width="6" height="6"/>'
        yield f'<text x="{x + 130:.0f}" y="{y:.1f}">machine stops</text>'
        yield f'<path class="refusal" d="M{x + 234:.0f} {y - 9:.1f}l10 10m0 -10l-10 10"/>'
        yield f'<text x="{x + 250:.0f}" y="{y:.1f}">refused</text>'
        yield f'<line class="write" x1="{x + 316:.0f}" x2="{x + 336:.0f}" y1="{y - 4:.1f}" y2="{y - 4:.1f}"/>'
        yield f'<text x="{x + 342:.0f}" y="{y:.1f}">slowest write of each quarter second</text>'


def _ticks(begin: float, end: float) -> list[float]:
    """Round moments within the time axis."""
    step = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300) if (end - begin) / step <= TICKS), 600)
    return [float(at) for at in range(math.ceil(begin / step) * step, int(end) + 1, step)]


def _headline(result: Mapping[str, Any]) -> str:
    steps = result["steps"][:-1]
    if not steps:
        return "No cluster was made"
    if result.get("demo") == "upgrade":
        return f"An etcd cluster upgraded: {_etcd(result)}"
    if result.get("demo") == "replace":
        return f"A member of an etcd cluster replaced: {_what(steps[-1])}"
    return f"An etcd cluster resized: {' → '.join(str(step['to']) for step in steps)}"


def _what(step: Mapping[str, Any]) -> str:
    """A step's sizes, or what it does where they stay."""
    sizes = f"{step['from']} → {step['to']}"
    return str(step.get("what", sizes)) if step["from"] == step["to"] else sizes


def _etcd(result: Mapping[str, Any]) -> str:
    """The version, before and after if that is another."""
    versions = [result.get("etcd_before", ""), result["etcd"]]
    return " → ".join(dict.fromkeys(version for version in versions if version)) or "-"


def _said(event: Mapping[str, Any]) -> str:
    words = f"{event['at']:.1f} s  {event.get('request')} {event.get('resource')} {_whom(event)}"
    return f"{words}: {event.get('status')} {event.get('reason') or ''}".rstrip(" :")


def _whom(event: Mapping[str, Any]) -> str:
    return str(event.get("name") or event.get("physical") or event.get("logical") or event.get("instance"))


def _summary(result: Mapping[str, Any]) -> str:
    writes = result["writes"]
    lost = "not read back" if writes["lost"] is None else f"{writes['lost']:,}"
    facts = {
        "etcd": _etcd(result),
        "writes acknowledged": f"{writes['acked']:,}",
        "writes failed": f"{writes['failed']:,}",
        "writes tried again": f"{writes['retried']:,}",
        "keys lost": lost,
        "half of the writes within": f"{writes['p50_ms']:.1f} ms",
        "99 of 100 within": f"{writes['p99_ms']:.1f} ms",
        "slowest write": f"{writes['max_ms']:.0f} ms",
        "longest gap": f"{writes['longest_gap_ms']:.0f} ms",
    }
    return (
        "<dl>"
        + "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
        + "</dl>"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object, kind: str = "") -> str:
    return f'<td class="{kind}">{escape(str(value))}</td>' if kind else f"<td>{escape(str(value))}</td>"


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            _cell(_what(step)),
            _cell(f"{step['seconds']:.1f}" if step["ok"] else "failed", "" if step["ok"] else "FAILED"),
            _cell(f"{step['acked']:,}"),
            _cell(step["failed"]),
            _cell(f"{step['p99_ms']:.1f}"),
            _cell(f"{step['longest_gap_ms']:.0f}"),
            _cell(", ".join(step["members"]) or "-"),
            _cell(step["leader"] or "-"),
        ]
        for step in steps
    ]
    return _table(
        ("step", "seconds", "writes", "failed", "p99 ms", "longest gap ms", "members", "leader"), rows
    )


def _events(events: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            _cell(f"{event['at']:.1f} s"),
            _cell(event.get("request") or event.get("what") or ""),
            _cell("machine" if event["kind"] == "machine" else event.get("resource", "")),
            _cell(_whom(event)),
            _cell(event.get("status", ""), str(event.get("status", ""))),
            _cell(f"{event['seconds']:.1f}" if "seconds" in event else ""),
            _cell(event.get("reason") or ""),
        ]
        for event in events
        if event["kind"] != "event"  # its answer says the same and how it ended
    ]
    return _table(("at", "what", "resource", "whom", "answer", "took, s", "reason"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a result that is there."""
    parser = argparse.ArgumentParser(
        prog="python -m playground.page", description="Draw the picture of a demo from its result."
    )
    parser.add_argument("result", type=Path, help="the result.json of a demo")
    parser.add_argument("picture", type=Path, help="where the timeline goes, as SVG")
    chosen = parser.parse_args(arguments)
    chosen.picture.write_text(picture(json.loads(chosen.result.read_text())) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
