"""Writes docs/licences.md: what ships in the layer besides this project, and under which licence.

    python -m scripts.licences

Names and versions come from the locks in layers/, licences from the metadata of the same packages in this Python's
environment, as they came from their authors. A licence that is not known here is an error: somebody has to read it.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = (ROOT / "layers/requirements.txt", ROOT / "layers/certificates.txt")
PAGE = ROOT / "docs/licences.md"
KNOWN = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License 2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache-2.0 OR BSD-3-Clause": "Apache-2.0 OR BSD-3-Clause",
    "Apache2": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "MIT": "MIT",
    "MIT-0": "MIT-0",
    "PSF-2.0": "PSF-2.0",
}
"""What packages call their licence, and its name at https://spdx.org/licenses."""
HEAD = """\
# Licences

What ships in the function's layers besides this project, which is under the Apache License 2.0. `make licences` writes
this page from the packages' own metadata; versions and hashes are those of the locks in `layers/`. The texts lie in
the layers, in each package's `*.dist-info`.

| package | version | licence |
|---|---|---|
"""


class Unlisted(Exception):
    """A package whose licence cannot be told. The message says what to do."""


def locked() -> str:
    """The text of all locks of what ships."""
    return "".join(lock.read_text(encoding="utf-8") for lock in LOCKS)


def page(lock: str) -> str:
    """The page for the packages of a lock file. Raises Unlisted."""
    packages = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock, re.MULTILINE)
    return HEAD + "".join(_row(name, version) for name, version in sorted(set(packages)))


def _row(name: str, version: str) -> str:
    try:
        package = metadata.metadata(name)
    except metadata.PackageNotFoundError as missing:
        raise Unlisted(f"{name} is not installed here: run make tools") from missing
    if package["Version"] != version:
        raise Unlisted(f"{name} {version} is locked, {package['Version']} is installed: run make tools")
    given = [package[field] for field in ("License-Expression", "License") if field in package]
    said = next(filter(None, given), "nothing")
    if said not in KNOWN:
        raise Unlisted(
            f"{name} {version} gives {said!r} as its licence: read it, and add it to scripts/licences.py"
        )
    if not any(re.match("licen[cs]e", file.name, re.IGNORECASE) for file in metadata.files(name) or ()):
        raise Unlisted(f"{name} {version} does not bring its licence's text along: ship it some other way")
    return f"| {name} | {version} | {KNOWN[said]} |\n"


if __name__ == "__main__":
    try:
        PAGE.write_text(page(locked()), encoding="utf-8")
    except Unlisted as problem:
        sys.exit(str(problem))
