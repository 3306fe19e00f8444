"""The Lambda handler of ``ClusterHealth``: every minute, and whenever somebody asks. Nothing is decided here.

The answer is the report as data, with the text that operators know in ``text``. The same goes to the log as metrics
(CloudWatch's embedded metric format: no call to CloudWatch, so no way to it is needed) and as one line a member.
"""

from __future__ import annotations

import os
import time
from itertools import groupby
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics

from etcd_resize.aws import Bucket
from etcd_resize.gateway import EtcdGateway
from etcd_resize.health.examine import Sources, examine
from etcd_resize.health.render import Metric, as_data, as_metrics, as_text
from etcd_resize.health.report import HEALTHY, Report, snapshot_limit

NAMESPACE = "EtcdResize"
"""Of the metrics, whose dimensions are Stack, or Stack and Member."""


def handler(event: object, context: Any) -> dict[str, Any]:
    """Lambda's entry point; the event does not matter. Raises Refused when the bucket cannot be read."""
    del event
    stack = os.environ["STACK"]
    bucket = Bucket(os.environ["BUCKET"])
    report = examine(
        Sources(EtcdGateway, bucket, bucket, bucket, time),
        os.environ["CLUSTER"],
        int(os.environ["CLUSTER_SIZE"]),
        int(os.environ["QUOTA_BYTES"]),
        snapshot_limit(os.environ["SNAPSHOT_RATE"], int(os.environ["SNAPSHOT_MAX_AGE_HOURS"])),
    )
    _log(report, stack, context.aws_request_id)
    for member, metrics in groupby(as_metrics(report), key=lambda metric: metric.member):
        _emit(stack, member, list(metrics))
    return {"text": as_text(report), **as_data(report)}


def _log(report: Report, stack: str, request: str) -> None:
    """One line a member, and one for the cluster, each with the stack and the request."""
    logger = Logger(service="etcd-resize", level="INFO")
    # not in its constructor: a warm function's logger is an old one
    logger.append_keys(stack=stack, cluster=report.cluster, request=request)
    data = as_data(report)
    for one in data.pop("members"):
        tell = logger.info if one["healthy"] else logger.warning
        tell("member", extra={"member": one["name"] or one["id"], "seen": one})
    tell = logger.info if report.state == HEALTHY else logger.warning
    tell(f"cluster is {report.state}", extra={"seen": data})


def _emit(stack: str, member: str, metrics: list[Metric]) -> None:
    emitter = EphemeralMetrics(namespace=NAMESPACE)
    emitter.add_dimension(name="Stack", value=stack)
    if member:
        emitter.add_dimension(name="Member", value=member)
    for metric in metrics:
        emitter.add_metric(name=metric.name, unit=metric.unit, value=metric.value)
    emitter.flush_metrics()
