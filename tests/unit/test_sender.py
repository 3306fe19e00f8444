"""The sender's tries, without a network: it gives up in time, believes a refusal at last, keeps the URL to itself."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import InvalidURL

import pytest

from etcd_resize import sender
from tests.support.fakes import FakeClock

SECRET = "X-Amz-Signature=0123456789abcdef"  # noqa: S105 — what must never be in a log
URL = f"https://answers.invalid/answer?{SECRET}"
ANSWER = {"Status": "SUCCESS", "LogicalResourceId": "Member"}


class Other:
    """The other side: what each try comes to, the last one for ever. ``patience`` is what each was given."""

    def __init__(self, clock: FakeClock, *outcomes: int | Exception, takes: float = 0.0) -> None:
        self.clock, self.outcomes, self.takes = clock, list(outcomes), takes
        self.patience: list[float] = []

    def __call__(self, url: str, body: bytes, timeout: float) -> int:
        self.patience.append(timeout)
        self.clock.now += min(self.takes, timeout)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Iterator[FakeClock]:
    caplog.set_level("DEBUG")
    yield FakeClock(now=0.0)
    assert SECRET not in caplog.text


def send(other: Other, monkeypatch: pytest.MonkeyPatch, lambda_seconds: float = 900.0) -> bool:
    monkeypatch.setattr(sender, "_put", other)
    return sender.send(URL, ANSWER, lambda: lambda_seconds - other.clock.now, other.clock.sleep)


def test_tries_again_until_it_is_taken(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Other(clock, ConnectionRefusedError(111, "Connection refused"), TimeoutError(), 503, 200)
    assert send(other, monkeypatch)
    assert len(other.patience) == 4


@pytest.mark.parametrize("status", [301, 403, 500])
def test_believes_a_refusal_at_last(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    other = Other(clock, status)
    assert not send(other, monkeypatch)
    assert len(other.patience) == sender.REFUSALS
    assert f"CloudFormation could not be told: HTTP status {status} (5 tries)" in caplog.text


@pytest.mark.parametrize("takes", [0.0, 60.0])
@pytest.mark.parametrize("left", [1.2, 4.0, 30.0, 900.0])
def test_ends_before_lambda_ends_it(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, left: float, takes: float
) -> None:
    other = Other(clock, TimeoutError(), takes=takes)
    assert not send(other, monkeypatch, left)
    assert clock.now <= left - 0.5  # crhelper's alarm rings then
    assert max(other.patience) <= sender.TRY_SECONDS


def test_tries_once_even_when_the_time_is_up(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Other(clock, 200)
    assert send(other, monkeypatch, 0.5)
    assert other.patience == [sender.LEAST_SECONDS]


def test_an_error_that_quotes_the_url_is_not_quoted(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not send(Other(clock, InvalidURL(URL)), monkeypatch)
    assert "could not be told: InvalidURL" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "https://", "https://host:port/", "https://[::1/", "no url", "https://\0/"]
)
def test_a_hopeless_url_is_given_up_too(clock: FakeClock, url: str) -> None:
    assert not sender.send(url, ANSWER, lambda: 3 - clock.now, clock.sleep)
