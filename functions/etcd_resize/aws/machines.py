"""The termination protection of EC2."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from etcd_resize.aws.calls import CONFIG, cause, code
from etcd_resize.errors import Refused

_NOBODY = "i-00000000000000000"


class Ec2Machines:
    """The termination protection, through ``ec2:ModifyInstanceAttribute``."""

    @cached_property
    def _ec2(self) -> Any:
        return boto3.client("ec2", config=CONFIG)

    def check(self) -> None:
        """See ``Machines.check``: a dry run on nobody's machine; whatever EC2 answers, it has answered."""
        try:
            self._ec2.modify_instance_attribute(
                InstanceId=_NOBODY, DisableApiTermination={"Value": True}, DryRun=True
            )
        except ClientError:
            return
        except BotoCoreError as problem:
            raise _unreachable(problem) from problem

    def protect(self, instance: str) -> None:
        """See ``Machines.protect``."""
        self._set(instance, protected=True)

    def unprotect(self, instance: str) -> None:
        """See ``Machines.unprotect``."""
        self._set(instance, protected=False)

    def _set(self, instance: str, *, protected: bool) -> None:
        try:
            self._ec2.modify_instance_attribute(
                InstanceId=instance, DisableApiTermination={"Value": protected}
            )
        except ClientError as problem:
            if not protected and code(problem).startswith("InvalidInstanceID"):
                return
            what = "protect" if protected else "lift the protection of"
            raise Refused(f"cannot {what} the machine {instance}: {cause(problem)}") from problem
        except BotoCoreError as problem:
            raise _unreachable(problem) from problem


def _unreachable(problem: BotoCoreError) -> Refused:
    return Refused(
        f"the EC2 API cannot be reached from the function ({type(problem).__name__}): give its subnets a NAT"
        " gateway or an endpoint for EC2, or set ProtectMachines=false"
    )
