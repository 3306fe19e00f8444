"""What a demo does, as data: the deployments one after the other, each with what the user changes in it.

Pure values. It must not know how a deployment is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from playground import images

LARGEST = 7
BLUE, GREEN = "blue", "green"


@dataclass(frozen=True, slots=True)
class Step:
    """One deployment, from ``before`` to ``after`` members; 0 is no stack.

    ``green``: the numbers of the members that have the other colour, if colours are given at all. ``image``: the SSM
    parameter of the image, if one is given. ``dies``: the number of the member whose machine is killed before, 0 for
    nobody. ``upgrades``: afterwards etcd must be another one. ``words``: what it does, if it is no resize.
    """

    before: int
    after: int
    green: tuple[int, ...] | None = None
    image: str = ""
    dies: int = 0
    upgrades: bool = False
    words: str = ""

    @property
    def title(self) -> str:
        """What it does, in a few words."""
        if self.words:
            return self.words
        if self.after == 0:
            return "delete the stack"
        if self.before == 0:
            return f"create the stack with {self.after}"
        verb = "grow" if self.after > self.before else "shrink" if self.after < self.before else "keep"
        return f"{verb} {self.before} → {self.after}"

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that the user types."""
        typed = {"ClusterSize": str(self.after)}
        if self.green is not None:
            colours = (GREEN if number in self.green else BLUE for number in range(1, LARGEST + 1))
            typed["Members"] = ",".join(colours)
        if self.image:
            typed["ImageId"] = self.image
        return typed


def resizes(sizes: Sequence[int]) -> list[Step]:
    """The steps that go through all ``sizes``: creation first, deletion last."""
    stops = [0, *sizes, 0]
    return [Step(before, after) for before, after in pairwise(stops)]


def replacement(sizes: Sequence[int]) -> list[Step]:
    """At the last of ``sizes`` the first member's machine dies, and the member's colour is flipped."""
    *there, deletion = resizes(sizes)
    size = sizes[-1]
    return [*there, Step(size, size, green=(1,), dies=1, words="etcd-1 dies, flip its colour"), deletion]


def upgrade(sizes: Sequence[int]) -> list[Step]:
    """From Debian 12 to Debian 13 at the last of ``sizes``: another image, and all colours flipped."""
    old, new = images.BOOKWORM, images.TRIXIE
    creation, *there, deletion = resizes(sizes)
    size = sizes[-1]
    flip = Step(
        size,
        size,
        green=tuple(range(1, LARGEST + 1)),
        image=new.parameter(),
        upgrades=True,
        words=f"Debian {old.number} → {new.number}: flip all {size}",
    )
    return [replace(creation, image=old.parameter()), *there, flip, deletion]


@dataclass(frozen=True, slots=True)
class Kind:
    """A demo: the sizes that it goes through unless others are wanted, and the steps at those."""

    sizes: tuple[int, ...]
    steps: Callable[[Sequence[int]], list[Step]]


KINDS = {
    "resize": Kind((1, 3, 5, 3, 1), resizes),
    "replace": Kind((3,), replacement),
    "upgrade": Kind((3,), upgrade),
}
"""The demos by name, as DEMO has it."""
