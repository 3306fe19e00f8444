"""The Lambda handler of ``ClusterMaintenance``: the schedule and operators in front, the service behind it.

Nobody waits for a resource here, so what is raised is the invocation's error, which Lambda counts and alarms see.
"""

from __future__ import annotations

import os
from typing import Any

from etcd_resize import service
from etcd_resize.handler import RESERVE_SECONDS, outside


def handler(event: object, context: Any) -> dict[str, str]:
    """Lambda's entry point: ``{"action": "snapshot"}`` or ``{"action": "defragment"}``."""
    maintained = service.Maintained(
        os.environ["CLUSTER"],
        tuple(url for url in os.environ["ENDPOINTS"].split(",") if url),
    )
    budget = context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    return service.maintain(outside(), maintained, event, budget)
