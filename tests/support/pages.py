"""The commands in the documentation, for tests that type them."""

from __future__ import annotations

import re

from playground.tools import ROOT


def blocks(page: str, section: str) -> list[list[str]]:
    """The blocks of a page under that heading, of whatever level, each as its lines without the empty ones."""
    found = re.split(rf"^#+ {re.escape(section)}$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    assert len(found) == 2, f"{page} has {len(found) - 1} sections {section!r}"
    text = re.split(r"^#+ ", found[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [
        [line for line in block.splitlines() if line]
        for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]
