"""The answer's way, through the real handler and the real crhelper, to a server that may be dead, slow or refuse.

Whatever becomes of the answer, the function ends before Lambda ends it, says so in its log, and the presigned
URL is in no log.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from etcd_resize import sender, service
from etcd_resize.model.identity import Identity
from etcd_resize.request import MEMBER
from playground.faults.mailbox import HOST, self_signed
from tests.support.events import FUNCTION, event, member_properties
from tests.support.fakes import FakeBucket, FakeClock, FakeCluster, FakeMachines
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(30)]

SECRET = "X-Amz-Signature=0123456789abcdef"  # noqa: S105 — what must never be in a log
WHO = Identity("etcd", "etcd-1", "10.0.0.1")


class Context:
    """Lambda's, with so many seconds to live."""

    aws_request_id = "request"
    invoked_function_arn = FUNCTION

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left * 1000)


class Answers:
    """Where CloudFormation takes answers: an HTTPS server that does what ``statuses`` say, then says 200."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.statuses: list[int] = []
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        self.silent = threading.Event()
        self.silent.set()
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                answers.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers.silent.wait(20)
                status = answers.statuses.pop(0) if answers.statuses else 200
                if status == 200:
                    assert self.headers["Content-Type"] == ""
                    assert self.path.endswith(f"/answer?{SECRET}")
                    answers.taken.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that went away in the midst

        self.server = Server((HOST, 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.silent.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own and its key."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    made = self_signed(folder)
    return made, made.with_name("server.key")


@pytest.fixture
def answers(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    sender._trusting.cache_clear()
    made = Answers(certificate)
    yield made
    made.stop()
    sender._trusting.cache_clear()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., FakeBucket]]:
    """Let the handler take a Create whose answer goes to a port; the bucket shows what it did."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("ANSWERS_ON_LOOPBACK", "1")
    from etcd_resize import handler  # noqa: PLC0415 — crhelper makes clients for a region when it is imported

    caplog.set_level(logging.DEBUG)

    def handle(port: int, seconds: float, wait: Callable[[], None] = lambda: None) -> FakeBucket:
        clock, bucket, machines = FakeClock(), FakeBucket(), FakeMachines()
        machines.check = wait  # type: ignore[method-assign]
        outside = service.Outside(FakeCluster(clock).connect, bucket, bucket, machines, clock, bucket.vault)
        monkeypatch.setattr(handler, "outside", lambda: outside)
        sent = event("Create", MEMBER, member_properties(WHO))
        sent["ResponseURL"] = f"https://{HOST}:{port}/some/answer?{SECRET}"
        context = Context(seconds)
        handler.handler(sent, context)
        assert context.left > 0, "Lambda would have ended it"
        return bucket

    yield handle
    assert SECRET not in caplog.text
    wait_until(no_alarm, "crhelper's alarm is off")


def no_alarm() -> bool:
    return not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


def test_the_answer_is_told(answers: Answers, run: Callable[..., FakeBucket]) -> None:
    run(answers.server.server_port, 30)
    (answer,) = answers.taken
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", str(WHO))
    assert answer["Data"]["UserData"]


def test_an_answer_that_is_refused_at_first_is_told_once(
    answers: Answers, run: Callable[..., FakeBucket]
) -> None:
    answers.statuses = [503]
    run(answers.server.server_port, 30)
    assert [answer["Status"] for answer in answers.taken] == ["SUCCESS"]


@pytest.mark.parametrize("status", [403, 500])
def test_a_refusing_url(
    answers: Answers, run: Callable[..., FakeBucket], caplog: pytest.LogCaptureFixture, status: int
) -> None:
    answers.statuses = [status] * 100
    bucket = run(answers.server.server_port, 5)
    assert answers.asked > 1
    assert f"CloudFormation could not be told: HTTP status {status}" in caplog.text
    assert bucket.members[str(WHO)].state == "added"  # a repeated event will answer the same


def test_a_dead_url(run: Callable[..., FakeBucket], caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind((HOST, 0))
        run(nobody.getsockname()[1], 4)
    assert "CloudFormation could not be told: Connection refused" in caplog.text


def test_a_url_that_takes_the_connection_and_never_says_a_word(
    run: Callable[..., FakeBucket], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server((HOST, 0)) as silent:
        run(silent.getsockname()[1], 4)
    assert "CloudFormation could not be told: no answer in time" in caplog.text


def test_a_url_that_takes_the_answer_and_never_says_a_word(
    answers: Answers, run: Callable[..., FakeBucket], caplog: pytest.LogCaptureFixture
) -> None:
    answers.silent.clear()
    run(answers.server.server_port, 4)
    assert answers.asked
    assert "CloudFormation could not be told: no answer in time" in caplog.text


def test_a_certificate_that_nobody_vouches_for(
    answers: Answers,
    run: Callable[..., FakeBucket],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    sender._trusting.cache_clear()
    run(answers.server.server_port, 4)
    assert not answers.asked
    assert "CloudFormation could not be told: " in caplog.text


def test_lambda_s_time_runs_out_while_the_service_works(
    answers: Answers, run: Callable[..., FakeBucket], caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        wait_until(lambda: bool(answers.taken), "crhelper's alarm has told it")

    run(answers.server.server_port, 2, wait=work)
    first = answers.taken[0]
    assert (first["Status"], first["Reason"]) == ("FAILED", "Execution timed out")
    assert first["PhysicalResourceId"] == str(WHO)
