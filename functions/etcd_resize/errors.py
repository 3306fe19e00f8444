"""The three ways in which a request can go wrong.

What the outside says (gRPC, S3, EC2) is translated into these in ``gateway`` and ``aws``, once, and
chained with ``from``. They become a FAILED answer only in ``handler``.
"""

from __future__ import annotations

REASON_LIMIT = 240
"""Characters of a reason that reach the stack's events: crhelper 2.0.12 keeps the last 240."""


def sentence(text: str, limit: int = REASON_LIMIT) -> str:
    """``text`` on one line, at most ``limit`` characters.

    The middle goes, because a reason starts with what was wanted and ends with what to do.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    head = (limit - 3) * 2 // 3
    return f"{line[:head]}...{line[len(line) - (limit - 3 - head) :]}"


def quoted(value: object, limit: int) -> str:
    """``value`` as a sentence quotes it: at most ``limit`` characters of it."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")


class EtcdResizeError(Exception):
    """Base of all errors of this package; its text is one sentence, fit for a stack event."""

    def __init__(self, reason: str) -> None:
        super().__init__(sentence(reason))


class InvalidRequest(EtcdResizeError):
    """The event's properties are wrong. The text names all that is wrong, not only the first."""


class Refused(EtcdResizeError):
    """The change is unsafe, or was waited for in vain. Nothing was changed by the step that was refused."""


class GaveUp(Refused):
    """Refused because the time was over, with the reason that was last seen."""


class Retryable(EtcdResizeError):
    """The outside did not answer, or answered "not now". Look again, then decide anew.

    The change that was asked for may or may not have happened: never repeat it without a new look.
    """
