"""One playground for all tests of it, and a function that does what a resource's properties tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.local import Playground
from tests.playground.client import BUCKET, Cloud
from tests.support.addresses import free_port

NETWORK = "127.81"

PROVIDER = '''
import json, os, time, urllib.request

def handler(event, context):
    """Do what the properties tell: sleep, fail, keep silent, answer with an identity."""
    properties = event["ResourceProperties"]
    request = event["RequestType"]
    print("handling", request, event["LogicalResourceId"])
    time.sleep(float(properties.get(request + "Seconds", 0)))
    if request in properties.get("Silent", ""):
        return
    told = properties.get(request + "Fails", "")
    marker = properties.get(request + "FailsWhile", "")
    failed = told or (os.path.exists(marker) and "the marker is there")
    identity = properties.get("Identity") or event.get("PhysicalResourceId") or "id-" + event["LogicalResourceId"]
    if request == "Delete":
        identity = event["PhysicalResourceId"]
    answer = {
        "Status": "FAILED" if failed else "SUCCESS",
        "Reason": failed or "",
        "PhysicalResourceId": identity,
        "Data": {"Value": properties.get("Value", ""), "Long": "x" * int(properties.get(request + "Bytes", 0))},
    }
    answer |= {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT"))
'''


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with Playground(tmp_path_factory.mktemp("playground"), network=NETWORK, port=free_port()) as running:
        yield running


@pytest.fixture(scope="session")
def cloud(playground: Playground) -> Cloud:
    playground.client("s3").create_bucket(Bucket=BUCKET)
    api = playground.client("cloudformation")
    template = {
        "Resources": {
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
            },
            "Function": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Timeout": 30,
                    "Role": {"Fn::GetAtt": "Role.Arn"},
                    "Code": {"ZipFile": PROVIDER},
                },
            },
        },
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": "Function.Arn"}}},
    }
    api.create_stack(StackName="provider", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"])
    cloud = Cloud(playground, "")
    assert cloud.wait("provider") == "CREATE_COMPLETE"
    cloud.provider = playground.outputs("provider")["Arn"]
    return cloud


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that makes a Delete fail while it exists."""
    return tmp_path / "marker"
