"""Real sam against the playground: what a user types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.playground.client import Cloud

pytestmark = pytest.mark.stack

PARENT = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Provider: {Type: String}
  Size: {Type: Number, AllowedValues: [1, 2]}
  Words: {Type: String, Default: ''}
  Fails: {Type: String, Default: ''}
Conditions:
  Two: !Equals [!Ref Size, 2]
Resources:
  Child1:
    Type: AWS::CloudFormation::Stack
    Properties: {TemplateURL: child.yaml, Parameters: {Provider: !Ref Provider}}
  Child2:
    Type: AWS::CloudFormation::Stack
    Condition: Two
    Properties:
      TemplateURL: child.yaml
      Parameters: {Provider: !Ref Provider, Before: !GetAtt Child1.Outputs.Id, Fails: !Ref Fails}
Outputs:
  Words: {Value: !Sub '<${Words}>'}
"""

CHILD = """
Parameters:
  Provider: {Type: String}
  Before: {Type: String, Default: ''}
  Fails: {Type: String, Default: ''}
Resources:
  Thing:
    Type: Custom::Test
    Properties: {ServiceToken: !Ref Provider, ServiceTimeout: 20, Before: !Ref Before, CreateFails: !Ref Fails}
Outputs:
  Id: {Value: !Ref Thing}
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "child.yaml").write_text(CHILD)
    (tmp_path / "template.yaml").write_text(PARENT)
    return tmp_path / "template.yaml"


def test_a_stack_is_deployed_rolled_back_left_alone_and_deleted(cloud: Cloud, template: Path) -> None:
    playground = cloud.playground
    wanted = {"Provider": cloud.provider, "Size": "1", "Words": 'two "words"'}

    created = playground.deploy("typed", wanted, template=template)
    assert (created.ok, created.status, created.reason) == (True, "CREATE_COMPLETE", ""), created.output
    assert playground.outputs("typed") == {"Words": '<two "words">'}

    failed = playground.deploy("typed", {**wanted, "Size": "2", "Fails": "no such luck"}, template=template)
    assert (failed.ok, failed.status, failed.reason) == (False, "UPDATE_ROLLBACK_COMPLETE", "no such luck")

    before = cloud.raw_events("typed")
    wrong = playground.deploy("typed", {**wanted, "Size": "3"}, template=template)
    assert not wrong.ok
    assert "Parameter 'Size' value '3' is not in AllowedValues" in wrong.reason

    same = playground.deploy("typed", {**wanted, "Fails": ""}, template=template)
    assert same.ok
    assert "No changes to deploy" in same.output
    assert cloud.raw_events("typed") == before

    deleted = playground.delete("typed")
    assert (deleted.ok, deleted.status) == (True, "DELETE_COMPLETE"), deleted.output
    assert playground.status("typed") == ""
