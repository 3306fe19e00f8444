"""Addresses of this test run alone, loopback and private: two runs on one machine do not meet."""

from __future__ import annotations

import os
import socket

_RUN = os.getpid() % 30

TESTS = f"127.{100 + _RUN}"
"""The first half of the addresses of clusters that a test starts itself."""
STACKS, STACKS_34 = f"127.{140 + 2 * _RUN}", f"127.{141 + 2 * _RUN}"
"""Those of the playgrounds with etcd 3.5 and 3.4."""
CONTAINERS, STACKS_CONTAINERS, KILLED = (f"10.{first + _RUN}" for first in (100, 130, 160))
"""Those of the playgrounds with containers: the playground's own tests, the stacks', and one that is killed."""
RUNTIME = f"127.{20 + _RUN}"
"""Those of the playground that gives the built function its S3."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
