"""Choosing where etcd comes from: no network, no apt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from playground import tools
from scripts import etcd

LIST = """\
# a comment
deb mirror://a/debian bookworm main contrib
deb [signed-by=/k.gpg] mirror://a/debian bookworm main
deb-src mirror://a/debian bookworm main
deb mirror://a/debian bookworm-updates main
deb mirror://other/repo stable main
"""

SOURCES = """\
Types: deb
# where it was frozen
URIs: mirror://a/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: mirror://a/debian-security
Suites: bookworm-security

Types: deb
URIs: mirror://other/repo
Suites: nodistro
"""


def program(folder: Path, version: str) -> None:
    """Write an etcd and an etcdctl that only name their version."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in etcd.PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
        (folder / name).chmod(0o755)


def source(version: str) -> Callable[[Path], str]:
    def fill(into: Path) -> str:
        program(into, version)
        return f"a source of {version}"

    return fill


def broken(into: Path) -> str:
    raise etcd.Unavailable(f"nothing for {into.name}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(etcd, "TOOLS", tmp_path)
    return tmp_path / "etcd"


def test_a_list_keeps_the_own_release_and_drops_third_parties() -> None:
    assert etcd.rename_suites(LIST, ".list", "bookworm", "trixie") == (
        "deb mirror://a/debian trixie main contrib\ndeb [signed-by=/k.gpg] mirror://a/debian trixie main\n"
    )


def test_a_sources_file_keeps_the_own_release_and_its_key() -> None:
    assert etcd.rename_suites(SOURCES, ".sources", "bookworm", "trixie") == (
        "Types: deb\nURIs: mirror://a/debian\nSuites: trixie\nComponents: main\nSigned-By: /k.gpg\n"
    )


def test_a_file_without_the_own_release_gives_nothing() -> None:
    assert etcd.rename_suites(LIST, ".list", "noble", "trixie") == ""
    assert etcd.rename_suites(SOURCES, ".sources", "noble", "trixie") == ""


@pytest.mark.parametrize(
    ("which", "versions", "taken"),
    [
        ("default", ["3.5.16", "3.4.23"], "3.5.16"),
        ("default", ["3.3.25", "3.4.23"], "3.4.23"),
        ("3.4", ["3.5.16", "3.4.23"], "3.4.23"),
        ("3.5", ["3.4.23", "3.50.1", "3.5.1"], "3.5.1"),
    ],
)
def test_the_first_source_that_fits_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, which: str, versions: list[str], taken: str
) -> None:
    monkeypatch.setattr(etcd, "sources", lambda _which: [broken, *map(source, versions)])
    sentence = etcd.bring(which)
    assert sentence.startswith(f"{which} is {taken}, from a source of {taken} (nothing for {which}")
    assert etcd.version(folder / which / "etcd") == taken


def test_every_reason_is_given_when_no_source_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "sources", lambda _which: [broken, source("3.5.1")])
    with pytest.raises(
        etcd.Unavailable, match=r"no etcd 3\.4 .*: nothing for 3\.4; a source of 3\.5\.1 has 3\.5\.1"
    ):
        etcd.bring("3.4")
    assert folder.exists()


def test_etcd_on_the_path_is_linked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "3.5.30")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert "3.5.30, from the PATH" in etcd.bring("default")
    assert (folder / "default/etcd").resolve() == tmp_path / "bin/etcd"


def test_a_missing_tool_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    monkeypatch.setattr(tools, "TOOLS", tmp_path / ".tools")
    monkeypatch.delenv("ETCD_VERSION", raising=False)
    for missing in (tools.sam, tools.aws, tools.uv, tools.cloud_python, tools.etcd):
        with pytest.raises(tools.ToolMissing, match=r"is missing: run make tools$"):
            missing()
    with pytest.raises(
        tools.ToolMissing, match=r"^\.tools/etcd/3\.4/etcd is missing: run make etcd-versions$"
    ):
        tools.etcd("3.4")


def test_the_environment_picks_the_default_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TOOLS", tmp_path)
    for version in ("default", "3.4", "3.5"):
        program(tmp_path / "etcd" / version, f"{version}.0")
    monkeypatch.setenv("ETCD_VERSION", "3.4")
    assert tools.etcd() == tmp_path / "etcd/3.4/etcd"
    assert tools.etcd("3.5") == tmp_path / "etcd/3.5/etcd"
    monkeypatch.setenv("ETCD_VERSION", "")
    assert tools.etcd() == tmp_path / "etcd/default/etcd"
