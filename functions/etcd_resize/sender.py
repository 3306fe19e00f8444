"""How the answer reaches CloudFormation: in bounded time, and with a word in the log if it does not.

crhelper's own sender has no timeout, takes any HTTP status for a success and never gives up. It must not be
allowed to: a function that Lambda ends at its timeout is run again with the same event a minute later, when
CloudFormation may have deleted what that event creates. The URL is presigned and stays out of the log.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit

TRY_SECONDS = 5.0
"""How long one try may wait for the other side."""
LEAST_SECONDS = 0.3
"""What the last try gets when no time is left: crhelper's alarm rings half a second before the end."""
SPARE_SECONDS = 1.0
"""Kept of Lambda's time, so that the function ends by itself."""
REFUSALS = 5
"""Tries that are answered, but not with success, before we believe it."""
LONGEST_PAUSE = 30.0

logger = logging.getLogger(__name__)


def send(
    url: str,
    answer: Mapping[str, object],
    remaining: Callable[[], float],
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """PUT the answer to the presigned ``url``; whether it was taken. Never raises.

    ``remaining``: seconds that Lambda leaves. An answer of S3 that is no success is tried ``REFUSALS`` times,
    an S3 that does not answer until the time is up.
    """
    body = json.dumps(answer).encode()
    pause, refusals, tries = 1.0, 0, 0
    while True:
        tries += 1
        try:
            status, problem = _put(url, body, _patience(remaining)), ""
        except (OSError, HTTPException, ValueError) as error:
            status, problem = 0, _brief(error)
        if 200 <= status < 300:  # noqa: PLR2004 — HTTP's own
            logger.info("CloudFormation was told: %s", answer.get("Status"))
            return True
        refusals += bool(status)
        problem = problem or f"HTTP status {status}"
        if refusals >= REFUSALS or remaining() - SPARE_SECONDS <= pause:
            logger.error(
                "CloudFormation could not be told: %s (%d tries). It waits for %s of %s until ServiceTimeout.",
                problem,
                tries,
                answer.get("Status"),
                answer.get("LogicalResourceId"),
            )
            return False
        logger.warning("CloudFormation could not be told yet: %s", problem)
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _patience(remaining: Callable[[], float]) -> float:
    return max(LEAST_SECONDS, min(TRY_SECONDS, remaining() - SPARE_SECONDS))


def _put(url: str, body: bytes, timeout: float) -> int:
    """The HTTP status of one try. ``timeout`` in seconds bounds each wait: connecting, sending, reading."""
    parts = urlsplit(url)
    connection = HTTPSConnection(parts.netloc, timeout=timeout, context=_trusting())
    try:
        # the signature covers an empty content type
        connection.request("PUT", f"{parts.path}?{parts.query}", body, {"Content-Type": ""})
        return connection.getresponse().status
    finally:
        connection.close()


@cache
def _trusting() -> ssl.SSLContext:
    """Whom the system trusts. To read its hundred authorities takes longer than the answer: once a process will do."""
    return ssl.create_default_context()


def _brief(error: Exception) -> str:
    """What happened, without the URL: some errors of http.client quote it."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
