"""What makes ``etcdctl`` ready to use on the machine: its settings, for every login shell."""

from __future__ import annotations

from etcd_resize.model import MemberSpec

PROFILE_PATH = "/etc/profile.d/etcd-resize.sh"


def profile(spec: MemberSpec) -> str:
    """A shell's file: ``etcdctl`` speaks version 3 of the API, to the machine's own member.

    The URL is one of an IPv4 address, so there is nothing to quote.
    """
    return f"export ETCDCTL_API=3\nexport ETCDCTL_ENDPOINTS={spec.identity.client_url}\n"
