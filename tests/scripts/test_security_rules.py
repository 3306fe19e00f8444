"""ruff's security rules (bandit's, `S`) judge what ships and the playground; an exception has its reason beside it."""

from __future__ import annotations

import re
import tomllib

import pytest

from playground.tools import ROOT

SOURCES = sorted(
    path for folder in ("functions", "playground", "scripts") for path in (ROOT / folder).rglob("*.py")
)
NOQA = re.compile(r"# (?:ruff: )?noqa: ((?:[A-Z]+[0-9]+(?:, )?)+)(.*)")


def exceptions() -> list[tuple[str, str]]:
    """Where a rule of theirs is off, and what is said of it there."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", found[2])
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := NOQA.search(line)) and re.search(r"\bS[0-9]{3}\b", found[1])
    ]


def test_every_exception_in_the_code_says_why() -> None:
    assert exceptions()
    silent = [where for where, reason in exceptions() if len(re.findall(r"\w+", reason)) < 2]
    assert silent == []


@pytest.mark.parametrize("folder", ["functions", "playground", "scripts"])
def test_no_folder_that_is_judged_is_excused_as_a_whole(folder: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert settings["select"] == ["ALL"]
    excused = [rules for where, rules in settings["per-file-ignores"].items() if where.startswith(folder)]
    assert not [rule for rules in excused for rule in rules if re.fullmatch(r"S|S[0-9]+", rule)]
    assert {rule for rule in settings["ignore"] if re.fullmatch(r"S[0-9]*", rule)} == {"S603", "S607"}
