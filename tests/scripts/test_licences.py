"""The page of licences is that of the packages that ship."""

from __future__ import annotations

import re

import pytest

from scripts import licences


def test_the_page_is_up_to_date_with_what_ships() -> None:
    lock = licences.locked()
    written = licences.PAGE.read_text()
    assert written == licences.page(lock), "run make licences"
    assert len(re.findall(r"^\| [a-z0-9-]+ \| [0-9]", written, re.MULTILINE)) == len(re.findall("==", lock))


def test_a_version_that_is_not_the_locked_one_has_no_licence_here() -> None:
    with pytest.raises(
        licences.Unlisted, match=r"^six 0\.1 is locked, [0-9.]+ is installed: run make tools$"
    ):
        licences.page("six==0.1 \\\n")


def test_a_licence_that_nobody_has_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(licences.KNOWN, "MIT")
    with pytest.raises(
        licences.Unlisted, match=r"^aws-lambda-powertools \S+ gives 'MIT' as its licence: read it, and add"
    ):
        licences.page(licences.locked())
