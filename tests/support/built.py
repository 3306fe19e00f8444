"""What the real `sam build` makes, for tests of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from playground import tools

LEFT_OUT = {"LAYER_PYTHON", "UV", "PYTHONPATH"}
BARE_PATH = "/usr/bin:/bin"


@dataclass(frozen=True)
class Build:
    """The folder that one `sam build` filled."""

    folder: Path

    def layer(self, name: str) -> Path:
        return self.folder / name / "python"

    @property
    def function(self) -> Path:
        return self.folder / "Provider"


def build(folder: Path, environment: Mapping[str, str]) -> Build:
    """Run the real `sam build` into a folder in `folder`: sam leaves notes of its own beside what it builds."""
    output = folder / "build"
    done = subprocess.run(
        [tools.sam(), "build", "--build-dir", output, "--template", tools.ROOT / "template.yaml"],
        cwd=tools.ROOT,
        env={**ambient(), "SAM_CLI_TELEMETRY": "0", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return Build(output)


def ambient() -> dict[str, str]:
    """Return the environment without what a playground or a user's shell may have set for builds."""
    return {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
