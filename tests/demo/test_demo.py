"""The command: what it takes, and how it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from playground import tools
from playground.commands import interrupt_once
from playground.demo import Options, main, options

pytestmark = pytest.mark.usefixtures("own_signals")


def test_without_options_it_is_the_demo_of_the_readme() -> None:
    assert options([]) == Options()
    assert Options().sizes == (1, 3, 5, 3, 1)
    assert Options().demo == "resize"
    assert Options().result == tools.ROOT / "build/demo/result.json"


def test_every_option_is_taken() -> None:
    line = "--demo replace --steps 1,2 --directory d --result r.json --etcd e --port 4582 --network 127.82"
    assert options([*line.split(), "--leader-leaves", "--plain"]) == Options(
        demo="replace",
        sizes=(1, 2),
        directory=Path("d"),
        result=Path("r.json"),
        etcd=Path("e"),
        port=4582,
        network="127.82",
        leader_leaves=True,
        plain=True,
    )


@pytest.mark.parametrize(
    ("steps", "said"),
    [("1,x", "not a list of numbers"), ("", "not a list"), ("0", "between 1 and 7"), ("1,8", "7")],
)
def test_wrong_steps_are_refused_with_a_sentence(
    steps: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        options(["--steps", steps])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_demo_has_its_own_sizes_and_an_upgrade_its_own_etcds(capsys: pytest.CaptureFixture[str]) -> None:
    assert options(["--demo", "upgrade"]).sizes == (3,)
    assert options(["--demo", "upgrade", "--steps", "1"]).sizes == (1,)
    with pytest.raises(SystemExit):
        options(["--demo", "upgrade", "--etcd", "e"])
    assert "an upgrade has two" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for name in (
        "--demo",
        "--steps",
        "--directory",
        "--result",
        "--etcd",
        "--port",
        "--network",
        "--leader-leaves",
        "--plain",
    ):
        assert name in told


def test_the_status_is_that_of_the_run() -> None:
    assert main([], run=lambda _options, _console: 1) == 1
    assert main([], run=lambda _options, _console: 0) == 0


def test_an_interrupt_ends_with_130_and_a_second_one_does_not_disturb_the_ending(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_options: object, _console: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        return 0

    assert main([], run=interrupted) == 130
    assert "everything that was started has been ended" in capsys.readouterr().out


def test_sigterm_ends_as_an_interrupt_does() -> None:
    def terminated(_options: object, _console: object) -> int:
        assert signal.getsignal(signal.SIGTERM) is interrupt_once
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert main([], run=terminated) == 130


def test_a_missing_tool_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def missing(_options: object, _console: object) -> int:
        raise tools.ToolMissing("etcd is missing: run make tools")

    assert main([], run=missing) == 1
    assert capsys.readouterr().out == "etcd is missing: run make tools\n"
