"""Trees: where they lie, that they are built once and whole, and what is said where they are not to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground import recipe, tree
from playground.account import PlaygroundError
from playground.local import Playground

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg"), reason="this is no Debian or Ubuntu: no dpkg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the trees of a test lie; no program is missing."""
    monkeypatch.setenv(tree.VARIABLE, str(tmp_path / "trees"))
    monkeypatch.setattr(tree, "missing", lambda: "")
    return tmp_path / "trees"


def plant(draft: Path, release: str, _architecture: str, _run: recipe.Run, say: recipe.Say) -> None:
    """A recipe that makes a tree of one file."""
    say("planting")
    draft.mkdir()
    (draft / "release").write_text(release)


@needs_dpkg
def test_a_tree_is_built_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "build", plant)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(tree.find("trixie"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tree.find("trixie")] * 2
    assert (found[0] / "release").read_text() == "trixie"
    assert capsys.readouterr().err.count("planting") == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert tree.find("bookworm") != found[0]


@needs_dpkg
def test_a_build_that_fails_leaves_no_tree_and_says_where_its_log_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(draft: Path, release: str, architecture: str, run: recipe.Run, say: recipe.Say) -> None:
        plant(draft, release, architecture, run, say)
        run(["sh", "-c", "echo no mirror; exit 7"], {})

    monkeypatch.setattr(recipe, "build", fail)
    with pytest.raises(
        tree.TreeError, match=rf"trixie could not be built, see {folder}/trixie.log: no mirror"
    ):
        tree.find("trixie")
    monkeypatch.setattr(recipe, "build", plant)  # and the half of a tree is in nobody's way
    assert [path.name for path in tree.find("trixie").iterdir()] == ["release"]
    assert list(folder.glob(".*")) == []


def test_another_recipe_release_or_architecture_is_another_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {recipe.identity(release, "amd64") for release in tree.RELEASES}
    names.add(recipe.identity("trixie", "arm64"))
    names.add(recipe.identity("trixie", "amd64"))
    assert len(names) == 3
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"another text")
    assert recipe.identity("trixie", "amd64") not in names


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(tree.TreeError, match="no tree of sid, only of bookworm, trixie"):
        tree.find("sid")


def test_the_trees_lie_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tree.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert tree.where() == Path("/somewhere/etcd-resize/trees")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tree.where() == Path.home().resolve() / ".cache/etcd-resize/trees"


def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(PlaygroundError, match=r"^Container machines need root\.$"):
        Playground(tmp_path, kind="container").start()


def test_what_is_missing_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(recipe, "KEYRING", tmp_path / "absent")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert tree.missing().endswith(
        ": apt-get install systemd-container debootstrap iproute2 util-linux debian-archive-keyring"
    )
    with pytest.raises(tree.TreeError, match="there is no apt-get to get them"):
        tree.install()


def test_what_is_missing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh machine has no lists yet: then they are fetched, and it is tried again."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1 if len(asked) == 1 else 0, "E: no package\n")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(recipe, "KEYRING", tmp_path / "absent")
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    tree.install()
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "debian-archive-keyring"]
    assert asked == [install, ["apt-get", "update"], install]
