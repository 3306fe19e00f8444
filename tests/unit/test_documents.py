"""The user's cloud-config is read and written again: every text, type and name stays, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcd_resize.errors import REASON_LIMIT, InvalidRequest
from etcd_resize.userdata import documents

TRICKY = [
    *("0644", "0o644", "0x1F", "1e3", "1.5e3", ".5", "1_000", "12:30:45", "2001-01-01", "2001-12-14 21:59:43 -5"),
    *("yes", "No", "on", "y", "~", "null", "Null", "true", ".inf", "-.inf", ".nan", "=", "<<", "1.0", "+1", "0b11"),
    *("a: b", "a #b", "a#b", "- a", "-a", "? a", ":a", "@a", "%a", "!a", "&a", "*a", "{", "[]", "", " ", " a ", "#a"),
    *("a\nb", "a\n", "a\n\n", "\na", "  a\n b\n", "a \nb", "a\tb", "\ta", "a\r\nb", "ünï", "日本\n語", "😀"),
    *("\u2028", "\x85", "\ufeff", "\x07", "\x7f", "---", "--- a", "...", "'", '"', "\\", "%%", "'a': b"),
    *("\\$private_ipv4", "$private_ipv4"),
]  # fmt: skip
"""Texts that some reader takes for something else, or that break a careless writer."""

PIECES = [
    *"ab:-#?[]{},&*!|>'\"%@`~<= \t\r\n\\",
    "\n- ",
    "\n  ",
    ": ",
    "a: ",
    "b: ",
    "\nc: ",
    "<<: ",
    "é",
    "&x ",
    "*x",
]
"""What YAML is made of."""
_STYLES = [None, "'", '"', "|", ">"]


def nodes() -> st.SearchStrategy[yaml.Node]:
    """Trees as they come out of YAML: plain scalars of the type that they are taken for, all styles."""
    texts = st.one_of(st.sampled_from(TRICKY), st.text(st.characters(codec="utf-8"), max_size=12))
    scalars = st.builds(_scalar, texts, st.sampled_from(_STYLES))
    keys = st.builds(_scalar, st.text("abcdef-_", min_size=1, max_size=6), st.just(None))
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.builds(_sequence, st.lists(inner, max_size=4), st.booleans()),
            st.builds(_mapping, st.lists(st.tuples(keys, inner), max_size=4), st.booleans()),
        ),
        max_leaves=12,
    )


def _scalar(value: str, style: str | None) -> yaml.ScalarNode:
    tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (style is None, style is not None))  # type: ignore[no-untyped-call]
    return yaml.ScalarNode(tag, value, style=style)


def _sequence(items: list[yaml.Node], flow: bool) -> yaml.SequenceNode:  # noqa: FBT001 — hypothesis calls it
    return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=flow)


def _mapping(items: list[tuple[yaml.Node, yaml.Node]], flow: bool) -> yaml.MappingNode:  # noqa: FBT001 — the same
    unique = {key.value: (key, value) for key, value in items}
    return yaml.MappingNode("tag:yaml.org,2002:map", list(unique.values()), flow_style=flow)


def every_tricky_one(style: str | None, *, flow: bool) -> yaml.Node:
    """A mapping with all of them."""
    items: list[tuple[yaml.Node, yaml.Node]] = [
        (_scalar(f"k{number}", None), _scalar(text, style)) for number, text in enumerate(TRICKY)
    ]
    return _mapping(items, flow)


def tree(text: bytes, loader: Any) -> Any:
    """What another reader than ours sees: the tags, the texts, and what is plain, so that yet another may guess."""
    return _seen(yaml.compose(text, Loader=loader))


def _seen(node: yaml.Node | None) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.MappingNode):
        return node.tag, [(_seen(key), _seen(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return node.tag, [_seen(inner) for inner in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.tag.endswith(":null"):
        return node.tag
    text = "\n" in node.value or not node.value.isascii() or "\t" in node.value
    explicit = node.tag != _scalar(node.value, None).tag
    return node.tag, node.value, "text" if text else "typed" if explicit else node.style in (None, "")


@settings(deadline=None)  # a busy machine is no failure
@given(root=nodes())
@example(root=every_tricky_one(None, flow=False))
@example(root=every_tricky_one('"', flow=True))
@example(root=every_tricky_one("|", flow=False))
def test_every_reader_sees_the_same_before_and_after(root: yaml.Node) -> None:
    whole = _mapping([(_scalar("root", None), root)], flow=False)
    base = b"#cloud-config\n" + yaml.serialize(whole, Dumper=yaml.SafeDumper, allow_unicode=True).encode()
    try:
        written = documents.dump(documents.compose(base))
    except InvalidRequest:
        assert tree(base, yaml.SafeLoader) != _seen(whole), "what was written well was refused"
        return
    assert written.isascii()
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert tree(written, loader) == tree(base, loader)


@settings(deadline=None)  # a busy machine is no failure
@given(text=st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example(text="a: &x [1, 2]\nb: *x\nc: {<<: {d: 0644}, e: }\n")
@example(text="a: >\n  folded\n  text\n\n    more\n\nb: |+\n  kept\n\n")
@example(text="a: !!str 12\nb: !!binary aGk=\nd: ! y\n")
@example(text="a: 'one\r\n\r\n  two'\r\nb: \"x\\\r\n  y\"\r\nc: |\r\n  z\r\n")
@example(text="%YAML 1.1\n---\na: b\n...\n")
def test_what_is_accepted_is_kept_and_the_rest_refused_in_one_sentence(text: str) -> None:  # fmt: skip
    base = b"#cloud-config\n" + text.encode()
    try:
        written = documents.dump(documents.compose(base))
    except InvalidRequest as refused:
        sentence = str(refused)
    else:
        sentence = ""
    if sentence:
        assert "BaseUserData" in sentence
        assert len(sentence) <= REASON_LIMIT
        return
    before = tree(base, yaml.SafeLoader)
    assert tree(written, yaml.SafeLoader) == (
        tree(b"{}", yaml.SafeLoader) if isinstance(before, str | None) else before
    )


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (b"#!/bin/sh\n", "BaseUserData is a script"),
        (b'{"ignition": {}}', "BaseUserData is Ignition JSON"),
        (b"Content-Type: multipart/mixed; boundary=x\n", "BaseUserData is multi-part MIME"),
        (b"MIME-Version: 1.0\n", "BaseUserData is multi-part MIME"),
        (b"hostname: a\n", "BaseUserData is a document without #cloud-config"),
        (b"\xef\xbb\xbf#cloud-config\n", "BaseUserData is a document without #cloud-config"),
        (b"#cloud-config\n- a\n", "BaseUserData is no mapping of keys behind #cloud-config"),
        (b"#cloud-config\na: \xff\n", "BaseUserData is not UTF-8 at its byte 17"),
        (b"#cloud-config\na: b: c\n", "BaseUserData is no YAML at line 2: mapping values are not allowed here"),
        (b"#cloud-config\na:\n\tb: 1\n", "BaseUserData is no YAML at line 3: found character '\\t'"),
        (b"#cloud-config\na: \x07\n", "BaseUserData is no YAML: unacceptable character #x0007"),
        (b"#cloud-config\na: *b\n", "BaseUserData is no YAML at line 2: found undefined alias 'b'"),
        (b"#cloud-config\na: 1\n---\na: 2\n", "BaseUserData is no YAML at line 3: but found another document"),
        (b"#cloud-config\na: " + b"[" * 20_000, "BaseUserData is no YAML: maximum recursion depth exceeded"),
        (b"#cloud-config\na: !own b\n", "BaseUserData has the tag !own at line 2: take it out"),
        (b"#cloud-config\n? [a]\n: b\n", "a key that is no scalar in the mapping at line 2"),
        (b"#cloud-config\na: 1\nb:\n  c: 1\n  c: 2\n", "has the key c twice in the mapping at line 4"),
        (b"#cloud-config\na: 1\n'a': 2\n", "has the key a twice in the mapping at line 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(base: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        documents.compose(base)
    assert sentence in str(refused.value)
    assert len(str(refused.value)) <= REASON_LIMIT


def test_keys_of_one_spelling_are_one_key() -> None:
    with pytest.raises(
        InvalidRequest, match="has the key a-b and a_b twice in the mapping at line 2: keep one"
    ):
        documents.compose(b"#cloud-config\na-b: 1\na_b: 2\n", lambda key: key.replace("-", "_"))
    assert len(documents.pairs(documents.compose(b"#cloud-config\na-b: 1\na_b: 2\n"))) == 2


def test_a_header_may_end_like_windows_lines_do() -> None:
    crlf = b"#cloud-config\r\na: |\r\n  one\r\n  two\r\n"
    assert documents.dump(documents.compose(crlf)) == b"#cloud-config\na: |\n  one\n  two\n"


def test_an_anchor_stays_an_anchor_and_what_replaces_it_in_one_place_stays_there() -> None:
    root = documents.compose(b"#cloud-config\na: &x {k: 0644}\nb: *x\n")
    assert documents.dump(root) == b"#cloud-config\na: &id001\n  k: 0644\nb: *id001\n"
    inner = dict(documents.pairs(root))["a"]
    assert isinstance(inner, yaml.MappingNode)
    changed = documents.replaced(root, {"a": documents.replaced(inner, {"k": "new", "l": [1, True]})})
    assert yaml.safe_load(documents.dump(changed)) == {"a": {"k": "new", "l": [1, True]}, "b": {"k": 0o644}}


def test_a_document_that_unfolds_to_a_billion_is_read_at_once() -> None:
    lines = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)]
    base = b"#cloud-config\na0: &a0 lol\n" + "".join(lines).encode()
    assert len(documents.dump(documents.compose(base))) < 2 * len(base)


def test_keys_keep_their_places_and_new_ones_come_last() -> None:
    root = documents.compose(b"#cloud-config\nc: 1\nb: 2\na: 3\n")
    changed = documents.replaced(root, {"z": "0644", "b": "yes"}, gone=frozenset({"c"}))
    assert documents.dump(changed) == b'#cloud-config\nb: "yes"\na: 3\nz: "0644"\n'


@pytest.mark.parametrize("base", [b"#cloud-config", b"#cloud-config\n", b"#cloud-config\n# nothing\n---\n"])
def test_a_document_with_nothing_in_it_is_an_empty_mapping(base: bytes) -> None:
    root = documents.compose(base)
    assert documents.pairs(root) == []
    assert documents.dump(documents.replaced(root, {"a": "b"})) == b'#cloud-config\na: "b"\n'


def test_what_reads_differently_when_it_is_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    root = documents.compose(b"#cloud-config\na: 0644\n")
    monkeypatch.setattr(yaml, "serialize", lambda *_, **__: "a: 420\n")
    with pytest.raises(InvalidRequest, match="does not read the same when it is written again"):
        documents.dump(root)
    monkeypatch.setattr(yaml, "serialize", lambda *_, **__: "a: '0644'\n")
    with pytest.raises(InvalidRequest, match="does not read the same when it is written again"):
        documents.dump(root)
