"""Which versions of etcd may meet, and the sentence when they may not."""

from __future__ import annotations

import pytest

from etcd_resize import versions
from etcd_resize.errors import REASON_LIMIT


@pytest.mark.parametrize(
    ("newcomer", "voters"),
    [
        ("3.5.30", ["3.5.16", "3.5.16"]),
        ("3.5.16", ["3.5.30"]),  # a patch back is no downgrade of the cluster
        ("3.5.16", ["3.4.23", "3.4.23"]),
        ("3.4.23", ["3.4.23", "3.5.16"]),  # midway: the cluster is one of 3.4 still
        ("3.6.5", ["3.5.26", "3.5.30"]),
        ("3.6.5", ["3.6.0", "3.6.5"]),
        ("", ["3.5.16"]),
        ("3.5.16", ["", ""]),
        ("unknown", ["3.5.16"]),
    ],
)
def test_a_skew_of_one_minor_upwards_is_allowed(newcomer: str, voters: list[str]) -> None:
    assert versions.obstacle(newcomer, voters) == ""


@pytest.mark.parametrize(
    ("newcomer", "voters", "said"),
    [
        ("3.4.23", ["3.5.16"], "is older than the cluster's 3.5.16, and a downgrade is not supported"),
        ("3.6.5", ["3.4.23", "3.5.30"], "above 3.4.23: move all members to 3.5 first"),
        ("4.0.0", ["3.6.5"], "more than one minor version above 3.6.5"),
        (
            "3.6.5",
            ["3.5.25", "3.5.30"],
            "must not join 3.5.25, which does not keep its members as 3.6 reads them",
        ),
    ],
)
def test_what_etcd_does_not_support_is_refused_with_the_reason(
    newcomer: str, voters: list[str], said: str
) -> None:
    told = versions.obstacle(newcomer, voters)
    assert said in told
    assert len(told) < REASON_LIMIT


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("https://mirror/etcd-v3.5.30-linux-arm64.tar.gz", "3.5.30"),
        ("quay.io/coreos/etcd:v3.6.5@sha256:0123", "3.6.5"),
        ("https://mirror/10.0.0.5/etcd.tar.gz", ""),
        ("quay.io/coreos/etcd@sha256:0123", ""),
        ("", ""),
    ],
)
def test_a_release_is_named_after_its_version(name: str, version: str) -> None:
    assert versions.of_release(name) == version
