"""Whether an event is CloudFormation's own, and where it may be answered. PURE.

Whoever may invoke the function can send it an event, and the function answers wherever the event says: with a
reason at least, with a member's UserData at most. So this is looked at before anybody is answered at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from urllib.parse import SplitResult, urlsplit

from etcd_resize.errors import InvalidRequest, quoted

_SUFFIXES = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
    "aws-us-gov": "amazonaws.com",
}
"""What the names of S3's hosts end in, by partition (botocore's ``endpoints.json``)."""
_clip = partial(quoted, limit=80)
_GLOBAL_REGION = "us-east-1"
"""The one region whose buckets are also reached without its name."""


def check(event: object, function: str, *, local: bool = False) -> None:
    """Raise InvalidRequest unless the event comes from a stack of this function's account and region.

    ``function``: the ARN it was invoked by; a version or an alias at its end does not count. ``local``: answers go
    to the loopback interface, and nowhere else, as in a CloudFormation that runs on the same machine. The sentence
    has no part of the URL but its host: the rest is a signature, by which anybody could answer.
    """
    _, partition, _, region, account, *_ = named = function.split(":")[:7]
    own = ":".join(named)
    told: Mapping[object, object] = event if isinstance(event, Mapping) else {}
    properties = told.get("ResourceProperties")
    token = properties.get("ServiceToken") if isinstance(properties, Mapping) else None
    if token != own:
        raise InvalidRequest(
            f"not answered: the event's ServiceToken {_clip(token)} is not this function, {own}"
        )
    place = f"arn:{partition}:cloudformation:{region}:{account}:stack/"
    stack = told.get("StackId")
    if not isinstance(stack, str) or not re.fullmatch(
        re.escape(place) + r"[A-Za-z0-9-]{1,128}/[0-9a-f-]{36}", stack
    ):
        raise InvalidRequest(f"not answered: the event's StackId {_clip(stack)} is none of {place}...")
    url = _split(told.get("ResponseURL"))
    if not (_is_loopback(url) if local else _is_bucket(url, partition, region)):
        wanted = "a loopback address" if local else f"S3's for CloudFormation's answers in {region}"
        raise InvalidRequest(
            f"not answered: the host of the event's ResponseURL, {_clip(url.netloc)}, is not {wanted}"
        )


def _split(url: object) -> SplitResult:
    """The parts of an HTTPS URL; empty ones for anything else, and for what Python's own parts would differ on."""
    if not isinstance(url, str) or not url.startswith("https://") or not re.fullmatch(r"[!-~]+", url):
        return SplitResult("", "", "", "", "")
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _is_bucket(url: SplitResult, partition: str, region: str) -> bool:
    return url.netloc in _buckets(partition, region)


def _buckets(partition: str, region: str) -> Iterator[str]:
    """The hosts of the bucket that CloudFormation reads answers from, in the forms that events were seen with.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/vpc-interface-endpoints.html names the bucket.
    """
    suffix = _SUFFIXES.get(partition)
    if suffix is None:
        return
    bucket = f"cloudformation-custom-resource-response-{region.replace('-', '')}"
    yield f"{bucket}.s3.{region}.{suffix}"
    yield f"{bucket}.s3-{region}.{suffix}"
    if region == _GLOBAL_REGION:
        yield f"{bucket}.s3.{suffix}"


def _is_loopback(url: SplitResult) -> bool:
    return re.fullmatch(r"127(\.[0-9]{1,3}){3}(:[0-9]{1,5})?", url.netloc) is not None
