"""What the functions ask of AWS: every call that came with their access key, in `cloud/calls.jsonl`, one a line.

    by         the access key: a function has its account's number, everyone else here another one
    action     in IAM's words, as in `s3:PutObject`
    resource   its ARN
    context    the condition keys that came with it, those that a policy of this project could ask for

A URL that a function signed counts as its call, whoever uses it, as it does for IAM. Nothing is refused here: whether a
role would have allowed it, the tests decide.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from playground.cloud import parts
from playground.journal import Journal

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CREDENTIAL = re.compile(r"(?P<key>\w+)/\d{8}/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request")
"""A credential of Signature Version 4
(https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html)."""
FUNCTION = re.compile(r"\d{12}")
FORM = "application/x-www-form-urlencoded"


class Recorded:
    """An ASGI application that writes down what functions ask, and hands everything on."""

    def __init__(self, app: App, journal: Journal) -> None:
        self._app, self._journal = app, journal

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
            }
            query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
            credential = CREDENTIAL.search(
                headers.get("authorization", "") or query.get("X-Amz-Credential", [""])[0]
            )
            if credential and FUNCTION.fullmatch(credential["key"]):
                body = b""
                if headers.get("content-type", "").startswith(FORM):
                    receive, body = await _read(receive)
                self._write(credential, scope, headers, body, query)
        await self._app(scope, receive, send)

    def _write(
        self,
        credential: re.Match[str],
        scope: Message,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, list[str]],
    ) -> None:
        key, region, service = credential.group("key", "region", "service")
        asked = (service, scope["method"], scope["path"], headers, body)
        action = parts.iam_actions.extract_iam_action(*asked, query)
        form = parse_qs(body.decode())
        resource = parts.iam_actions.extract_resource_arn(*asked, {**query, **form}, region, key)
        context = {"s3:prefix": query["prefix"][0]} if "prefix" in query else {}
        if service == "ec2" and "InstanceId" in form:
            instance = form["InstanceId"][0]
            resource = f"arn:aws:ec2:{region}:{key}:instance/{instance}"
            tags = parts.ec2._tags.get(instance, [])
            context |= {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}
            context |= {
                f"ec2:Attribute/{name.removesuffix('.Value')}": values[0]
                for name, values in form.items()
                if name.endswith(".Value")
            }
        what = {"action": action, "resource": resource, "context": context}
        self._journal.write("call", by=key, what=f"{scope['method']} {scope['path']}", **what)


async def _read(receive: Receive) -> tuple[Receive, bytes]:
    """The whole body, and what gives the same messages again."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    again = iter(messages)

    async def receive_again() -> Message:
        return next(again, None) or await receive()

    return receive_again, b"".join(message.get("body", b"") for message in messages)
