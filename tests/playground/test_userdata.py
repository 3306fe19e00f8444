from __future__ import annotations

import gzip
import hashlib
import platform

import pytest

from etcd_resize import userdata
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from playground.cloud.userdata import InvalidUserData, fetches, read

DOCUMENT = """#cloud-config
package_update: true
packages: [etcd-server, etcd-client]
write_files:
- path: /etc/systemd/system/etcd.service.d/10-etcd-resize.conf
  permissions: '0644'
  owner: root:root
  content: |
    # why
    [Service]
    Environment="ETCD_NAME=etcd-1" "ETCD_INITIAL_CLUSTER_TOKEN=a b"
    Environment="ETCD_QUOTE=\\"100%%\\""
    Environment=ETCD_UNSUPPORTED_ARCH=%a ETCD_DISCOVERY=https://d/x
    UnsetEnvironment=ETCD_PROXY ETCD_DISCOVERY
- path: /etc/motd
  content: hello
"""


@pytest.mark.parametrize(
    "data", [DOCUMENT.encode(), gzip.compress(DOCUMENT.encode())], ids=["plain", "gzipped"]
)
def test_a_document_is_read_as_cloud_init_and_systemd_read_it(data: bytes) -> None:
    configuration = read(data)
    assert configuration.environment == {
        "ETCD_NAME": "etcd-1",
        "ETCD_INITIAL_CLUSTER_TOKEN": "a b",
        "ETCD_QUOTE": '"100%"',
        "ETCD_UNSUPPORTED_ARCH": {"x86_64": "x86-64", "aarch64": "arm64"}[platform.machine()],
    }
    assert [(file.path, file.permissions) for file in configuration.files] == [
        ("/etc/systemd/system/etcd.service.d/10-etcd-resize.conf", 0o644),
        ("/etc/motd", 0o644),
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("#cloud-config", "#!/bin/sh", "the first line is not #cloud-config"),
        ("package_update", "package_upgrade", "the document has an unknown key: package_upgrade"),
        ("etcd-server, ", "", "packages lacks etcd-server"),
        ("owner", "user", "write_files has an unknown key: user"),
        ("path: /etc/motd", "path: etc/motd", "write_files has no absolute path: etc/motd"),
        ("'0644'", "0644", "permissions of /etc/systemd.* are no string: YAML reads 420"),
        ("[Service]", "[Unit]", r"has an unknown key: \[Unit\] Environment"),
        ("Environment=", "Enviroment=", r"has an unknown key: \[Service\] Enviroment"),
        ("100%%", "%h", "has a specifier that a process machine does not expand"),
        ('"ETCD_NAME=etcd-1"', "ETCD_NAME", "has a word that assigns nothing"),
        ("packages: [", "packages: ]", "no YAML"),
    ],
)
def test_what_is_not_known_is_an_error(old: str, new: str, sentence: str) -> None:
    with pytest.raises(InvalidUserData, match=sentence):
        read(DOCUMENT.replace(old, new, 1).encode())


def test_broken_gzip_is_an_error() -> None:
    with pytest.raises(InvalidUserData, match="neither text nor gzipped text"):
        read(gzip.compress(DOCUMENT.encode())[:40])


PEER = Identity("etcd", "etcd-1", "127.0.0.9")
MASKED = b'{"ignition":{"version":"3.3.0"},"systemd":{"units":[{"name":"locksmithd.service","mask":true}]}}'
FLATCAR = userdata.render(
    "ignition", MemberSpec(PEER, (("etcd-1", PEER.peer_url),), "new", "token"), MASKED
).decode()


def test_a_document_for_flatcar_is_read_as_ignition_and_systemd_read_it() -> None:
    configuration = read(FLATCAR.encode())
    assert configuration.environment["ETCD_INITIAL_CLUSTER"] == "etcd-1=http://127.0.0.9:2380"
    assert "ETCD_DISCOVERY" not in configuration.environment
    (profile,) = configuration.files
    assert (profile.path, profile.permissions) == ("/etc/profile.d/etcd-resize.sh", 0o644)
    assert "export ETCDCTL_ENDPOINTS=http://127.0.0.9:2379\n" in profile.content


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"mask":true', '"enabled":true', "locksmithd.service is another unit"),
        ('"enabled":true', '"enabled":false', "is not enabled: nothing starts etcd"),
        ('"dropins"', '"contents":"","dropins"', "etcd-member.service has an unknown key: contents"),
        ('"version"', '"config":{},"version"', "ignition has an unknown key: config"),
        ("data:,", "https://", "has no contents in the document itself"),
        ("[Service]", "[Servise]", r"has an unknown key: \[Servise\]"),
        ("[Service]", "[Service]\\nExecStartPre=+/bin/true", "starts something else than etcd"),
        ("}", "", "no JSON"),
    ],
)
def test_what_is_not_known_for_flatcar_is_an_error(old: str, new: str, sentence: str) -> None:
    assert old in FLATCAR
    with pytest.raises(InvalidUserData, match=sentence):
        read(FLATCAR.replace(old, new, 1).encode())


SHORT = userdata.fetching("cloud-init", "https://bucket/key?signed", DOCUMENT.encode())


def test_what_fetches_another_document_says_from_where_and_the_document_itself_does_not() -> None:
    order = ("https://bucket/key?signed", hashlib.sha256(DOCUMENT.encode()).hexdigest())
    assert fetches(SHORT) == fetches(gzip.compress(SHORT)) == order
    assert fetches(DOCUMENT.encode()) is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b"hashlib.sha256(data)", b"hashlib.md5(data)", "its part handler is not this project's"),
        (b"text/part-handler", b"text/x-shellscript", "not one that fetches another"),
        (b'{"url"', b'{"uri"', "it fetches by sha256, uri"),
        (b'{"url"', b'["url"', "it fetches nothing"),
    ],
)
def test_any_other_multi_part_document_is_an_error(old: bytes, new: bytes, sentence: str) -> None:
    assert old in SHORT
    with pytest.raises(InvalidUserData, match=sentence):
        fetches(SHORT.replace(old, new))
