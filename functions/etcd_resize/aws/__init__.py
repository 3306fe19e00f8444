"""AWS, as the service needs it. The only package that imports boto3.

``contract``: what the service asks, whoever answers. ``bucket``: S3, the journal, the snapshots and the vault in it.
``machines``: EC2, the termination protection. ``calls``: how both are called, and what they say when they refuse.

Clients are made when they are first needed, so that importing this needs neither credentials nor a region.
"""

from etcd_resize.aws.bucket import URL_SECONDS, Bucket
from etcd_resize.aws.contract import Journal, Machines, Snapshots, Vault
from etcd_resize.aws.machines import Ec2Machines

__all__ = ["URL_SECONDS", "Bucket", "Ec2Machines", "Journal", "Machines", "Snapshots", "Vault"]
