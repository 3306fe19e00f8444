"""etcd, as the service needs it. The only package that imports etcd3 and grpc.

``contract``: what the service asks, whoever answers. ``etcd``: the real thing, a ``connection`` to each member.
``answers``: from what they answered to one view of the cluster. ``refusals``: from what they refused to what it means.
"""

from etcd_resize.gateway.connection import client
from etcd_resize.gateway.contract import Gateway
from etcd_resize.gateway.etcd import EtcdGateway

__all__ = ["EtcdGateway", "Gateway", "client"]
