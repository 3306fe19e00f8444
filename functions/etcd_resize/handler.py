"""The Lambda handler: crhelper in front, the service behind it, and nothing decided here.

crhelper answers CloudFormation, also when Lambda's time runs out; we tell it who the resource is before
anything is changed, so that even a failed Create is followed by a Delete with that ID.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crhelper import CfnResource

from etcd_resize import origin, sender, service
from etcd_resize.aws import Bucket, Ec2Machines
from etcd_resize.errors import EtcdResizeError, InvalidRequest
from etcd_resize.request import answerable, parse

if TYPE_CHECKING:
    from etcd_resize.gateway import Gateway
    from etcd_resize.model.identity import Credentials, User

RESERVE_SECONDS = 15.0
"""Kept of Lambda's time for the answer itself."""
LOCAL = "ANSWERS_ON_LOOPBACK"
"""Set where CloudFormation is a program on the same machine, and never in a template: answers go nowhere else then."""

logger = logging.getLogger(__name__)


@contextmanager
def _without_clients() -> Iterator[None]:
    """crhelper makes three clients of AWS for polling, which we do not use, unless this variable is set."""
    before = os.environ.get("AWS_SAM_LOCAL")
    os.environ["AWS_SAM_LOCAL"] = before or "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["AWS_SAM_LOCAL"]


class _Helper(CfnResource):
    """crhelper with a sender that gives up in time. What its stubs leave out is ignored by name."""

    def _send(self, status: Any = None, reason: str = "", _: object = None) -> None:
        left = self._context.get_remaining_time_in_millis  # type: ignore[attr-defined]
        send = lambda url, answer, _: sender.send(url, answer, lambda: left() / 1000)  # noqa: E731
        super()._send(status, reason, send)  # type: ignore[misc]


with _without_clients():
    helper = _Helper(log_level="INFO", boto_level="ERROR", sleep_on_delete=0)

gc.freeze()  # what is loaded stays: to look through all of it for garbage would hold an event up


def handler(event: object, context: Any) -> None:
    """Lambda's entry point. Raises InvalidRequest, and answers nobody, if the event is not from a stack of ours."""
    try:
        origin.check(event, context.invoked_function_arn, local=LOCAL in os.environ)
    except InvalidRequest as reason:
        logger.warning("%s", reason)
        raise
    helper(answerable(event), context)


@helper.create
@helper.update
@helper.delete
def handle(event: dict[str, Any], context: Any) -> str:
    """One event; the physical resource ID. What is raised becomes the reason of a FAILED answer."""
    helper.PhysicalResourceId = event.get("PhysicalResourceId", "")
    try:
        request = parse(event)
        helper.PhysicalResourceId = request.physical_id
        helper.NoEcho = request.secret
        logger.info("%s %s %s", request.action, request.resource, request.physical_id)
        budget = context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
        helper.Data.update(service.handle(outside(), request, budget))
    except EtcdResizeError as reason:
        logger.info("refused: %s", reason)
        raise
    except Exception as bug:
        logger.exception("a defect of this function")
        raise EtcdResizeError(f"a defect of the function: {type(bug).__name__}, see its log") from bug
    return request.physical_id


def connect(endpoints: Sequence[str], credentials: Credentials | None, user: User | None) -> Gateway:
    """A gateway to etcd. It is imported here: grpc and etcd3 are half of a cold start."""
    from etcd_resize.gateway import EtcdGateway  # noqa: PLC0415

    return EtcdGateway(endpoints, credentials, user)


def outside() -> service.Outside:
    """The real outside: etcd, the bucket that the environment names, EC2, and time."""
    bucket = Bucket(os.environ["BUCKET"], os.environ.get("KMS_KEY", ""))
    return service.Outside(
        connect=connect,
        journal=bucket,
        snapshots=bucket,
        machines=Ec2Machines(),
        clock=time,
        vault=bucket,
    )
