"""The live page: what it shows, who may give it orders, and a real browser in front of a real playground."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from etcd_resize.model.cluster import ClusterView, Health, Member
from playground import live, live_server, machines
from playground.account import Deployment
from playground.journal import Journal
from playground.live import Live
from playground.live_server import OrderError
from playground.local import Playground
from playground.machines import Machine, MachineError
from tests.playground.client import Cloud
from tests.playground.test_machines import TEMPLATE, protect
from tests.support.browser import DESK, PHONE, Browser
from tests.support.waiting import wait_until


def machine(number: int, **changed: Any) -> Machine:
    facts: dict[str, Any] = {
        "instance": f"i-{number}",
        "address": f"127.0.0.{number}",
        "name": f"etcd-{number}",
        "pid": 1,
        "state": "running",
        "protected": False,
        "user_data": b"",
        "image": "ami-1",
    }
    return Machine(**(facts | changed))


def member(number: int, *, is_learner: bool = False, leader: int = 1) -> Member:
    peer, health = (f"http://127.0.0.{number}:2380",), Health(serving=True, leader=leader, db_size=4096)
    return Member(number, f"etcd-{number}", peer, is_learner=is_learner, health=health)


# ---- values ----


def test_machines_are_shown_with_their_members_and_members_without_a_machine_last() -> None:
    view = ClusterView(1, (member(9), member(2, is_learner=True), member(1)), has_quorum=True)
    found = [machine(1), machine(2), machine(3, pid=None, state="stopped")]
    shown = live.rows(view, found, {"i-2"}, lambda one: one.instance == "i-1")
    assert [(row["name"], row["role"], row["state"]) for row in shown] == [
        ("etcd-1", "leader", "paused"),
        ("etcd-2", "learner", "running, cut off"),
        ("etcd-3", "", "stopped"),
        ("etcd-9", "voter", "no machine"),
    ]
    assert [row["bytes"] for row in shown] == [4096, 4096, 0, 4096]


@pytest.mark.parametrize(
    ("changed", "state", "cut_off", "expected"),
    [
        ({}, "running", False, ["kill", "pause"]),
        ({}, "paused", False, ["kill", "resume"]),
        ({"kind": "container"}, "running", False, ["kill", "pause", "cut off"]),
        ({"kind": "container"}, "running", True, ["kill", "pause", "heal"]),
        ({"pid": None}, "stopped", False, ["start"]),
        ({"pid": None}, "never-booted", False, []),
    ],
)
def test_only_what_can_be_done_is_offered(
    changed: Mapping[str, Any], state: str, *, cut_off: bool, expected: list[str]
) -> None:
    assert live.actions(machine(1, **changed), state, cut_off=cut_off) == expected


def test_a_stacks_status_is_a_line_and_a_call_is_none() -> None:
    record = {"at": 12.5, "kind": "stack", "stack": "etcd", "status": "UPDATE_FAILED", "reason": "no"}
    assert live.line(record, 10.0) == "   2.5 s  stack etcd UPDATE_FAILED: no"
    assert live.line({"at": 12.5, "kind": "call"}, 10.0) is None


@pytest.mark.parametrize("size", [None, 0, 8, "3", 3.0, True])
def test_a_size_is_one_that_the_template_allows(size: object) -> None:
    with pytest.raises(OrderError, match="from 1 to 7"):
        live.size_of({"size": size})


# ---- orders, from those who may give them ----


class FakePlayground:
    """Notes what it is told; a deployment lasts until `go_on` is set, or `end_commands` is called."""

    kind = "process"

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.told: list[tuple[str, str]] = []
        self.go_on = threading.Event()

    def describe(self, stack: str) -> None:
        return None

    def machines(self) -> list[Machine]:
        return [machine(1, pid=None)]

    def kill(self, one: Machine) -> None:
        self.told.append(("kill", one.instance))

    def cut_off(self, one: Machine) -> None:
        raise MachineError("Only a container is cut off.")

    restart = pause = resume = heal = kill

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> Deployment:
        self.told.append((stack, parameters["ClusterSize"]))
        assert self.go_on.wait(10)
        return Deployment(ok=False, status="", reason="nobody home", seconds=1.5, output="")

    def end_commands(self) -> None:
        self.go_on.set()


@pytest.fixture
def fake(tmp_path: Path) -> FakePlayground:
    return FakePlayground(tmp_path)


@pytest.fixture
def page(fake: FakePlayground) -> Iterator[Live]:
    with Live(cast("Playground", fake), "etcd") as running:
        yield running


def ask(
    page: Live, method: str, path: str, order: object = None, **headers: str
) -> tuple[int, str, Mapping[str, str]]:
    """The status, the text and the headers of an answer; `path` is below the page's address unless it begins at /."""
    place = urlsplit(page.address)
    connection = http.client.HTTPConnection(place.netloc, timeout=5)
    try:
        whole = path if path.startswith("/") else place.path + path
        connection.request(method, whole, None if order is None else json.dumps(order), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.headers)
    finally:
        connection.close()


def test_the_page_is_there_for_who_knows_its_address(page: Live) -> None:
    status, text, headers = ask(page, "GET", "")
    assert (status, text) == (200, live_server.PAGE.read_text())
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(page, "GET", "other")[0] == 404
    assert ask(page, "POST", "events", {})[0] == 404


def test_a_foreign_page_neither_reads_nor_orders(page: Live, fake: FakePlayground) -> None:
    order, host = {"do": "kill", "machine": "i-1"}, urlsplit(page.address).netloc
    strangers: list[tuple[str, dict[str, str]]] = [
        ("/orders", {}),
        ("/wrong/orders", {}),
        ("/%C3%A4/orders", {}),
        ("orders", {"Host": f"evil.example:{host.rpartition(':')[2]}"}),  # a name that leads to 127.0.0.1
        ("orders", {"Host": "127.0.0.1"}),
        ("orders", {"Origin": "http://evil.example"}),
        ("orders", {"Origin": "null"}),
    ]
    for path, headers in strangers:
        assert ask(page, "POST", path, order, **headers)[0] == 403, (path, headers)
        assert ask(page, "GET", path.replace("orders", "events"), **headers)[0] == 403, (path, headers)
    assert fake.told == []
    assert ask(page, "POST", "orders", order, Origin=f"http://{host}")[0] == 200
    assert fake.told == [("kill", "i-1")]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([], "short JSON object"),
        ({"do": "x" * live_server.LONGEST_ORDER}, "short JSON object"),
        ({"do": "kill", "machine": "i-9"}, "There is no machine i-9."),
        ({"do": "stop", "machine": "i-1"}, "A machine is not told to stop"),
        ({"do": "cut off", "machine": "i-1"}, "Only a container is cut off."),
        ({"do": "deploy", "size": 9}, "from 1 to 7"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(page: Live, order: object, said: str) -> None:
    status, text, _ = ask(page, "POST", "orders", order)
    assert (status, said in text) == (409, True), text


def test_one_deployment_at_a_time_and_its_end_is_told(page: Live, fake: FakePlayground) -> None:
    assert ask(page, "POST", "orders", {"do": "deploy", "size": 3})[0] == 200
    assert "runs already" in ask(page, "POST", "orders", {"do": "deploy", "size": 5})[1]
    assert page.state()["deployment"] == {"size": 3, "runs": True}
    fake.go_on.set()
    wait_until(lambda: not page.state()["deployment"]["runs"], "the deployment ends")
    assert page.state()["deployment"]["reason"] == "nobody home"
    assert fake.told == [("etcd", "3")]


def test_the_end_ends_a_deployment_and_whoever_listens(fake: FakePlayground) -> None:
    with Live(cast("Playground", fake), "etcd") as page:
        place = urlsplit(page.address)
        connection = http.client.HTTPConnection(place.netloc, timeout=5)
        connection.request("GET", f"{place.path}events")
        answer = connection.getresponse()
        assert json.loads(answer.readline().removeprefix(b"data: "))["stack"] == "etcd"
        assert ask(page, "POST", "orders", {"do": "deploy", "size": 3})[0] == 200
    assert fake.go_on.is_set()
    answer.read()  # it ends
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        ask(page, "GET", "")


def test_a_command_that_runs_is_ended(tmp_path: Path) -> None:
    playground = Playground(tmp_path)
    statuses: list[int] = []

    def sleep() -> None:
        statuses.append(playground.run("sleep", "60", timeout=60, check=False).returncode)

    thread = threading.Thread(target=sleep)
    thread.start()
    wait_until(lambda: bool(playground._commands), "the command runs")
    playground.end_commands()
    thread.join(10)
    assert statuses == [-signal.SIGTERM]


# ---- a real browser, a real playground ----


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


@pytest.fixture
def stack(cloud: Cloud) -> Iterator[str]:
    """A stack with one machine, whose etcd is a cluster of its own."""
    created = cloud.create("live", TEMPLATE, Subnet=cloud.playground.subnet_ids[0])
    assert created == "CREATE_COMPLETE", cloud.playground.reason("live")
    yield "live"
    cloud.delete("live")


TEXT = "document.body.innerText"
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.stack
def test_a_browser_shows_a_member_hears_an_event_and_kills_a_machine(
    browser: Browser, cloud: Cloud, stack: str
) -> None:
    playground = cloud.playground
    (lonely,) = playground.machines()
    with Live(playground, stack) as page:
        papers = set()
        for scheme, size in (("light", DESK), ("dark", PHONE)):
            browser.open(page.address, size, scheme)
            browser.wait("document.querySelector('article.leader .good')")
            assert "leader lonely" in browser.evaluate(TEXT)
            assert not browser.evaluate(TOO_WIDE), f"it is wider than a window of {size[0]}"
            papers.add(browser.evaluate(PAPER))
        assert len(papers) == 2, "dark is not light"
        assert "cut off" in browser.evaluate("document.getElementById('processes').innerText")

        for protected, told in ((True, "protect"), (False, "unprotect")):
            protect(cloud, lonely, protected=protected)
            browser.wait(f"{TEXT}.includes('machine lonely ({lonely.address}) {told}')")

        def press(action: str) -> None:
            button = f"document.querySelector('button[data-key=\"{action} {lonely.instance}\"]')"
            browser.wait(button)
            browser.evaluate(f"{button}.click()")

        press("pause")
        wait_until(lambda: machines.is_paused(lonely), "the machine hangs")
        press("resume")
        wait_until(lambda: not machines.is_paused(lonely), "the machine goes on")
        press("kill")
        wait_until(lambda: playground.machines()[0].state == "stopped", "the machine is down")
        press("start")
        wait_until(lambda: playground.machines()[0].state == "running", "the machine is back")
        browser.wait("document.querySelector('article.leader .good')")
    browser.wait(f"{TEXT}.includes('it has ended')")
    assert {url.removesuffix("events").removesuffix("orders") for url in browser.requests} <= {
        page.address,
        "about:blank",
        "data:,",
    }
