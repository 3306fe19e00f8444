"""Choosing where the judges of UserData come from: no network, no apt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import judges
from scripts.etcd import Unavailable

JUDGE = judges.Judge(("ignition",), (None, "bookworm"), "usr/bin/ignition", oldest=(2, 11))


def with_versions(versions: dict[str | None, str]) -> Callable[[Sequence[str], Path, str | None], str]:
    """Packages of a release whose program only names its version."""

    def unpack(packages: Sequence[str], folder: Path, release: str | None) -> str:
        if release not in versions:
            raise Unavailable(f"nothing in {release}")
        program = folder / "root" / JUDGE.program
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho 'Ignition {versions[release]}'\n")
        program.chmod(0o755)
        return f"{release}'s {', '.join(packages)}"

    return unpack


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(judges, "TOOLS", tmp_path)
    monkeypatch.setattr(judges, "JUDGES", {"ignition": JUDGE, "local": replace(JUDGE, releases=(None,))})
    return tmp_path


@pytest.mark.parametrize(
    ("versions", "origin", "reason"),
    [
        ({None: "2.14.0", "bookworm": "2.14.1"}, "from None's ignition", ""),
        (
            {None: "2.9.0", "bookworm": "2.14.1"},
            "from bookworm's ignition",
            " (ignition is Ignition 2.9.0, older than 2.11)",
        ),
        ({"bookworm": "2.11.0"}, "from bookworm's ignition", " (nothing in None)"),
    ],
)
def test_the_first_release_that_is_new_enough_is_taken_whole(
    tools: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str | None, str], origin: str, reason: str
) -> None:
    monkeypatch.setattr(judges, "unpack", with_versions(versions))
    assert judges.bring("ignition") == f"{origin}{reason}"
    assert (tools / "ignition/root" / JUDGE.program).is_file()
    assert [path.name for path in tools.iterdir()] == ["ignition"]


def test_every_reason_is_given_when_none_is(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judges, "unpack", with_versions({"bookworm": "2.10.0"}))
    assert judges.main(["ignition"]) == 1
    said = capsys.readouterr().out
    assert said == (
        "ignition: not to be had here: nothing in None; ignition is Ignition 2.10.0, older than 2.11\n"
    )
    assert not (tools / "ignition/root").exists()


def test_an_unknown_judge_gets_the_usage(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judges.main(["solomon"]) == 2
    assert "python3 -m scripts.judges ignition" in capsys.readouterr().out
