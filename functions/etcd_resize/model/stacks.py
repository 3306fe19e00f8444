"""How stacks are related, by their IDs alone."""

from __future__ import annotations

import re

_NESTED = re.compile(r"-[A-Z0-9]{12,13}$")
"""What CloudFormation appends to the name of a nested stack: ``<parent>-<logical ID>-<random>``."""


def stack_name(stack_id: str) -> str:
    """The name in a stack's ARN: ``arn:…:stack/<name>/<uuid>``."""
    return stack_id.partition("/")[2].partition("/")[0]


def same_place(one: str, other: str) -> bool:
    """Whether two stack IDs are two lives of one stack: names alike, but for what a nested one's ends with."""
    return one != other and _place(one) == _place(other)


def siblings(one: str, other: str) -> bool:
    """Whether two stack IDs are nested in the same parent, at whatever time."""
    parents = [_place(stack_id).rpartition("-")[0] for stack_id in (one, other)]
    return one != other and parents[0] == parents[1] and all(map(_is_nested, (one, other)))


def child_of(parent: str, stack_id: str) -> bool:
    """Whether a stack ID is that of a stack nested in ``parent``, at whatever time."""
    return _is_nested(stack_id) and _place(stack_id).rpartition("-")[0] == stack_name(parent)


def _is_nested(stack_id: str) -> bool:
    return bool(_NESTED.search(stack_name(stack_id)))


def _place(stack_id: str) -> str:
    return _NESTED.sub("", stack_name(stack_id))
