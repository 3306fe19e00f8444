"""What is loaded before an event has come, which is the least that a cold start takes."""

from __future__ import annotations

import subprocess
import sys


def test_what_only_some_events_need_is_loaded_by_those() -> None:
    command = [sys.executable, "-c", "import sys, etcd_resize.handler; print(*sys.modules)"]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert {"boto3", "crhelper", "etcd_resize.userdata"} <= loaded
    assert loaded.isdisjoint({"cryptography", "email.generator", "etcd3", "grpc", "yaml"})
