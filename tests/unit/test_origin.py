"""Who may send an event, and where it may be answered."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcd_resize import origin
from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity
from etcd_resize.request import MEMBER
from tests.support.events import FUNCTION, STACK, event, member_properties

WHO = Identity("etcd", "etcd-1", "10.0.0.1")
SECRET = "X-Amz-Signature=0123456789abcdef"  # noqa: S105 — what must never be in a sentence
BUCKET = "cloudformation-custom-resource-response-euwest1"
HERE = f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/arn%3Aaws%3Acloudformation?{SECRET}"


def sent(**changes: Any) -> dict[str, Any]:
    return {**event("Create", MEMBER, member_properties(WHO)), "ResponseURL": HERE, **changes}


def refused(told: object, function: str = FUNCTION, *, local: bool = False) -> str:
    with pytest.raises(InvalidRequest) as caught:
        origin.check(told, function, local=local)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def of_region(partition: str, region: str, url: str) -> tuple[dict[str, Any], str]:
    """An event in another region, and the function there."""
    function = FUNCTION.replace("eu-west-1", region).replace("arn:aws:", f"arn:{partition}:")
    stack = STACK.replace("eu-west-1", region).replace("arn:aws:", f"arn:{partition}:")
    properties = {**member_properties(WHO), "ServiceToken": function}
    return sent(StackId=stack, ResourceProperties=properties, ResponseURL=url), function


@pytest.mark.parametrize("qualifier", ["", ":$LATEST", ":live", ":7"])
def test_an_event_of_a_stack_here_is_taken_whatever_version_of_the_function_runs(qualifier: str) -> None:
    origin.check(sent(), f"{FUNCTION}{qualifier}")


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "euwest1.s3.eu-west-1.amazonaws.com"),
        ("aws", "eu-west-1", "euwest1.s3-eu-west-1.amazonaws.com"),
        ("aws", "us-east-1", "useast1.s3.amazonaws.com"),
        ("aws", "us-east-1", "useast1.s3.us-east-1.amazonaws.com"),
        ("aws", "ap-southeast-2", "apsoutheast2.s3.ap-southeast-2.amazonaws.com"),
        ("aws-us-gov", "us-gov-west-1", "usgovwest1.s3.us-gov-west-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "cnnorth1.s3.cn-north-1.amazonaws.com.cn"),
        ("aws-eusc", "eusc-de-east-1", "euscdeeast1.s3.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_the_hosts_that_cloudformation_takes_answers_at(partition: str, region: str, host: str) -> None:
    url = f"https://cloudformation-custom-resource-response-{host}/arn?{SECRET}"
    origin.check(*of_region(partition, region, url))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1:4566",
        "169.254.169.254",
        "s3.eu-west-1.amazonaws.com",
        "my-own-bucket.s3.eu-west-1.amazonaws.com",
        f"{BUCKET}.s3.amazonaws.com",
        f"{BUCKET}.s3.eu-west-2.amazonaws.com",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com.cn",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com.evil.example",
        f"{BUCKET}.s3xeu-west-1.amazonaws.com",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com:8443",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com@evil.example",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com\\@evil.example",
        f"evil.example#{BUCKET}.s3.eu-west-1.amazonaws.com",
        f"evil.example/{BUCKET}.s3.eu-west-1.amazonaws.com",
        f"x{BUCKET}.s3.eu-west-1.amazonaws.com",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com\n",
        f"\t{BUCKET}.s3.eu-west-1.amazonaws.com",
        "[::1",
        "",
    ],
)
def test_any_other_host_is_refused(host: str) -> None:
    assert "ResponseURL" in refused(sent(ResponseURL=f"https://{host}/arn?{SECRET}"))


@pytest.mark.parametrize(
    "url", [None, 7, "", "x", HERE.replace("https", "http"), HERE.replace("https", "ftp"), f" {HERE}"]
)
def test_a_url_that_is_none_is_refused(url: object) -> None:
    assert "ResponseURL" in refused(sent(ResponseURL=url))


def test_a_partition_that_nobody_here_has_heard_of_has_no_host() -> None:
    url = "https://cloudformation-custom-resource-response-x1.s3.x-1.amazonaws.com/"
    refused(*of_region("aws-new", "x-1", url))


@pytest.mark.parametrize(
    "stack",
    [
        None,
        "",
        "etcd",
        STACK.replace("000000000000", "111111111111"),
        STACK.replace("eu-west-1", "eu-west-2"),
        STACK.replace("arn:aws:", "arn:aws-cn:"),
        STACK.replace(":cloudformation:", ":lambda:"),
        f"x{STACK}",
        f"{STACK}\n",
        STACK.rpartition("/")[0],
    ],
)
def test_a_stack_of_another_place_is_refused(stack: object) -> None:
    assert "StackId" in refused(sent(StackId=stack))


@pytest.mark.parametrize(
    "token", [None, 7, "", f"{FUNCTION}:live", FUNCTION.replace("etcd-etcd", "other-etcd")]
)
def test_an_event_for_another_function_is_refused(token: object) -> None:
    assert "ServiceToken" in refused(
        sent(ResourceProperties={**member_properties(WHO), "ServiceToken": token})
    )


@pytest.mark.parametrize(
    "told", [None, [], "x", 7, {}, {"ResourceProperties": []}, sent(ResourceProperties=None)]
)
def test_what_is_no_event_at_all_is_refused(told: object) -> None:
    assert "ServiceToken 'None'" in refused(told)


@pytest.mark.parametrize("host", ["127.0.0.1:4566", "127.0.0.1", "127.77.1.9:1"])
def test_a_local_cloudformation_is_answered_on_the_loopback_interface(host: str) -> None:
    origin.check(sent(ResponseURL=f"https://{host}/x"), FUNCTION, local=True)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1:1@evil.example",
        "127.0.0.1:443:443",
        "10.0.0.1",
        "localhost",
        f"{BUCKET}.s3.eu-west-1.amazonaws.com",
    ],
)
def test_and_nowhere_else(host: str) -> None:
    assert "a loopback address" in refused(sent(ResponseURL=f"https://{host}/x?{SECRET}"), local=True)


@settings(deadline=None)  # a slow machine is no defect
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_no_text_before_or_after_the_host_gets_by(text: str) -> None:
    host = f"{BUCKET}.s3.eu-west-1.amazonaws.com"
    for url in (f"https://{text}{host}/", f"https://{host}{text}"):
        try:
            origin.check(sent(ResponseURL=url), FUNCTION)
        except InvalidRequest:
            continue
        assert url == f"https://{host}" or url.startswith(
            (f"https://{host}/", f"https://{host}?", f"https://{host}#")
        )


def test_the_handler_answers_nobody_and_logs_no_signature(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("ANSWERS_ON_LOOPBACK", raising=False)
    from etcd_resize import handler  # noqa: PLC0415 — crhelper makes clients for a region when it is imported

    class Context:
        invoked_function_arn = FUNCTION

    told: list[object] = []
    monkeypatch.setattr("etcd_resize.sender.send", lambda *args: told.append(args))
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidRequest):
        handler.handler(sent(ResponseURL=f"https://evil.example/answer?{SECRET}"), Context())
    assert told == []
    (record,) = caplog.records
    assert record.getMessage() == (
        "not answered: the host of the event's ResponseURL, 'evil.example', is not S3's for CloudFormation's"
        " answers in eu-west-1"
    )
