"""The dialect coreos-cloudinit: documents, merging, refusals, sizes; and the tests' reader."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etcd_resize import answer, userdata
from etcd_resize.errors import REASON_LIMIT, InvalidRequest
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec, Release
from etcd_resize.userdata import coreos_cloudinit, documents
from tests.support import coreos
from tests.support.events import STACK
from tests.unit.test_documents import TRICKY, nodes, tree

ANCESTOR = MemberSpec(
    Identity("etcd", "instance4", "172.31.22.9"),
    (
        ("instance1", "http://172.31.29.103:2380"),
        ("instance2", "http://172.31.29.104:2380"),
        ("instance3", "http://172.31.29.105:2380"),
        ("instance4", "http://172.31.22.9:2380"),
    ),
    "existing",
    token="etcd",
)
"""The fourth member of the cluster that this project descends from."""

BASE = b"""\
#cloud-config

hostname: instance4
coreos:
  etcd2:
    # the cluster's own, from its first day
    discovery: https://discovery.etcd.io/3e86b59982e49066c5d813af1c2e2579
    advertise-client-urls: http://$private_ipv4:2379
    initial-advertise-peer-urls: http://$private_ipv4:2380
    listen-client-urls: http://0.0.0.0:2379,http://0.0.0.0:4001
    listen-peer-urls: http://$private_ipv4:2380
  fleet:
    public-ip: $private_ipv4
  units:
    - name: etcd2.service
      command: start
    - name: fleet.service
      command: start
"""
"""What its machines were launched with."""

ETCD2 = """\
    name: "instance4"
    advertise-client-urls: "http://172.31.22.9:2379"
    initial-advertise-peer-urls: "http://172.31.22.9:2380"
    listen-client-urls: "http://0.0.0.0:2379,http://0.0.0.0:4001"
    listen-peer-urls: "http://172.31.22.9:2380"
    initial-cluster: "instance1=http://172.31.29.103:2380,instance2=http://172.31.29.104:2380,instance3=http://172.31.29.105:2380,instance4=http://172.31.22.9:2380"
    initial-cluster-state: "existing"
    initial-cluster-token: "etcd"
"""
RESTORED = """\
  - name: "etcd-resize-restored.service"
    runtime: true
    command: "start"
    content: |
      [Unit]
      Description=Remove 99-restore.conf once etcd is a member

      [Service]
      ExecStart=/bin/sh -c "until curl --fail --silent --max-time 5 --output /dev/null http://172.31.22.9:2379/health; do sleep 1; done; rm -f /run/systemd/system/etcd2.service.d/99-restore.conf; systemctl daemon-reload"
"""  # noqa: E501 — a unit's command is one line
RESTORE = """\
write_files:
- path: "/run/systemd/system/etcd2.service.d/99-restore.conf"
  permissions: "0644"
  content: |
    [Service]
    ExecStartPre=/usr/bin/rm -rf /var/lib/etcd2/proxy
    Environment="ETCD_NAME=instance4"
    Environment="ETCD_DISCOVERY="
    Environment="ETCD_INITIAL_CLUSTER=instance1=http://172.31.29.103:2380,instance2=http://172.31.29.104:2380,instance3=http://172.31.29.105:2380,instance4=http://172.31.22.9:2380"
    Environment="ETCD_INITIAL_CLUSTER_STATE=existing"
"""
GOLDEN = f"""\
#cloud-config
coreos:
  etcd2:
{ETCD2}\
  units:
  - name: "etcd2.service"
    command: "start"
{RESTORED}{RESTORE}"""
GOLDEN_MERGED = f"""\
#cloud-config
hostname: instance4
coreos:
  etcd2:
    advertise-client-urls: "http://172.31.22.9:2379"
    initial-advertise-peer-urls: "http://172.31.22.9:2380"
    listen-client-urls: "http://0.0.0.0:2379,http://0.0.0.0:4001"
    listen-peer-urls: "http://172.31.22.9:2380"
    name: "instance4"
{ETCD2[ETCD2.index("    initial-cluster:") :]}\
  fleet:
    public-ip: $private_ipv4
  units:
  - name: etcd2.service
    command: start
  - name: fleet.service
    command: start
{RESTORED}{RESTORE}"""

ADDRESSES = {"private_ipv4": "172.31.22.9", "public_ipv4": "52.1.2.3"}


def render(base: str | bytes = b"", spec: MemberSpec = ANCESTOR) -> bytes:
    given = base.encode() if isinstance(base, str) else base
    return userdata.render("coreos-cloudinit", spec, given)


def refused(base: str | bytes, spec: MemberSpec = ANCESTOR) -> str:
    with pytest.raises(InvalidRequest) as reason:
        render(base, spec)
    assert len(str(reason.value)) <= REASON_LIMIT
    return str(reason.value)


def wanted(spec: MemberSpec) -> dict[str, str]:
    """What etcd is to be started with: the spec's own variables, and clients on every interface."""
    return {
        **spec.environment("/var/lib/etcd2"),
        "ETCD_LISTEN_CLIENT_URLS": "http://0.0.0.0:2379,http://0.0.0.0:4001",
        **dict(spec.settings),
    }


def started_with(document: bytes, *, restored: bool) -> dict[str, str]:
    """What etcd is started with on a machine with that document, before or after the restore drop-in is gone."""
    files = coreos.read(document, ADDRESSES).files
    if restored:
        del files[coreos_cloudinit.RESTORE_PATH]
    unit = {"ETCD_DATA_DIR": "/var/lib/etcd2", "ETCD_NAME": "3e86b59982e49066c5d813af1c2e2579"}
    return {**unit, **coreos.environment(files)}


# --- the documents -------------------------------------------------------------------------------------


def test_the_document() -> None:
    assert render().decode() == GOLDEN


def test_the_ancestors_document_gets_the_fourth_member() -> None:
    assert render(BASE).decode() == GOLDEN_MERGED


def test_the_same_document_comes_of_one_with_the_line_ends_of_windows() -> None:
    assert render(BASE.replace(b"\n", b"\r\n")) == render(BASE)


def test_the_machine_writes_uses_and_removes_the_restore_drop_in() -> None:
    applied = coreos.read(render(BASE), ADDRESSES)
    assert applied.hostname == "instance4"
    assert applied.commands == (
        ("start", "etcd2.service"),
        ("start", "fleet.service"),
        ("start", "etcd-resize-restored.service"),
    )
    assert set(applied.files) == {
        "/run/systemd/system/etcd2.service.d/99-restore.conf",
        "/run/systemd/system/etcd2.service.d/20-cloudinit.conf",
        "/run/systemd/system/etcd-resize-restored.service",
    }
    assert applied.keys["coreos"]["fleet"] == {"public_ip": "172.31.22.9"}
    assert "discovery" not in applied.keys["coreos"]["etcd2"]


def test_the_first_member_of_a_cluster_is_told_that_it_is_new() -> None:
    first = replace(ANCESTOR, initial_cluster=ANCESTOR.initial_cluster[-1:], state="new")
    for restored in (False, True):
        assert started_with(render(spec=first), restored=restored)["ETCD_INITIAL_CLUSTER_STATE"] == "new"


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
NAMES = st.one_of(st.sampled_from([text for text in TRICKY if text and "_ipv4" not in text]), TEXTS)


@settings(deadline=None)  # a busy machine is no failure
@given(
    names=st.lists(NAMES, min_size=1, max_size=4),
    token=NAMES,
    data_dir=st.sampled_from(["", "/var/lib/etcd2", "/media/etcd-0/data.d"]),
    settings=st.dictionaries(
        st.sampled_from(["ETCD_SNAPSHOT_COUNT", "ETCD_AUTO_COMPACTION_RETENTION", "ETCD_LISTEN_CLIENT_URLS"]),
        NAMES,
    ),
    state=st.sampled_from(["new", "existing"]),
    base=st.sampled_from([b"", BASE]),
)
@example(["% m", '"', "\\x41", "é\n[Service]"], "%%\t", "", {"ETCD_SNAPSHOT_COUNT": "0"}, "existing", BASE)
def test_the_document_gives_back_what_was_put_in(
    names: list[str], token: str, data_dir: str, settings: dict[str, str], state: str, base: bytes
) -> None:
    cluster = tuple((name, f"http://10.0.0.{number}:2380") for number, name in enumerate(names))
    spec = MemberSpec(
        Identity("etcd", names[-1], "172.31.22.9"), cluster, state, token, data_dir, tuple(settings.items())
    )
    document = render(base, spec)
    assert document.isascii()
    assert document == render(base, spec)
    assert started_with(document, restored=True) == wanted(spec)
    assert started_with(document, restored=False) == {**wanted(spec), "ETCD_DISCOVERY": ""}


# --- merging -------------------------------------------------------------------------------------------


@settings(deadline=None)  # a busy machine is no failure
@given(root=nodes())
def test_what_the_user_has_beside_it_stays_as_it_is(root: yaml.Node) -> None:
    whole = documents.node({"users": root, "coreos": {"update": root}})
    base = b"#cloud-config\n" + yaml.serialize(whole, Dumper=yaml.SafeDumper, allow_unicode=True).encode()
    try:
        merged = render(base)
    except InvalidRequest as problem:
        reason = str(problem)
    else:
        reason = ""
        before, after = (_pairs(tree(document, yaml.CSafeLoader)) for document in (base, merged))
        assert after["users"] == before["users"]
        assert _pairs(after["coreos"])["update"] == _pairs(before["coreos"])["update"]
    assert not reason or any(
        part in reason for part in ("twice in the mapping", "placeholder", "read the same")
    )


def _pairs(mapping: Any) -> dict[str, Any]:
    return {key[1]: value for key, value in mapping[1]}


def test_units_keep_their_order_and_what_they_say() -> None:
    base = """#cloud-config
coreos:
  units:
  - name: var-lib-etcd2.mount
    command: start
    content: |
      [Mount]
      What=/dev/xvdb
  - name: etcd2.service
    drop-ins: [{name: 40-binary.conf, content: "[Service]\\nExecStart=\\nExecStart=/opt/bin/etcd\\n"}]
  - name: docker.service
    drop_ins:
      - name: 50-opts.conf
        content: "[Service]\\nEnvironment=DOCKER_OPTS=--name=x\\n"
"""
    applied = coreos.read(render(base))
    assert applied.commands == (
        ("start", "var-lib-etcd2.mount"),
        ("start", "etcd2.service"),
        ("start", "etcd-resize-restored.service"),
    )
    assert applied.files["/etc/systemd/system/etcd2.service.d/40-binary.conf"][0] == (
        "[Service]\nExecStart=\nExecStart=/opt/bin/etcd\n"
    )
    assert applied.files["/etc/systemd/system/docker.service.d/50-opts.conf"]
    assert applied.files["/etc/systemd/system/var-lib-etcd2.mount"]


@pytest.mark.parametrize("command", ["start", "restart", "reload-or-restart"])
def test_a_command_that_starts_etcd_is_kept(command: str) -> None:
    applied = coreos.read(
        render(f"#cloud-config\ncoreos: {{units: [{{name: etcd2.service, command: {command}}}]}}\n")
    )
    assert applied.commands[0] == (command, "etcd2.service")


def test_files_users_and_keys_stay() -> None:
    base = """#cloud-config
ssh-authorized-keys: [ssh-rsa AAAA]
users:
  - name: elroy
    passwd: $6$5s2u6/jR$un0AvWnqilcgaNB3Mkxd5yYv6mTlWfOoCYHZmfi3LDKVltj.E8XNKEcwWm
write-files:
  - path: /etc/motd
    permissions: 0644
    content: |
      Good news, everyone!
"""
    applied = coreos.read(render(base))
    assert applied.files["/etc/motd"] == ("Good news, everyone!\n", 0o644)
    assert coreos_cloudinit.RESTORE_PATH in applied.files
    assert applied.keys["ssh_authorized_keys"] == ["ssh-rsa AAAA"]
    assert applied.keys["users"][0]["passwd"].endswith("NKEcwWm")


def test_settings_of_the_users_etcd_stay_and_its_identity_gives_way() -> None:
    base = """#cloud-config
coreos:
  etcd2:
    name: another
    heartbeat_interval: 200
    election-timeout: 2000
    snapshot-count: 0x10
    initial-cluster-token: theirs
    initial_cluster_state: new
    data-dir: /media/etcd2
    discovery-srv: example.com
    discovery-fallback: proxy
    proxy: "on"
    proxy-read-timeout: 5
"""
    made = started_with(render(base), restored=False)
    assert made == {
        **wanted(ANCESTOR),
        "ETCD_DISCOVERY": "",
        "ETCD_HEARTBEAT_INTERVAL": "200",
        "ETCD_ELECTION_TIMEOUT": "2000",
        "ETCD_SNAPSHOT_COUNT": "16",
        "ETCD_DATA_DIR": "/media/etcd2",
    }
    restore, _ = coreos.read(render(base)).files[coreos_cloudinit.RESTORE_PATH]
    assert "ExecStartPre=/usr/bin/rm -rf /media/etcd2/proxy\n" in restore


def test_the_proxys_folder_is_looked_for_where_the_data_will_be() -> None:
    base = "#cloud-config\ncoreos: {etcd2: {data-dir: /media/etcd2}}\n"
    spec = replace(ANCESTOR, data_dir="/data")
    restore, _ = coreos.read(render(base, spec)).files[coreos_cloudinit.RESTORE_PATH]
    assert "ExecStartPre=/usr/bin/rm -rf /data/proxy\n" in restore
    assert started_with(render(base, spec), restored=True) == wanted(spec)


def test_keys_without_a_value_are_as_good_as_missing() -> None:
    assert render("#cloud-config\ncoreos:\n").decode() == GOLDEN
    assert coreos.read(render("#cloud-config\ncoreos: {etcd: , etcd2: ~, units: null}\nwrite_files:\n")).files


def test_an_address_of_the_machine_stays_to_be_filled_in_by_the_machine() -> None:
    base = "#cloud-config\nhostname: $private_ipv4\ncoreos: {fleet: {metadata: '\\$public_ipv4'}}\n"
    applied = coreos.read(render(base), ADDRESSES)
    assert applied.hostname == "172.31.22.9"
    assert applied.keys["coreos"]["fleet"]["metadata"] == "$public_ipv4"


@pytest.mark.parametrize("text", [r'"\x24private_ipv4"', r'"\\$private_ipv4"', "ünï\\$private_ipv4"])
def test_an_address_that_yaml_hides_or_would_hide_is_refused(text: str) -> None:
    assert "an escaped address placeholder" in refused(f"#cloud-config\nhostname: {text}\n")


def test_a_member_that_is_called_like_an_address_is_refused() -> None:
    spec = replace(
        ANCESTOR, initial_cluster=(("$private_ipv4", "http://10.0.0.1:2380"), *ANCESTOR.initial_cluster)
    )
    assert "would replace an address in ETCD_INITIAL_CLUSTER" in refused("", spec)


UNIT = "#cloud-config\ncoreos: {units: [%s]}\n"
ETCD_UNIT = UNIT % "{name: etcd2.service, %s}"
REFUSALS = [
    ("#!/bin/bash\n", "BaseUserData is a script"),
    ('{"ignition": {"version": "2.0.0"}}', "BaseUserData is Ignition JSON"),
    ("#cloud-config\na-b: 1\na_b: 2\n", "has the key a-b and a_b twice in the mapping at line 2: keep one of them"),
    ("#cloud-config\ncoreos: {etcd: {name: a}}\n", "configures coreos.etcd, which is etcd 0.4: use coreos.etcd2"),
    ("#cloud-config\ncoreos: {etcd2: {force-new-cluster: true}}\n", "coreos.etcd2.force-new-cluster"),
    ("#cloud-config\ncoreos: {etcd2: {data-dir: 'a b'}}\n", "the data directory 'a b' is no absolute path"),
    ("#cloud-config\ncoreos: [a]\n", "BaseUserData's coreos is no mapping of keys"),
    ("#cloud-config\ncoreos: {etcd2: a}\n", "BaseUserData's coreos.etcd2 is no mapping of keys"),
    ("#cloud-config\nx: &x {}\n<<: *x\n", "brings keys beside coreos with <<: write them out"),
    ("#cloud-config\nx: &x {}\ncoreos: {<<: *x}\n", "brings keys into coreos with <<: write them out"),
    ("#cloud-config\nx: &x {}\ncoreos: {etcd2: {<<: *x}}\n", "brings keys into coreos.etcd2 with <<: write them out"),
    ("#cloud-config\ncoreos: {units: a}\n", "BaseUserData's units is no list"),
    ("#cloud-config\ncoreos: {units: {name: a}}\n", "BaseUserData's units is no list"),
    (UNIT % "a", "BaseUserData's units is no list of mappings"),
    ("#cloud-config\nx: &x {mask: true}\ncoreos: {units: [{name: a, <<: *x}]}\n", "written out, without <<"),
    (UNIT % "{command: start}", "BaseUserData's units has an entry without a name"),
    (UNIT % "{name: a.service}, {name: a.service}", "two of coreos.units are called a.service: keep one of them"),
    (UNIT % "{name: etcd-resize-restored.service}", "two of coreos.units are called etcd-resize-restored.service"),
    (UNIT % "{name: etcd.service, command: start}", "unit etcd.service is a second etcd on this machine"),
    (UNIT % "{name: etcd-member.service, enable: true}", "unit etcd-member.service is a second etcd on this machine"),
    (ETCD_UNIT % "mask: true", "etcd2.service is not to be started: let its command be start"),
    (ETCD_UNIT % "command: stop", "etcd2.service is not to be started: let its command be start"),
    (ETCD_UNIT % "drop-ins: [{name: 99-restore.conf}]", "has a drop-in 99-restore.conf, which is ours: rename it"),
    (ETCD_UNIT % "drop-ins: [{name: 20-cloudinit.conf}]", "has a drop-in 20-cloudinit.conf, which is ours"),
    (ETCD_UNIT % "content: Environment=ETCD_DISCOVERY=http://x", "etcd2.service sets ETCD_DISCOVERY, which is ours"),
    (ETCD_UNIT % "drop-ins: [{name: a.conf, content: ExecStart=etcd --discovery=x}]", "a.conf sets ETCD_DISCOVERY"),
    (ETCD_UNIT % "drop-ins: [{name: a.conf, content: ETCD_DATA_DIR=/x}]", "a.conf sets ETCD_DATA_DIR"),
    ("#cloud-config\nwrite_files: a\n", "BaseUserData's write_files is no list"),
    ("#cloud-config\nwrite_files: [{content: a}]\n", "BaseUserData's write_files has an entry without a path"),
    (f"#cloud-config\nwrite_files: [{{path: {coreos_cloudinit.RESTORE_PATH}}}]\n", "99-restore.conf, which is ours"),
    (
        "#cloud-config\nwrite_files: [{path: /etc/systemd/system/etcd2.service.d/a.conf, content: ETCD_NAME=x}]\n",
        "/etc/systemd/system/etcd2.service.d/a.conf sets ETCD_NAME, which is ours to set",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("base", "sentence"),
    REFUSALS,
    ids=[f"{number}: {sentence}" for number, (_, sentence) in enumerate(REFUSALS)],
)
def test_what_cannot_be_merged_is_refused_in_one_sentence(base: str, sentence: str) -> None:
    assert sentence in refused(base)


@pytest.mark.parametrize(
    "base",
    [
        UNIT % "{name: etcd.service, command: stop}",
        UNIT % "{name: etcd-member.service, mask: true}",
        ETCD_UNIT
        % "content: 'ExecStart=/usr/bin/docker run --name etcd2 --env ETCD_HEARTBEAT_INTERVAL=1 etcd'",
        "#cloud-config\nwrite_files: [{path: /etc/other.conf, content: ETCD_NAME=x}]\n",
    ],
)
def test_what_does_not_concern_the_member_is_let_be(base: str) -> None:
    assert coreos.read(render(base)).commands[-1] == ("start", "etcd-resize-restored.service")


def test_another_etcd_than_the_images_is_refused() -> None:
    release = replace(ANCESTOR, release=Release("https://example.com/etcd.tar.gz", "0" * 64))
    assert refused("", release).startswith("EtcdRelease is not for the dialect coreos-cloudinit")
    image = replace(ANCESTOR, image=f"registry.example/coreos/etcd@sha256:{'0' * 64}")
    assert refused("", image).startswith("EtcdImage is not for the dialect coreos-cloudinit")


# --- sizes ---------------------------------------------------------------------------------------------


def test_the_last_of_seven_members_fits_as_it_is() -> None:
    names = [f"etcd-production-{number}" for number in range(1, 8)]
    cluster = tuple((name, f"http://172.31.200.20{number}:2380") for number, name in enumerate(names))
    spec = MemberSpec(Identity("production", names[-1], "172.31.200.206"), cluster, "existing", "production")
    stack = f"{STACK}-{'x' * 100}"
    answered = {"InitialCluster": spec.initial_cluster_text, "others": "x" * 400}
    room = answer.room(str(spec.identity), stack, "Member", answered)
    assert base64.b64decode(userdata.encode("coreos-cloudinit", render(spec=spec), room)) == render(spec=spec)


def test_a_document_of_the_answers_size_is_plain_and_one_over_is_packed() -> None:
    document = render()
    room = len(base64.b64encode(document))
    assert base64.b64decode(userdata.encode("coreos-cloudinit", document, room)) == document
    packed = userdata.encode("coreos-cloudinit", document, room - 1)
    assert gzip.decompress(base64.b64decode(packed)) == document
    assert coreos.read(base64.b64decode(packed)) == coreos.read(document)
    with pytest.raises(userdata.TooLarge, match=f"the answer has room for {len(packed) - 1}"):
        userdata.encode("coreos-cloudinit", document, len(packed) - 1)


def test_a_document_of_ec2s_size_is_plain_and_one_over_is_packed() -> None:
    def named(size: int) -> bytes:
        return render(b"#cloud-config\nhostname: " + b"a" * size + b"\n")

    one = len(named(1))
    for size, packed in ((userdata.USER_DATA_LIMIT, False), (userdata.USER_DATA_LIMIT + 1, True)):
        document = named(size - one + 1)
        assert len(document) == size
        made = base64.b64decode(userdata.encode("coreos-cloudinit", document, 1_000_000))
        assert made == (gzip.compress(document, mtime=0) if packed else document)


def test_the_script_that_fetches_fits_with_a_signed_url() -> None:
    """Which has the token of the function's role in it: long, and nothing that gzip makes shorter."""
    signature = "".join(hashlib.sha512(bytes([number])).hexdigest() for number in range(13))
    assert len(signature) > 1_600
    script = coreos_cloudinit.fetching(f"https://bucket.s3.eu-west-1.amazonaws.com/?{signature}", "0" * 64)
    room = answer.room(str(ANCESTOR.identity), STACK, "Member", {"others": "x" * 800})
    made = base64.b64decode(userdata.encode("coreos-cloudinit", script, room))
    assert gzip.decompress(made) == script


# --- the reader of these tests, against what coreos-cloudinit documents ---------------------------------


def test_the_reader_derives_the_environment_that_coreos_documents() -> None:
    """``Documentation/cloud-config.md``, the example of ``coreos.etcd2``."""
    document = b"""#cloud-config

coreos:
    etcd2:
        # generate a new token for each unique cluster from https://discovery.etcd.io/new
        discovery: https://discovery.etcd.io/<token>
        # multi-region and multi-cloud deployments need to use $public_ipv4
        advertise-client-urls: http://$public_ipv4:2379
        initial-advertise-peer-urls: http://$private_ipv4:2380
        # listen on both the official ports and the legacy ports
        # legacy ports can be omitted if your application doesn't depend on them
        listen-client-urls: http://0.0.0.0:2379,http://0.0.0.0:4001
        listen-peer-urls: http://$private_ipv4:2380,http://$private_ipv4:7001
"""
    content, mode = coreos.read(document, ADDRESSES).files[
        "/run/systemd/system/etcd2.service.d/20-cloudinit.conf"
    ]
    assert mode == 0o644
    assert content.splitlines() == [
        "[Service]",
        'Environment="ETCD_ADVERTISE_CLIENT_URLS=http://52.1.2.3:2379"',
        'Environment="ETCD_DISCOVERY=https://discovery.etcd.io/<token>"',
        'Environment="ETCD_INITIAL_ADVERTISE_PEER_URLS=http://172.31.22.9:2380"',
        'Environment="ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001"',
        'Environment="ETCD_LISTEN_PEER_URLS=http://172.31.22.9:2380,http://172.31.22.9:7001"',
    ]


def test_the_reader_drops_what_is_zero_and_escapes_nothing() -> None:
    """``system/env.go``."""
    keys = "name: 'a\"b', debug: yes, cors: 0, max-wals: 0, client-cert-auth: no"
    document = f"#cloud-config\ncoreos: {{etcd2: {{{keys}}}}}\n".encode()
    content, _ = coreos.read(document).files["/run/systemd/system/etcd2.service.d/20-cloudinit.conf"]
    assert (
        content
        == '[Service]\nEnvironment="ETCD_CORS=0"\nEnvironment="ETCD_DEBUG=true"\nEnvironment="ETCD_NAME=a"b"\n'
    )
    with pytest.raises(ValueError, match="not to be read"):
        coreos.variables(content)


@pytest.mark.parametrize(
    "document",
    [
        b"hostname: a\n",
        b"#cloud-config\nhost: a\n",
        b"#cloud-config\nhostname: [a]\n",
        b"#cloud-config\ncoreos: {etcd2: {max-wals: five}}\n",
        b"#cloud-config\ncoreos: {etcd2: {debug: maybe}}\n",
        b"#cloud-config\ncoreos: {etcd2: {no-such-key: a}}\n",
        b"#cloud-config\ncoreos: {units: [{name: a.service, command: begin}]}\n",
        b"#cloud-config\nwrite_files: [{path: /a, content: YQ==, encoding: base64}]\n",
        b"#cloud-config\nwrite_files: [{path: /a, permissions: rw}]\n",
    ],
)
def test_the_reader_is_strict(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        coreos.read(document)


def test_the_reader_puts_drop_ins_in_systemds_order() -> None:
    def one(value: str) -> tuple[str, int]:
        return f'[Service]\nEnvironment="ETCD_NAME={value}"\n', 0o644

    run_, etc = (f"/{folder}/systemd/system/etcd2.service.d" for folder in ("run", "etc"))
    files = {f"{run_}/99-z.conf": one("z"), f"{run_}/20-a.conf": one("a")}
    assert coreos.environment(files) == {"ETCD_NAME": "z"}
    assert coreos.environment({**files, f"{etc}/99-z.conf": one("hiding")}) == {"ETCD_NAME": "hiding"}
    assert coreos.environment({**files, f"{etc}/30-b.conf": one("b")}) == {"ETCD_NAME": "z"}


def test_the_program_writes_the_files_and_runs_the_commands_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/commands\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    coreos.apply(coreos.read(render(BASE), ADDRESSES), tmp_path)
    restore = tmp_path / coreos_cloudinit.RESTORE_PATH.lstrip("/")
    assert stat.S_IMODE(restore.stat().st_mode) == 0o644
    assert 'Environment="ETCD_DISCOVERY="' in restore.read_text()
    assert (tmp_path / "commands").read_text().splitlines() == [
        "daemon-reload",
        "start etcd2.service",
        "start fleet.service",
        "start etcd-resize-restored.service",
    ]
