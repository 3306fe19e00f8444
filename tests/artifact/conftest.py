"""What is shipped, built once for all tests of it."""

from __future__ import annotations

import pytest

from tests.support.built import BARE_PATH, Build, build


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`sam build` as a user's machine does it, without the runtime's own Python."""
    return build(tmp_path_factory.mktemp("shipped"), {"PATH": BARE_PATH})
