"""The command behind ``make demo``, on a stack that is really deployed; its sizes are a short form of the README's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground import demo
from playground.local import Playground

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300), pytest.mark.usefixtures("own_signals")]


class Lent:
    """A playground that is there already, and stays: nothing is started, built or ended."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground

    def __getattr__(self, name: str) -> Any:
        return getattr(self._playground, name)

    def __enter__(self) -> Playground:
        return self._playground

    def __exit__(self, *_: object) -> None:
        pass

    def build(self) -> None:
        pass

    def provide(self) -> None:
        pass


def test_the_demo_ends_well_on_a_stack_that_is_deployed(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "Playground", lambda *_, **__: Lent(playground))
    assert demo.main(["--plain", "--steps", "1", "--result", str(tmp_path / "result.json")]) == 0
    told = json.loads((tmp_path / "result.json").read_text())
    assert [(row["from"], row["to"]) for row in told["steps"]] == [(0, 1), (1, 0)]
    assert (told["writes"]["failed"], told["writes"]["lost"]) == (0, 0)
    assert told["writes"]["acked"] > 0
    assert (tmp_path / "metrics.jsonl").exists()
