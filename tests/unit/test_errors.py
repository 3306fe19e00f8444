"""The sentence of an error: one line, short enough for crhelper, its end kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etcd_resize.errors import REASON_LIMIT, Refused, sentence


def test_a_short_sentence_stays_as_it_is() -> None:
    assert str(Refused("no quorum:\n  bring back m2")) == "no quorum: bring back m2"


def test_a_long_sentence_keeps_what_was_wanted_and_what_to_do() -> None:
    said = sentence("join etcd-9: " + "x" * 500 + ": bring back m2")
    assert len(said) == REASON_LIMIT
    assert said.startswith("join etcd-9: ")
    assert said.endswith(": bring back m2")


@given(st.text())
def test_no_text_is_too_long_or_has_a_second_line(text: str) -> None:
    assert len(sentence(text)) <= REASON_LIMIT
    assert len(sentence(text).splitlines()) <= 1
