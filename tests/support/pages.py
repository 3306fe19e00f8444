"""The commands in the documentation, for tests that type them."""

from __future__ import annotations

import re

from playground.tools import ROOT

PAGES = tuple(
    str(page.relative_to(ROOT))
    for page in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*.md")),
    )
)
"""The pages that people type from, by their path in the checkout."""
FENCE = "```"
INLINE = re.compile(r"`([^`]+)`")


def blocks(page: str) -> dict[str, list[list[str]]]:
    """The blocks of commands of a page, as their lines, by the heading that each is under.

    A block with a word behind its fence, such as ``text``, is not one to type.
    """
    found: dict[str, list[list[str]]] = {}
    heading, fence = "", ""
    for line in _lines(page):
        text = line.strip()
        if fence and text == FENCE:
            fence = ""
        elif not fence and text.startswith(FENCE):
            fence = text
            if fence == FENCE:
                found.setdefault(heading, []).append([])
        elif not fence and line.startswith("#"):
            heading = line.lstrip("# ")
        elif fence == FENCE:
            found[heading][-1].append(text)
    return found


def inline(page: str, start: str) -> list[str]:
    """The commands in a page's running text that begin so, each once, in their order."""
    text, fenced = [], False
    for line in _lines(page):
        fence = line.strip().startswith(FENCE)
        fenced ^= fence
        if not fenced and not fence:
            text.append(line)
    found = (" ".join(command.split()) for command in INLINE.findall("\n".join(text)))
    return list(dict.fromkeys(command for command in found if f"{command} ".startswith(f"{start} ")))


def _lines(page: str) -> list[str]:
    return (ROOT / page).read_text(encoding="utf-8").splitlines()
