"""What of etcd's settings are parameters of the stack, and so must not be in the user's own document as well.

The member's would win without a word, and the health report would go by the wrong quota.
"""

from __future__ import annotations

import re

from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import TUNING, MemberSpec

_PROPERTIES = {variable: name for name, variable in TUNING.items()}


def flag(variable: str) -> str:
    """The name of the flag that a variable stands for, without its dashes."""
    return variable.removeprefix("ETCD_").lower().replace("_", "-")


def lines_of(text: str) -> list[str]:
    """The lines of a file that configures etcd, without those that are comments for systemd or a shell."""
    return [line for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]


def check(text: str, where: str, spec: MemberSpec) -> None:
    """Raise InvalidRequest if ``text``, a file that configures etcd, sets what ``spec`` has from a parameter."""
    lines = lines_of(text)
    for variable, _ in spec.settings:
        sets = rf"\b{variable}\b|(?<![\w-])--?{flag(variable)}(?![\w-])"
        if variable in _PROPERTIES and any(re.search(sets, line) for line in lines):
            raise refusal(variable, where)


def refusal(variable: str, where: str) -> InvalidRequest:
    """The sentence for a variable that ``where`` in the user's document sets."""
    return InvalidRequest(
        f"BaseUserData sets {variable} in {where}, which is a parameter of the stack: take it out there, and set"
        f" {_PROPERTIES[variable]}"
    )
