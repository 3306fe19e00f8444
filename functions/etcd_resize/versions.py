"""Which versions of etcd may meet in one cluster. PURE: texts in, a sentence out.

The rules are etcd's: one minor version at a time, and none back
(https://etcd.io/docs/v3.5/upgrades/upgrade_3_5/); to 3.6 only from 3.5.26 or later, because 3.6 reads the members from
another store, in which earlier ones have lost promotions (https://etcd.io/blog/2025/upgrade_from_3.5_to_3.6_issue/) and
removals (https://etcd.io/blog/2025/zombie_members_upgrade/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Version: TypeAlias = tuple[int, int, int]

FIRST_OF_THE_OTHER_STORE: Version = (3, 6, 0)
FIRST_THAT_KEEPS_BOTH: Version = (3, 5, 26)

_NUMBERS = re.compile(r"(?<![0-9.])v?([0-9]+)\.([0-9]+)\.([0-9]+)")


def parse(text: str) -> Version | None:
    """The version in an answer like ``3.5.16``; None if there is none."""
    found = _NUMBERS.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def of_release(url: str) -> str:
    """The version that an archive or an image is named after, as in ``etcd-v3.5.30-linux-arm64.tar.gz``, or nothing."""
    named = re.search(r"[-:]v([0-9]+\.[0-9]+\.[0-9]+)(?=[-.@]|$)", url)
    return named[1] if named else ""


def obstacle(newcomer: str, voters: Iterable[str]) -> str:
    """Why a member of the version ``newcomer`` must not join ``voters``; empty if it may, or if nothing is known."""
    new = parse(newcomer)
    known = [version for text in voters if (version := parse(text))]
    if new is None or not known:
        return ""
    lowest = min(known)
    if new[:2] < lowest[:2]:
        return (
            f"etcd {newcomer} is older than the cluster's {_text(lowest)}, and a downgrade is not supported"
        )
    if new[0] != lowest[0] or new[1] > lowest[1] + 1:
        return (
            f"etcd {newcomer} is more than one minor version above {_text(lowest)}:"
            f" move all members to {lowest[0]}.{lowest[1] + 1} first"
        )
    if new >= FIRST_OF_THE_OTHER_STORE > lowest and lowest < FIRST_THAT_KEEPS_BOTH:
        return (
            f"etcd {newcomer} must not join {_text(lowest)}, which does not keep its members as 3.6 reads them:"
            f" move all members to {_text(FIRST_THAT_KEEPS_BOTH)} or a later 3.5 first"
        )
    return ""


def _text(version: Version) -> str:
    return ".".join(map(str, version))
