"""The demo's page, and how a real browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from playground import page
from playground.timeline import Sighting, spans
from tests.support.browser import DESK, PHONE, Browser

SVG = "{http://www.w3.org/2000/svg}"
REFUSAL = "the voter etcd-3 is not healthy: <repair> it & try again"


def answer(at: float, request: str, kind: str, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "at": at,
        "kind": "answer",
        "request": request,
        "resource": f"Custom::Etcd{kind}",
        "physical": f"etcd/{name}@127.77.1.4",
        "status": "SUCCESS",
        "seconds": 0.5,
        **changes,
    }


EVENTS = [
    {"at": 2.0, "kind": "machine", "what": "start", "name": "etcd-1", "instance": "i-1"},
    answer(1.9, "Create", "Member", "etcd-1"),
    answer(10.0, "Create", "Member", "etcd-2"),
    {"at": 10.5, "kind": "machine", "what": "start", "name": "etcd-2", "instance": "i-2"},
    answer(16.0, "Create", "Voter", "etcd-2"),
    answer(20.0, "Update", "Cluster", "cluster", status="FAILED", reason=REFUSAL),
    answer(30.3, "Delete", "Voter", "etcd-2"),
    {"at": 31.0, "kind": "machine", "what": "stop", "name": "etcd-2", "instance": "i-2"},
]
SIGHTINGS = [
    Sighting(3.0, (("etcd-1", "leader"),)),
    Sighting(11.0, (("etcd-1", "leader"), ("etcd-2", "voter"))),
    Sighting(25.0, (("etcd-1", "voter"), ("etcd-2", "leader"))),
    Sighting(28.0, (("etcd-1", "leader"), ("etcd-2", "voter"))),
    Sighting(30.5, (("etcd-1", "leader"),)),
]


def step(before: int, after: int, at: float) -> dict[str, Any]:
    figures = {"acked": 900, "failed": 0, "p99_ms": 7.9, "max_ms": 30.0, "longest_gap_ms": 41.0}
    members = [f"etcd-{number + 1}" for number in range(after)]
    leader = "etcd-1" if after else ""
    made = {"from": before, "to": after, "at": at, "seconds": 9.0, "ok": True}
    return {**made, **figures, "members": members, "leader": leader}


def result(**changes: Any) -> dict[str, Any]:
    writes = {"acked": 4200, "failed": 0, "lost": 0, "retried": 0, "errors": {}}
    times = {"p50_ms": 2.1, "p99_ms": 7.9, "max_ms": 30.0, "longest_gap_ms": 41.0}
    return {
        "ok": True,
        "problems": [],
        "etcd": "3.4.23",
        "steps": [step(0, 1, 0.5), step(1, 2, 9.6), step(2, 1, 19.0), step(1, 0, 32.0)],
        "writes": {**writes, **times},
        "events": EVENTS,
        "members": spans(SIGHTINGS, EVENTS, 41.0),
        "latency": [[3.0, 2.0], [3.25, 30.0], [11.0, 2500.0], [30.0, 3.0]],
        **changes,
    }


def test_a_member_is_a_learner_from_the_answer_that_added_it_though_nobody_saw_it() -> None:
    bars = [span for span in spans(SIGHTINGS, EVENTS, 41.0) if span["name"] == "etcd-2"]
    assert [(bar["role"], bar["begin"], bar["end"]) for bar in bars] == [
        ("learner", 10.0, 11.0),
        ("voter", 11.0, 25.0),
        ("leader", 25.0, 28.0),
        ("voter", 28.0, 30.3),  # until the answer to its Delete
    ]


def test_the_first_member_was_never_a_learner() -> None:
    bars = [span for span in spans(SIGHTINGS, EVENTS, 41.0) if span["name"] == "etcd-1"]
    assert [bar["role"] for bar in bars] == ["leader", "voter", "leader"]
    assert bars[-1]["end"] == 41.0


def test_a_learner_that_was_seen_begins_once() -> None:
    seen = [
        Sighting(3.0, (("etcd-1", "leader"),)),
        Sighting(10.4, (("etcd-1", "leader"), ("etcd-2", "learner"))),
        *SIGHTINGS[1:],
    ]
    bars = [span for span in spans(seen, EVENTS, 41.0) if span["name"] == "etcd-2"]
    assert [(bar["role"], bar["begin"]) for bar in bars][:2] == [("learner", 10.0), ("learner", 10.4)]


def test_nothing_seen_is_no_bar() -> None:
    assert spans([], EVENTS, 41.0) == []


def drawn(kind: str, **changes: Any) -> list[ET.Element]:
    root = ET.fromstring(page.picture(result(**changes)))  # noqa: S314 - our own
    return [
        element
        for element in root.iter()
        if element.get("class") == kind and element.find(f"{SVG}title") is not None
    ]


def test_the_picture_has_bars_boots_answers_and_refusals() -> None:
    assert [len(drawn(kind)) for kind in ("learner", "voter", "leader")] == [1, 3, 3]
    assert (len(drawn("boot")), len(drawn("halt"))) == (2, 1)
    assert len(drawn("answer")) == 4
    (refusal,) = drawn("refusal")
    assert REFUSAL in str(refusal.findtext(f"{SVG}title"))


def test_the_picture_of_nothing_is_a_picture() -> None:
    nothing: dict[str, Any] = {"steps": [], "events": [], "members": [], "latency": []}
    assert ET.fromstring(page.picture(result(**nothing))).tag == f"{SVG}svg"  # noqa: S314 - our own


def test_the_time_axis_has_few_round_marks() -> None:
    assert page._ticks(0.5, 41.5) == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]
    assert len(page._ticks(0, 3000)) <= page.TICKS + 1


def test_the_page_fetches_nothing_and_escapes_what_it_was_told() -> None:
    html = page.render(result(problems=["<script>alert(1)</script>"]))
    assert "<script" not in html
    assert REFUSAL not in html
    assert re.findall(r"(?:src|href|url\()", html) == []


def test_the_command_draws_the_picture_of_a_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(result()))
    assert page.main([str(tmp_path / "result.json"), str(tmp_path / "demo.svg")]) == 0
    assert (tmp_path / "demo.svg").read_text().startswith("<svg")


# ---- in a real browser ----


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
CONTRAST = """(() => {
  const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(part => part / 255)
    .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const body = getComputedStyle(document.body), paper = light(body.backgroundColor)
  const texts = [...document.querySelectorAll('body, dt, th, td, .verdict')].map(e => light(getComputedStyle(e).color))
  return Math.min(...texts.map(text => (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05)))
})()"""


@pytest.mark.integration
def test_a_phone_and_a_desk_show_it_whole_in_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page.render(result()))
    papers = set()
    for scheme in ("light", "dark"):
        for size in (PHONE, DESK):
            browser.open(file.as_uri(), size, scheme)
            assert not browser.evaluate(TOO_WIDE), f"it is wider than a window of {size[0]}"
            assert browser.evaluate("document.querySelectorAll('tbody tr').length") == 4 + len(EVENTS)
            box = browser.evaluate(
                "(b => [b.width, b.height])(document.querySelector('svg').getBoundingClientRect())"
            )
            assert min(box) > 150, f"the picture is {box}"
            assert browser.evaluate(CONTRAST) >= 4.5, f"WCAG's contrast for text, {scheme}"
        papers.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2, "dark is not light"
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("about:")} == {file.as_uri()}
