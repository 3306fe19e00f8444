"""The commands in the documentation, for tests that type them."""

from __future__ import annotations

from playground.tools import ROOT

FENCE = "```"


def blocks(page: str) -> dict[str, list[list[str]]]:
    """The blocks of commands of a page of ``docs``, as their lines, by the heading that each is under.

    A block with a word behind its fence, such as ``text``, is not one to type.
    """
    found: dict[str, list[list[str]]] = {}
    heading, fence = "", ""
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        if fence and line == FENCE:
            fence = ""
        elif not fence and line.startswith(FENCE):
            fence = line
            if fence == FENCE:
                found.setdefault(heading, []).append([])
        elif not fence and line.startswith("#"):
            heading = line.lstrip("# ")
        elif fence == FENCE:
            found[heading][-1].append(line)
    return found
