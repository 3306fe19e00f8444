"""What makes ``etcdctl`` ready to use on the machine: its settings, for every login shell."""

from __future__ import annotations

from etcd_resize.model.machine import AUTHORITY_FILE, BUNDLE_FOLDER, CERTIFICATE_FILE, KEY_FILE, MemberSpec

PROFILE_PATH = "/etc/profile.d/etcd-resize.sh"


def profile(spec: MemberSpec) -> str:
    """A shell's file: ``etcdctl`` speaks version 3 of the API, to the machine's own member.

    With TLS it shows the member's own certificate, whose key only root and etcd can read. The URL is one of an IPv4
    address, so there is nothing to quote.
    """
    settings = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": spec.identity.client_url}
    if spec.bundle:
        files = {"CACERT": AUTHORITY_FILE, "CERT": CERTIFICATE_FILE, "KEY": KEY_FILE}
        settings |= {f"ETCDCTL_{name}": f"{BUNDLE_FOLDER}/{file}" for name, file in files.items()}
    return "".join(f"export {name}={value}\n" for name, value in settings.items())
