"""Debian's images, as the local AWS names them, and what a machine made of one is. Values only.

An image is an SSM public parameter of Debian's (https://wiki.debian.org/Cloud/AmazonEC2Image), which the local AWS
answers with a made-up id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

ARCHITECTURES = ("arm64", "amd64")


@dataclass(frozen=True)
class Debian:
    """A release: its number, the tree that containers boot, and the etcd that its package has."""

    number: int
    tree: str
    etcd: str

    def parameter(self, architecture: str = ARCHITECTURES[0]) -> str:
        """What to give as ImageId."""
        return f"/aws/service/debian/release/{self.number}/latest/{architecture}"

    @property
    def images(self) -> tuple[str, ...]:
        """The ids of its images, unless a test names others."""
        return tuple(made_up(self.parameter(architecture)) for architecture in ARCHITECTURES)


BOOKWORM, TRIXIE = Debian(12, "bookworm", "3.4"), Debian(13, "trixie", "3.5")
RELEASES = (BOOKWORM, TRIXIE)
PARAMETERS = tuple(debian.parameter(architecture) for debian in RELEASES for architecture in ARCHITECTURES)


def made_up(parameter: str) -> str:
    """The image's id that stands for a parameter."""
    return "ami-" + hashlib.sha256(parameter.encode()).hexdigest()[:17]
