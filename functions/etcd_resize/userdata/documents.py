"""The user's own ``#cloud-config``: read, changed and written again without a value's text or type changing.

YAML's nodes are kept, not Python's values: ``0644``, ``yes``, ``1e3`` or a date stay what the user wrote, whatever a
reader takes them for. Anchors stay anchors. What cannot be kept so is refused; ``dump`` reads its own output again and
compares, so nothing is mangled without a word. Comments are lost.

Nodes are never changed in place: an anchor may make one of them appear in two places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import yaml

from etcd_resize.errors import InvalidRequest

Value: TypeAlias = "str | bool | int | Sequence[Value] | Mapping[str, Value] | yaml.Node"
"""What ``node`` makes a node of; a node in it stays as it is."""

_TAG = "tag:yaml.org,2002:"
_STR, _NULL, _MERGE = f"{_TAG}str", f"{_TAG}null", f"{_TAG}merge"
_HEADER = "#cloud-config"
_OTHERS = (
    ("#!", "a script"),
    ("{", "Ignition JSON"),
    ("Content-Type:", "multi-part MIME"),
    ("MIME-Version:", "multi-part MIME"),
)

_RESOLVER = yaml.resolver.Resolver()


def kind(base: bytes) -> str:
    """What a document that is no ``#cloud-config`` seems to be, for the sentence; empty if it is one."""
    line = base.split(b"\n", 1)[0].decode(errors="replace").rstrip()
    if line == _HEADER:
        return ""
    return next((name for start, name in _OTHERS if line.startswith(start)), f"a document without {_HEADER}")


def compose(base: bytes, spelling: Callable[[str], str] = str) -> yaml.MappingNode:
    """The root of the ``#cloud-config`` in ``base``; an empty mapping if nothing is in it.

    ``spelling``: two keys of one mapping for which it gives the same are one key twice. Raises InvalidRequest for
    anything but one YAML mapping in UTF-8 behind the header, with every key a scalar that is there once.
    """
    if problem := kind(base):
        raise InvalidRequest(f"BaseUserData is {problem}: give a {_HEADER}, which is what can be merged")
    root = _read(base)
    if root is None or is_null(root):
        return mapping()
    if not isinstance(root, yaml.MappingNode):
        raise InvalidRequest(f"BaseUserData is no mapping of keys behind {_HEADER}")
    for found in everything(root):
        if not found.tag.startswith(_TAG):
            line = found.start_mark.line + 1
            raise InvalidRequest(f"BaseUserData has the tag {found.tag} at line {line}: take it out")
        if isinstance(found, yaml.MappingNode):
            _check_keys(found, spelling)
    return root


def _read(base: bytes) -> yaml.Node | None:
    try:
        return yaml.compose(base.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"BaseUserData is not UTF-8 at its byte {problem.start}") from problem
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f"line {mark.line + 1}" if mark else "its end"
        raise InvalidRequest(f"BaseUserData is no YAML at {where}: {problem.problem or problem}") from problem
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        raise InvalidRequest(f"BaseUserData is no YAML: {problem}") from problem


def _check_keys(mapping: yaml.MappingNode, spelling: Callable[[str], str]) -> None:
    line = mapping.start_mark.line + 1
    seen: dict[str, str] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidRequest(f"BaseUserData has a key that is no scalar in the mapping at line {line}")
        spelt = spelling(key.value)
        if spelt in seen:
            same = key.value if key.value == seen[spelt] else f"{seen[spelt]} and {key.value}"
            raise InvalidRequest(
                f"BaseUserData has the key {same} twice in the mapping at line {line}: keep one of them"
            )
        seen[spelt] = key.value


def everything(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node of the tree once, keys too; anchors may make circles."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, yaml.MappingNode):
            waiting += [part for pair in found.value for part in pair]
        elif isinstance(found, yaml.SequenceNode):
            waiting += found.value


# --- looking, and making anew ------------------------------------------------------------------------


def mapping() -> yaml.MappingNode:
    """An empty one."""
    return yaml.MappingNode(f"{_TAG}map", [])


def is_null(found: yaml.Node | None) -> bool:
    """Whether nothing is there: no node, or YAML's null."""
    return found is None or found.tag == _NULL


def merges(mapping: yaml.MappingNode) -> bool:
    """Whether ``<<`` brings keys into it that do not stand there."""
    return any(key.tag == _MERGE for key, _ in mapping.value)


def pairs(mapping: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
    """Its keys as they are written, and their nodes."""
    return [(key.value, value) for key, value in mapping.value]


def replaced(
    mapping: yaml.MappingNode,
    new: Mapping[str, Value],
    gone: frozenset[str] = frozenset(),
    spelling: Callable[[str], str] = str,
) -> yaml.MappingNode:
    """A mapping without the keys ``gone``, and with those of ``new``: in their old places, the others at the end.

    Keys are compared in ``spelling``; a key that was there keeps its own.
    """
    left = {spelling(name): (name, value) for name, value in new.items()}
    unwanted = {spelling(name) for name in gone}
    kept: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in mapping.value:
        spelt = spelling(key.value)
        if spelt in left:
            kept.append((key, node(left.pop(spelt)[1])))
        elif spelt not in unwanted:
            kept.append((key, value))
    kept += [(_key(name), node(value)) for name, value in left.values()]
    return yaml.MappingNode(mapping.tag, kept)


def node(value: Value) -> yaml.Node:
    """A node of plain data. Texts are quoted, so that no reader takes one for a number, a date or a boolean."""
    if isinstance(value, yaml.Node):
        return value
    if isinstance(value, bool):
        return yaml.ScalarNode(f"{_TAG}bool", str(value).lower())
    if isinstance(value, int):
        return yaml.ScalarNode(f"{_TAG}int", str(value))
    if isinstance(value, str):
        return yaml.ScalarNode(_STR, value, style="|" if "\n" in value else '"')
    if isinstance(value, Mapping):
        return yaml.MappingNode(f"{_TAG}map", [(_key(name), node(inner)) for name, inner in value.items()])
    return yaml.SequenceNode(f"{_TAG}seq", [node(inner) for inner in value])


def _key(name: str) -> yaml.ScalarNode:
    return yaml.ScalarNode(_STR, name)


# --- writing -----------------------------------------------------------------------------------------


def dump(root: yaml.MappingNode) -> bytes:
    """The document behind its header; the same nodes give the same bytes. ASCII, so that no reader stumbles.

    Raises InvalidRequest if what was written does not read the same again.
    """
    try:
        copy = _copy(root, {})
        text: str = yaml.serialize(copy, Dumper=yaml.SafeDumper, width=float("inf"))
        read = _read(text.encode())
        same = read is not None and _same(copy, read)
    except (yaml.YAMLError, RecursionError) as problem:
        raise InvalidRequest(f"BaseUserData cannot be written again as YAML: {problem}") from problem
    if not same:
        raise InvalidRequest("BaseUserData does not read the same when it is written again: use plainer YAML")
    return f"{_HEADER}\n{text}".encode()


def _copy(found: yaml.Node, made: dict[int, yaml.Node]) -> yaml.Node:
    """The same in styles that are safe to write: blocks, and texts of several lines literally or quoted."""
    if id(found) in made:
        return made[id(found)]
    copy: yaml.Node
    if isinstance(found, yaml.ScalarNode):
        copy = made[id(found)] = _scalar(found)
    elif isinstance(found, yaml.MappingNode):
        copy = made[id(found)] = yaml.MappingNode(found.tag, [], flow_style=False)
        copy.value = [(_copy(key, made), _copy(value, made)) for key, value in found.value]
    else:
        copy = made[id(found)] = yaml.SequenceNode(found.tag, [], flow_style=False)
        copy.value = [_copy(inner, made) for inner in found.value]
    return copy


def _scalar(found: yaml.ScalarNode) -> yaml.ScalarNode:
    value, style = found.value, found.style
    if found.tag == _NULL and not value:
        return yaml.ScalarNode(_NULL, "null")  # nothing at all cannot be written everywhere
    if style == ">" or "\n" in value:
        # beyond ASCII there are characters that YAML takes for line breaks inside a block: those are escaped
        style = "|" if "\n" in value and value.isascii() else '"'
    return yaml.ScalarNode(found.tag, value, style=style)


def _same(one: yaml.Node, other: yaml.Node) -> bool:
    """Whether two trees are the same in shape, tags, texts, and in what is plain where that could make a difference."""
    seen: set[tuple[int, int]] = set()
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if (id(left), id(right)) in seen:
            continue
        seen.add((id(left), id(right)))
        if type(left) is not type(right) or left.tag != right.tag or len(left.value) != len(right.value):
            return False
        if isinstance(left, yaml.ScalarNode):
            if left.value != right.value or _plain(left) != _plain(right):
                return False
        elif isinstance(left, yaml.MappingNode):
            for pair, its in zip(left.value, right.value, strict=True):
                waiting += zip(pair, its, strict=True)
        else:
            waiting += zip(left.value, right.value, strict=True)
    return True


def _plain(scalar: yaml.Node) -> bool:
    """Whether a reader must guess the type, and another reader may guess another one.

    Not if the type is written out, nor for a text of several lines or beyond ASCII: that is a string for everyone.
    """
    guessed = _RESOLVER.resolve(yaml.ScalarNode, scalar.value, (True, False))  # type: ignore[no-untyped-call]
    surely_text = "\n" in scalar.value or not scalar.value.isascii()
    return (
        isinstance(scalar, yaml.ScalarNode) and not scalar.style and guessed == scalar.tag and not surely_text
    )
