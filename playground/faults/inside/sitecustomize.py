"""Breaks the function from inside its own process: kills it at a point by name, breaks its calls to AWS, its answer.

Python imports a module of this name at its start if it finds one on PYTHONPATH. It does nothing outside a function of
the playground, and nothing without an order. Orders are files in the folder that FAULTS_ORDERS names, under the stack:

    points   lines `POINT kill` or `POINT pause`, each good for one time. A pause lasts until `go-on` is there
    reached  written here: the points that were reached
    calls    lines of JSON: {"match": a part of "METHOD url body", "do": refuse | unreachable | slow, "seconds": 0}
    answers  lines `lose` or `twice`, each good for one answer
    clock    seconds that the function's clock is wrong by
    events   if it is there, each event that comes is appended, as a line of JSON

Points are `before-` and `after-` one of: intention, add, journal, promote, protect, snapshot, move-leader, remove,
unprotect, answer. It must not change what the function does otherwise.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FUNCTION = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
ORDERS = Path(os.environ.get("FAULTS_ORDERS", "/nonexistent")) / FUNCTION.removesuffix("-etcd-resize")
LOOK_SECONDS = 0.05


# ---- orders ----


def lines(name: str) -> list[str]:
    """The lines of an order."""
    try:
        return (ORDERS / name).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def use(name: str, line: str) -> None:
    """Strike one line out of an order."""
    left = lines(name)
    left.remove(line)
    (ORDERS / name).write_text("".join(f"{one}\n" for one in left), encoding="utf-8")


def point(name: str) -> None:
    """End here, or stop here, if it was ordered."""
    for line in lines("points"):
        where, _, what = line.partition(" ")
        if where != name:
            continue
        use("points", line)
        with (ORDERS / "reached").open("a", encoding="utf-8") as reached:
            reached.write(f"{name}\n")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while what == "pause" and not (ORDERS / "go-on").exists():
            time.sleep(LOOK_SECONDS)
        return


def around(
    owner: Any, method: str, name: Callable[..., str], *, finished: Callable[[Any], Any] = lambda made: made
) -> None:
    """Make points before and after a method; `name` takes its arguments, and gives nothing where there is no point."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def with_points(*arguments: Any, **named: Any) -> Any:
        about = name(*arguments)
        if about:
            point(f"before-{about}")
        made = finished(original(*arguments, **named))
        if about:
            point(f"after-{about}")
        return made

    setattr(owner, method, with_points)


def always(name: str) -> Callable[..., str]:
    """A name that does not depend on the arguments."""
    return lambda *_: name


# ---- what is changed, by module ----


def change_gateway(module: ModuleType) -> None:
    """Points at every change of the membership."""
    gateway = module.EtcdGateway
    for method, name in (
        ("add_learner", "add"),
        ("promote", "promote"),
        ("remove", "remove"),
        ("move_leader", "move-leader"),
    ):
        around(gateway, method, always(name))


def change_aws(module: ModuleType) -> None:
    """Points at what is written down, and at the machines' protection."""
    states = {"intended": "intention", "added": "journal", "left": "departure"}
    for method in ("record_member", "replace_member"):
        around(module.Bucket, method, lambda _self, _identity, record: states.get(record.state, ""))
    around(module.Bucket, "store", always("snapshot"))
    around(module.Ec2Machines, "protect", always("protect"))
    around(module.Ec2Machines, "unprotect", always("unprotect"))


def change_sender(module: ModuleType) -> None:
    """An answer that never arrives, or arrives twice."""
    put = module._put  # noqa: SLF001 - one try on the network is what must be broken

    def broken(*arguments: Any) -> int:
        for order in lines("answers"):
            use("answers", order)
            if order == "lose":
                return 200
            put(*arguments)
            break
        return int(put(*arguments))

    module._put = broken  # type: ignore[attr-defined]  # noqa: SLF001
    around(module, "send", always("answer"))


def change_handler(module: ModuleType) -> None:
    """A clock that is wrong, and a copy of each event."""
    module.time = Clock()  # type: ignore[attr-defined]
    handle = module.handler

    def handler(event: Any, context: Any) -> None:
        kept = ORDERS / "events"
        if kept.exists():
            with kept.open("a", encoding="utf-8") as events:
                events.write(json.dumps(event) + "\n")
        handle(event, context)

    module.handler = handler  # type: ignore[attr-defined]


class Clock:
    """The module `time`, an order's seconds off."""

    def __getattr__(self, name: str) -> Any:
        """Everything else is as it was."""
        return getattr(time, name)

    def time(self) -> float:
        """What the clock on the wall says."""
        return time.time() + sum(map(float, lines("clock")))


def change_http(module: ModuleType) -> None:
    """Calls to AWS that are refused, get nowhere, or take their time."""
    session = module.URLLib3Session
    original = session.send

    def send(self: Any, request: Any) -> Any:
        body = request.body if isinstance(request.body, (bytes, str)) else b""
        text = f"{request.method} {request.url} {body.decode(errors='replace') if isinstance(body, bytes) else body}"
        for line in lines("calls"):
            rule = json.loads(line)
            if rule["match"] in text:
                time.sleep(rule.get("seconds", 0))
                if rule["do"] == "refuse":
                    return refusal(request.url)
                if rule["do"] == "unreachable":
                    from botocore.exceptions import ConnectTimeoutError  # noqa: PLC0415

                    raise ConnectTimeoutError(endpoint_url=request.url)
        return original(self, request)

    session.send = send


def refusal(url: str) -> Any:
    """What AWS answers to a caller without permission, in a form that EC2's and S3's readers both take."""
    from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - there is no botocore before it is asked for

    error = "<Error><Code>AccessDenied</Code><Message>ordered by a test</Message></Error>"
    if "/" in url.removeprefix("https://").partition("/")[2]:  # a bucket and a key
        return AWSResponse(url, 403, {"content-type": "application/xml"}, Body(error))
    error = error.replace("AccessDenied", "UnauthorizedOperation")
    whole = f"<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>"
    return AWSResponse(url, 403, {"content-type": "text/xml"}, Body(whole))


class Body:
    """The part of a response's body that botocore reads."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        """All at once."""
        yield self._text


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "etcd_resize.gateway": change_gateway,
    "etcd_resize.aws": change_aws,
    "etcd_resize.sender": change_sender,
    "etcd_resize.handler": change_handler,
    "botocore.httpsession": change_http,
}


class Finder(importlib.abc.MetaPathFinder):
    """Changes a module straight after it was loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What Python finds itself, with the change added."""
        change = CHANGES.get(fullname)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_changed(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = load_changed  # type: ignore[method-assign]
        return spec


if FUNCTION and "FAULTS_ORDERS" in os.environ:
    sys.meta_path.insert(0, Finder())
