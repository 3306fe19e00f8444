"""`python -m playground`: what it prints works as typed, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground import machines, tools
from playground.local import Playground, read_state
from playground.processes import start_time
from tests.playground.client import Cloud
from tests.playground.test_machines import TEMPLATE
from tests.support.addresses import free_port
from tests.support.pages import inline

NETWORK = "127.86"
(SOURCE,) = inline("docs/operations.md", "source")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "playground", *map(str, arguments)]
    return subprocess.run(line, cwd=tools.ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`up` in tmp_path, ready for use."""
    line = [sys.executable, "-m", "playground", "up", "--directory", str(tmp_path)]
    line += ["--port", str(free_port()), "--network", NETWORK]
    process = subprocess.Popen(
        line, cwd=tools.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    printed: list[str] = []
    for text in process.stdout:
        printed.append(text)
        if "Ctrl-C ends everything" in text:
            break
    else:
        pytest.fail("".join(printed))
    (tmp_path / "printed").write_text("".join(printed))
    yield process
    command("down", "--directory", tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.stack
def test_down_cleans_up_after_an_up_that_was_killed(up: subprocess.Popen[str], tmp_path: Path) -> None:
    playground = Playground.running(tmp_path)
    cloud = Cloud(playground, "")
    assert cloud.create("alone", TEMPLATE, Subnet=playground.subnet_ids[0]) == "CREATE_COMPLETE"
    (machine,) = playground.machines()
    assert machine.pid

    typed = f"{SOURCE} && aws cloudformation describe-stack-events --stack-name alone"
    typed = typed.replace(".playground/", f"{tmp_path}/")
    events = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=60, check=True)
    assert "CREATE_COMPLETE" in events.stdout

    listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    cloud_pid = read_state(tmp_path)["cloud_pid"]
    sockets = [row.split()[3] for row in listening.splitlines() if f"pid={cloud_pid}," in row]
    assert sockets == [f"127.0.0.1:{playground.port}"]

    shown = command("status", "--directory", tmp_path).stdout
    assert "CREATE_COMPLETE" in shown
    assert f"{machine.address}" in shown

    second = command("up", "--directory", tmp_path, "--port", free_port())
    assert (second.returncode, "runs in" in second.stderr) == (1, True)

    up.kill()
    up.wait()
    assert start_time(machine.pid)
    assert command("down", "--directory", tmp_path).stdout == "The playground is down.\n"
    assert start_time(machine.pid) is None
    assert start_time(cloud_pid) is None
    assert "No playground runs in" in command("status", "--directory", tmp_path).stderr


@pytest.mark.stack
def test_ctrl_c_ends_everything(up: subprocess.Popen[str], tmp_path: Path) -> None:
    cloud = read_state(tmp_path)["cloud_pid"]
    page = re.findall(r"http://127\.0\.0\.1:\S+", (tmp_path / "printed").read_text())[0]
    with urllib.request.urlopen(page, timeout=5) as answer:  # noqa: S310 - http, by the pattern
        assert b"The playground" in answer.read()
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=30) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page, timeout=5)  # noqa: S310 - the same
    assert start_time(cloud) is None
    assert not (tmp_path / "state.json").exists()


def test_an_error_is_one_sentence(tmp_path: Path) -> None:
    result = command("status", "--directory", tmp_path)
    assert (result.returncode, result.stderr) == (1, f"No playground runs in {tmp_path}.\n")


def test_a_network_must_be_loopback(tmp_path: Path) -> None:
    result = command("up", "--directory", tmp_path, "--network", "10.0")
    assert result.returncode == 1
    assert "The network 10.0 is not like 127.77" in result.stderr


def test_a_process_id_that_was_given_away_again_is_not_signalled(tmp_path: Path) -> None:
    stranger = machines.Machine(
        instance="i-1",
        address="127.0.0.1",
        name="etcd-1",
        pid=os.getpid(),
        state="running",
        protected=False,
        user_data=b"",
        image="ami-1",
        started="0",
        folder=tmp_path,
    )
    machines.kill(stranger)  # else this process would be gone
