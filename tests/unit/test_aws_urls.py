"""Where a presigned URL points to: made without asking anybody, so real S3's are seen here too."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.stub import ANY, Stubber

from etcd_resize.aws import URL_SECONDS, Bucket
from etcd_resize.model.identity import Identity
from etcd_resize.request import LONGEST_TIMEOUT

WHO = Identity("etcd", "etcd-2", "10.0.0.2")
SESSION = "of a role"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "snapshots.s3.eu-central-1.amazonaws.com"),
        ("us-east-1", "snapshots.s3.amazonaws.com"),  # the region's own name
        ("cn-north-1", "snapshots.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_presigned_url_names_the_region_s_own_host(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    """A subnet whose only way out is an endpoint for S3 reaches no other."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_SESSION_TOKEN": SESSION,
        "AWS_DEFAULT_REGION": region,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps the credentials that it found first
    bucket = Bucket("snapshots")
    with Stubber(bucket._s3) as s3:
        s3.add_response("put_object", {}, {"Bucket": "snapshots", "Key": ANY, "Body": b"document"})
        url = urlsplit(bucket.keep(WHO, b"document"))
        s3.assert_no_pending_responses()
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (url.scheme, url.netloc) == ("https", host)
    assert unquote(url.path).startswith("/etcd/userdata/etcd-2@10.0.0.2-")
    assert asked["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert asked["X-Amz-Expires"] == str(URL_SECONDS)
    assert asked["X-Amz-Security-Token"] == SESSION


def test_a_url_lives_longer_than_a_join_may_take() -> None:
    assert URL_SECONDS > 2 * LONGEST_TIMEOUT
