"""Text from outside stays text: no unit, no shell command, no key and no member comes of it, in any dialect.

The outside: the properties of an event, the names that members of another's cluster have, and the user's own document.
What a user's own document does on the user's own machine is the user's; that it cannot pass for ours, is tested here.
"""

from __future__ import annotations

import email
import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcd_resize import userdata
from etcd_resize.errors import InvalidRequest
from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.request import CLUSTER, MEMBER, MemberProperties, parse
from etcd_resize.userdata import RENDERERS
from tests.support.events import cluster_properties, event, member_properties

WHO = Identity("etcd", "etcd-2", "10.0.0.2")
BEFORE = "http://10.0.0.1:2379"
PAYLOADS = [
    "x\n[Service]\nExecStartPre=/bin/sh -c evil",
    'x"\nExecStart=/bin/evil\nEnvironment="Y=1',
    "x\r\nExecStart=/bin/evil",
    "x\x0b\x0c\x1c\x85\u2028\u2029ExecStart=/bin/evil",
    "x\\\nExecStart=/bin/evil",
    "$(reboot)`reboot`;reboot|reboot&reboot",
    "'; reboot #",
    "%n %i %% ${PATH} $PATH",
    "x: {runcmd: [reboot]}\nruncmd: [reboot]",
    "- !!python/object/apply:os.system [reboot]",
    "x\n--boundary\nContent-Type: text/x-shellscript\n\n#!/bin/sh\nreboot",
    '"}],"systemd":{"units":[{"name":"evil.service","enabled":true}]}',
    "## template: jinja\n{{ evil }}",
    "*evil &evil <<",
    "\u202egnp.exe\ufeff",
    "-rf /",
    "evil=http://10.6.6.6:2380,etcd-2",
]
TEXTS = st.sampled_from(PAYLOADS) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=60
)
SAFE = {
    "Name": r"[A-Za-z0-9_-]{1,63}",
    "ClusterName": r"[A-Za-z0-9-]{1,32}",
    "Address": r"[0-9.]{7,15}",
    "Dialect": r"[a-z-]+",
    "ImageId": r"ami-[0-9a-f]+",
    "InstanceType": r"[a-z0-9.-]+",
    "VolumeSize": r"[0-9]+",
    "AutoCompactionRetention": r"[0-9]+[hm]?",
    "QuotaBackendBytes": r"[0-9]+",
    "EtcdRelease": r"(https?://[!-~]+#sha256=[0-9a-f]{64})?",
    "EtcdImage": r"([A-Za-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64})?",
    "EtcdUser": r"[A-Za-z0-9._@-]*",
}
"""What may stand in a property that reaches a machine, a sentence or a connection."""


@pytest.mark.parametrize("name", SAFE)
@settings(deadline=None)  # a slow machine is no defect
@given(text=TEXTS)
@example(text="--privileged@sha256:" + "0" * 64)
@example(text="http://-o:2379")
def test_a_property_is_of_safe_characters_or_refused(name: str, text: str) -> None:
    try:
        parse(event("Create", MEMBER, member_properties(WHO, BEFORE, **{name: text})))
    except InvalidRequest:
        return
    assert re.fullmatch(SAFE[name], text, re.ASCII), text


@settings(deadline=None)  # a slow machine is no defect
@given(text=TEXTS)
def test_the_endpoints_of_a_cluster_are_client_urls_or_refused(text: str) -> None:
    for endpoints in (text, f"{BEFORE},{text}", f"http://{text}:2379", f"http://10.0.0.1:{text}"):
        try:
            request = parse(
                event("Create", CLUSTER, cluster_properties("etcd", ["10.0.0.1"], Endpoints=endpoints))
            )
        except InvalidRequest:
            continue
        assert request.properties
        urls = request.properties.endpoints
        assert all(re.fullmatch(r"https?://[A-Za-z0-9.-]+:[0-9]{1,5}", url) for url in urls), endpoints


@pytest.mark.parametrize("host", ["unix", "unix-abstract", "dns", "ipv4", "xds", "vsock"])
def test_no_host_is_taken_for_one_of_grpc_s_other_ways_to_connect(host: str) -> None:
    gateway = EtcdGateway([])
    try:
        assert gateway._connection(f"http://{host}:2379").client._url == f"dns:///{host}:2379"
    finally:
        gateway.close()


# --- what members of another's cluster are called ---------------------------------------------------------


def spec(name: str = "m1", url: str = "http://10.0.0.1:2380") -> MemberSpec:
    return MemberSpec(WHO, ((name, url), (WHO.name, WHO.peer_url)), "existing", "token")


def rendered(dialect: str, made: MemberSpec, base: bytes = b"") -> bytes | None:
    """None if it is refused."""
    try:
        return userdata.render(dialect, made, base)
    except InvalidRequest:
        return None


def loaded(dialect: str, document: bytes) -> Any:
    """What the dialect's reader sees."""
    return json.loads(document) if dialect == "ignition" else yaml.safe_load(document)


def shape(value: Any) -> Any:
    """The keys, and of every text the lines up to what is assigned there: all that a hostile name must not change."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if isinstance(value, str):
        text = unquote(value) if value.startswith("data:") else value
        return [re.sub(r"(ETCD_INITIAL_CLUSTER=).*$", r"\1", line) for line in text.split("\n")]
    return value


def without_the_cluster(document: Any) -> Any:
    """coreos-cloudinit has the cluster as a key of its own, too."""
    if "coreos" in document:
        told = document["coreos"]["etcd2"].pop("initial-cluster")
        assert not re.search(r'(?<!\\)(\\\\)*"|[\x00-\x1f]', told), told  # it goes between quotes, as it is
    return document


@pytest.mark.parametrize("dialect", RENDERERS)
@settings(deadline=None)  # a slow machine is no defect
@given(name=TEXTS)
def test_a_member_s_name_changes_one_value_and_nothing_else(dialect: str, name: str) -> None:
    document = rendered(dialect, spec(name))
    if document is None:
        return
    plain = rendered(dialect, spec())
    assert plain
    seen, wanted = (without_the_cluster(loaded(dialect, one)) for one in (document, plain))
    assert shape(seen) == shape(wanted)


# --- the user's own document ------------------------------------------------------------------------------


def own(dialect: str, document: bytes) -> Any:
    """What of a merged document makes the machine a member."""
    if dialect == "cloud-init":
        parts = [one for one in email.message_from_bytes(document).walk() if not one.is_multipart()]
        return parts[-1].get_payload()
    if dialect == "ignition":
        units = {unit["name"]: unit for unit in json.loads(document)["systemd"]["units"]}
        return units["etcd-member.service"]["dropins"][-1]
    files = yaml.safe_load(document)["write_files"]
    # a path may be any scalar: Go's reader takes it as a text
    return {file["path"]: file["content"] for file in files if "99-restore" in str(file["path"])}


def is_ours(dialect: str, merged: Any) -> bool:
    """Whether it is what we write without any document of the user's, but for what only a user's can have set."""
    plain = own(dialect, userdata.render(dialect, spec(), b""))
    if dialect == "ignition":
        kept = [line for line in merged["contents"].split("\n") if not line.startswith("UnsetEnvironment=")]
        return (merged["name"], kept) == (plain["name"], plain["contents"].split("\n"))
    return bool(merged == plain)


CLOUD_CONFIG = st.dictionaries(
    st.sampled_from(["write_files", "runcmd", "packages", "bootcmd", "merge_how", "users", "coreos", "x"]),
    st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["path", "content", "units", "name", "etcd2", "data-dir"]), inner
            )
        ),
        max_leaves=6,
    ),
    max_size=4,
).map(lambda value: f"#cloud-config\n{yaml.safe_dump(value)}")
IGNITION = st.dictionaries(
    st.sampled_from(["dropins", "enabled", "contents", "mask"]), TEXTS | st.booleans() | st.none(), max_size=3
).map(
    lambda unit: json.dumps(
        {"ignition": {"version": "3.3.0"}, "systemd": {"units": [{"name": "etcd-member.service", **unit}]}}
    )
)
DROP_INS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(
    lambda dropins: json.dumps(
        {
            "ignition": {"version": "3.3.0"},
            "systemd": {
                "units": [
                    {
                        "name": "etcd-member.service",
                        "dropins": [{"name": name, "contents": contents} for name, contents in dropins],
                    },
                ]
            },
        }
    )
)
SCRIPTS = TEXTS.map(lambda text: f"#!/bin/sh\n{text}")


@pytest.mark.parametrize("dialect", RENDERERS)
@settings(deadline=None)  # a slow machine is no defect
@given(base=CLOUD_CONFIG | IGNITION | DROP_INS | SCRIPTS | TEXTS)
@example(base="#!/bin/sh\n" + "\n".join(f"--etcd-resize-{number:016x}--" for number in range(3)))
@example(base="#cloud-config\nwrite_files:\n- path: false\n")
@example(base="#cloud-config\nmerge_how: 'dict(replace)+list()+str()'\nwrite_files: []\n")
@example(
    base="#cloud-config\nwrite_files:\n- {path: /etc/systemd/system/etcd.service.d/99-etcd-resize.conf}\n"
)
@example(
    base="#cloud-config\nwrite_files:\n- {path: /etc//systemd/x/../system/etcd.service.d/99-etcd-resize.conf}\n"
)
@example(
    base="#cloud-config\nwrite_files:\n- {path: /run/systemd/system/etcd2.service.d/99-restore.conf, content: x}\n"
)
@example(
    base="#cloud-config\nwrite_files:\n- {path: /run/systemd/x/../system/etcd2.service.d/zz.conf, content: x}\n"
)
def test_whatever_the_user_s_document_says_the_member_s_own_part_is_word_for_word_there_or_it_is_refused(
    dialect: str, base: str
) -> None:
    document = rendered(dialect, spec(), base.encode())
    if document is not None and base:
        assert is_ours(dialect, own(dialect, document)), base


def test_a_release_s_url_is_one_word_of_a_command_whatever_is_in_it() -> None:
    url = "https://host/$(reboot)`reboot`;'\"&|<>*?[]{}~!\\x.tar.gz"
    given_release = f"{url}#sha256={'0' * 64}"
    properties = member_properties(WHO, BEFORE, EtcdRelease=given_release)
    request = parse(event("Create", MEMBER, properties))
    assert isinstance(request.properties, MemberProperties)
    release = request.properties.release
    made = MemberSpec(WHO, spec().initial_cluster, "existing", "token", release=release)
    document = yaml.safe_load(userdata.render("cloud-init", made, b""))
    assert document["runcmd"] == [
        ["/usr/local/sbin/install-etcd", url, "0" * 64]
    ]  # a list: no shell reads it
