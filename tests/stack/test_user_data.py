"""A user's own UserData through the whole of it: sam's parameter, the function, the bucket, a machine that boots."""

from __future__ import annotations

import base64
import email
import gzip
import hashlib
from collections.abc import Callable

import pytest

from playground.local import Playground
from tests.support.permissions import Role, calls
from tests.support.stacks import World

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

PARAMETER_LIMIT = 4096
"""Bytes of a parameter's value
(https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html)."""
PADDING = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(79))
BASE = f"""\
#cloud-config
write_files:
- {{path: /etc/hello, content: héllo}}
- {{path: /etc/padding, content: x{PADDING}}}
"""


def test_a_base_too_large_for_the_answer_comes_from_the_bucket_and_stays_as_it_is(
    playground_containers: Playground, new_world: Callable[[Playground, str], World]
) -> None:
    world = new_world(playground_containers, "large")
    packed = (gzip.compress(f"{BASE}{'#' * number}".encode(), mtime=0) for number in range(99))
    encoded = (base64.b64encode(one).decode() for one in packed)
    base = next(one for one in encoded if one.endswith("="))  # which sam must not take for another parameter
    assert len(base) < PARAMETER_LIMIT
    world.resize(1, BaseUserData=base)
    (machine,) = world.machines
    short = machine.user_data
    short = gzip.decompress(short) if short.startswith(b"\x1f\x8b") else short
    handler, order = parts(short)
    assert handler == "text/part-handler"
    assert order == "text/x-etcd-resize"
    assert PADDING.encode() not in short
    assert (machine.folder / "upper/etc/hello").read_text() == "héllo"
    assert PADDING in (machine.folder / "upper/etc/padding").read_text()
    role = Role.of_stack(playground_containers, "large")
    kept = [call for call in calls(playground_containers) if "/large/userdata/" in call.resource]
    assert {call.action for call in kept} == {"s3:PutObject", "s3:GetObject"}
    assert all(role.granting(call) for call in kept)
    before = world.frozen()
    world.resize(2)
    world.wait_whole(2)
    assert world.frozen()["large-1"] == before["large-1"]


def parts(document: bytes) -> list[str]:
    """The types of the parts."""
    return [
        part.get_content_type()
        for part in email.message_from_bytes(document).walk()
        if not part.is_multipart()
    ]
