"""Custom resources: a Lambda function gets an event and answers by a PUT to a URL.

The event and the answer are CloudFormation's, and both go into the journal. A wait for an answer holds up nothing.
"""

from __future__ import annotations

import contextvars
import json
import logging
import random
import string
import threading
import time
from collections.abc import Sequence

from playground.cloud import parts
from playground.cloud.graph import Cancel
from playground.cloud.kinds import Failed, Job, Kind, Made
from playground.cloud.orders import Orders
from playground.cloud.stack import Record

ANSWER_LIMIT = 4096
"""Bytes that CloudFormation takes as an answer, envelope included."""
DEFAULT_TIMEOUT_SECONDS = 3600
LOOK_SECONDS = 0.1
"""How often a wait looks whether it was cancelled; an answer ends it at once."""

logger = logging.getLogger("playground")


class Custom(Kind):
    """A resource that a function of the user's provides."""

    reverts_failed_updates = True

    def create(self, job: Job) -> Made:
        """Send a Create."""
        return _made(_request(job, "Create"), None)

    def update(self, job: Job, old: Record, before: Record) -> Made:
        """Send an Update; an answer with another physical id is a replacement."""
        physical = old["PhysicalResourceId"]
        return _made(_request(job, "Update", physical, before), physical)

    def delete(self, job: Job, physical: str) -> None:
        """Send a Delete."""
        _request(job, "Delete", physical)


def _made(answer: Record, physical: str | None) -> Made:
    return Made(answer.get("PhysicalResourceId") or physical or "", answer.get("Data") or {})


def _request(job: Job, request: str, physical: str | None = None, before: Record | None = None) -> Record:
    """Invoke the function and wait for its answer. Raises Failed with the reason that CloudFormation gives."""
    journal = job.stack.journal
    about = {"request": request, "resource": job.type, "stack": job.stack.name, "logical": job.logical}
    event, token = _event(job, request, physical, before)
    orders = Orders(journal.path.parent / "control", job.stack)
    _hold(f"{request} {job.type}", orders)
    journal.write("event", **about, physical=physical, properties=event["ResourceProperties"])
    begin = time.monotonic()
    answer = _ask(job, event, token, orders)
    answer["PhysicalResourceId"] = answer.get("PhysicalResourceId") or physical or _made_up_id(job)
    status, reason = answer["Status"], str(answer.get("Reason") or "")
    journal.write(
        "answer",
        **about,
        physical=answer["PhysicalResourceId"],
        status=status,
        reason=reason,
        data=answer.get("Data") or {},
        seconds=round(time.monotonic() - begin, 3),
    )
    if status == "SUCCESS":
        return answer
    if status == "FAILED":
        reason = (
            "Received response status [FAILED] from custom resource. "
            f"Message returned: {reason} (RequestId: {event['RequestId']})"
        )
    raise Failed(reason, physical=answer["PhysicalResourceId"])


def _hold(what: str, orders: Orders) -> None:
    """Keep an event back while a line of the order `hold` names it, as in `Delete Custom::EtcdVoter`.

    A test uses it to change the world in the moment between two events.
    """
    while what in orders.lines("hold"):
        time.sleep(LOOK_SECONDS)


def _event(job: Job, request: str, physical: str | None, before: Record | None) -> tuple[Record, str]:
    """The event, and the token that its answer comes with."""
    token = str(parts.new_uuid())
    event = {
        "RequestType": request,
        "RequestId": str(parts.new_uuid()),
        "StackId": job.stack.id,
        "ResponseURL": parts.response_url(token),
        "ServiceToken": job.properties.get("ServiceToken", ""),
        "ResourceType": job.type,
        "LogicalResourceId": job.logical,
        "ResourceProperties": parts.as_strings(job.properties),
    }
    if physical is not None:
        event["PhysicalResourceId"] = physical
    if before is not None:
        event["OldResourceProperties"] = parts.as_strings(before)
    return event, token


def _ask(job: Job, event: Record, token: str, orders: Orders) -> Record:
    """Send the event; return the answer, or what stands for one that did not come."""
    try:
        seconds = int(job.properties.get("ServiceTimeout", DEFAULT_TIMEOUT_SECONDS))
    except ValueError:
        return {"Status": "FAILED", "Reason": "ServiceTimeout is no number of seconds."}
    record, config, _ = parts.find_function(event["ServiceToken"])
    if record is None or config is None:
        return {"Status": "FAILED", "Reason": f"Function not found: {event['ServiceToken']}"}
    answered = parts.register_token(token)
    context = contextvars.copy_context()
    function = parts.execution_record(record, config)
    pauses = [0.0, *map(float, orders.lines("retries"))]
    for _ in (event, *orders.lines("copies")):
        threading.Thread(
            target=context.copy().run, args=(_invoke, function, event, pauses), daemon=True, name=job.logical
        ).start()
    came = _wait(answered, seconds, job.cancel, orders)
    with parts.answers_lock:
        answer = (parts.answers.pop(token, None) or {}).get("result")
    if came and isinstance(answer, dict):
        return _checked(answer)
    if job.cancel.is_set():
        verb = {"Create": "creation", "Update": "update"}.get(event["RequestType"], "deletion")
        return {"Status": "CANCELLED", "Reason": f"Resource {verb} cancelled"}
    return {
        "Status": "TIMEOUT",
        "Reason": "CloudFormation did not receive a response from your Custom Resource within "
        f"{seconds} seconds. Please check your logs for requestId [{event['RequestId']}].",
    }


def _wait(answered: threading.Event, seconds: int, cancel: Cancel, orders: Orders) -> bool:
    deadline = time.monotonic() + seconds
    while not answered.wait(LOOK_SECONDS):
        if cancel.is_set() or time.monotonic() > deadline or orders.take("time-out"):
            return answered.is_set()
    return True


def _checked(answer: Record) -> Record:
    """The answer, if CloudFormation takes it."""
    if len(json.dumps(answer)) > ANSWER_LIMIT:
        return {**answer, "Status": "FAILED", "Reason": "Response object is too long.", "Data": {}}
    if answer.get("Status") not in ("SUCCESS", "FAILED"):
        return {**answer, "Status": "FAILED", "Reason": f"Invalid Status: {answer.get('Status')}"}
    return dict(answer)


def _invoke(function: Record, event: Record, pauses: Sequence[float]) -> None:
    """Run the function, and once more after each further pause if it fails. Only its answer counts for the resource."""
    for pause in pauses:
        time.sleep(pause)
        try:
            if not parts.execute_function(function, event).get("error"):
                return
        except Exception:
            logger.exception("The function for %s ended badly", event["LogicalResourceId"])


def _made_up_id(job: Job) -> str:
    """The physical id that CloudFormation makes up for a resource whose function never named one."""
    end = "".join(random.choices(string.ascii_uppercase + string.digits, k=12))  # noqa: S311 - a name, no secret
    return f"{job.stack.name}-{job.logical}-{end}"
