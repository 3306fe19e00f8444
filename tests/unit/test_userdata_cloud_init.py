"""The dialect cloud-init: its documents, and what is done with the user's own.

``tests/integration/test_cloud_init.py`` asks cloud-init itself, and boots machines.
"""

from __future__ import annotations

import base64
import email
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from http.client import IncompleteRead
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from etcd_resize.errors import REASON_LIMIT, InvalidRequest
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec, Release
from etcd_resize.userdata import mime
from etcd_resize.userdata.cloud_init import DROP_IN_PATH, INSTALLER_PATH, MERGE, UNIT_PATH, fetching, render
from etcd_resize.userdata.etcdctl import PROFILE_PATH
from etcd_resize.userdata.on_machine import program
from tests.support.events import TUNED

SPEC = MemberSpec(
    Identity("etcd", "etcd-2", "10.0.0.2"),
    (("etcd-1", "http://10.0.0.1:2380"), ("etcd-2", "http://10.0.0.2:2380")),
    "existing",
    token="etcd",
    settings=TUNED,
)
RELEASE = Release("https://mirror/etcd-v3.5.30-linux-arm64.tar.gz", "5" * 64)

GOLDEN = """\
#cloud-config
package_update: true
packages:
- etcd-server
- etcd-client
write_files:
- content: |
    [Unit]
    StartLimitIntervalSec=0
    [Service]
    Restart=on-failure
    RestartSec=1
    Environment="ETCD_NAME=etcd-2"
    Environment="ETCD_DATA_DIR=/var/lib/etcd/default"
    Environment="ETCD_LISTEN_PEER_URLS=http://10.0.0.2:2380"
    Environment="ETCD_LISTEN_CLIENT_URLS=http://10.0.0.2:2379"
    Environment="ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.2:2380"
    Environment="ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.2:2379"
    Environment="ETCD_INITIAL_CLUSTER=etcd-1=http://10.0.0.1:2380,etcd-2=http://10.0.0.2:2380"
    Environment="ETCD_INITIAL_CLUSTER_STATE=existing"
    Environment="ETCD_INITIAL_CLUSTER_TOKEN=etcd"
    Environment="ETCD_AUTO_COMPACTION_MODE=periodic"
    Environment="ETCD_AUTO_COMPACTION_RETENTION=1h"
    Environment="ETCD_QUOTA_BACKEND_BYTES=2147483648"
    Environment="ETCD_HEARTBEAT_INTERVAL=100"
    Environment="ETCD_ELECTION_TIMEOUT=1000"
    UnsetEnvironment=ETCD_DISCOVERY ETCD_DISCOVERY_ENDPOINTS ETCD_DISCOVERY_FALLBACK ETCD_DISCOVERY_PROXY \
ETCD_DISCOVERY_SRV ETCD_DISCOVERY_SRV_NAME ETCD_DISCOVERY_TOKEN ETCD_CONFIG_FILE ETCD_FORCE_NEW_CLUSTER ETCD_PROXY
    Environment=ETCD_UNSUPPORTED_ARCH=%a
  owner: root:root
  path: /etc/systemd/system/etcd.service.d/99-etcd-resize.conf
  permissions: '0644'
- content: |
    export ETCDCTL_API=3
    export ETCDCTL_ENDPOINTS=http://10.0.0.2:2379
  owner: root:root
  path: /etc/profile.d/etcd-resize.sh
  permissions: '0644'
"""
MERGED = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="{boundary}"

--{boundary}
Content-Type: text/cloud-config

#cloud-config
packages: &tools [jq]  # mine
x: *tools

--{boundary}
Content-Type: text/cloud-config
Merge-Type: dict(recurse_list)+list(prepend)+str()

{own}
--{boundary}--
"""


def files(document: bytes) -> dict[str, dict[str, str]]:
    return {file["path"]: file for file in yaml.safe_load(document)["write_files"]}


def parts(document: bytes) -> list[tuple[str, bytes]]:
    """As the standard library reads them, without our own reader."""
    message = email.message_from_bytes(document)
    read = [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]
    return [(kind, payload) for kind, payload in read if isinstance(payload, bytes)]


# --- alone ---


def test_the_document() -> None:
    assert render(SPEC, b"").decode() == GOLDEN


def test_a_release_comes_with_a_unit_and_what_installs_it_and_without_the_package() -> None:
    document = render(replace(SPEC, release=RELEASE), b"")
    read = yaml.safe_load(document)
    assert set(read) == {"write_files", "runcmd"}
    assert read["runcmd"] == [[INSTALLER_PATH, RELEASE.url, RELEASE.sha256]]
    written = files(document)
    assert written[DROP_IN_PATH] == files(render(SPEC, b""))[DROP_IN_PATH]
    assert "ExecStart=/usr/local/bin/etcd\n" in written[UNIT_PATH]["content"]
    assert written[INSTALLER_PATH]["permissions"] == "0755"
    compile(written[INSTALLER_PATH]["content"], INSTALLER_PATH, "exec")
    assert written[INSTALLER_PATH]["content"].startswith("#!/usr/bin/python3\n")
    assert "# ruff" not in written[INSTALLER_PATH]["content"]


def test_an_image_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="EtcdImage is not for the dialect cloud-init"):
        render(replace(SPEC, image="etcd@sha256:" + "0" * 64), b"")


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
@example(value="\x85")
def test_the_document_is_read_as_it_was_written(value: str) -> None:
    odd = replace(SPEC, settings=(*TUNED, ("ETCD_X", value)))
    content = files(render(odd, b""))[DROP_IN_PATH]["content"]
    plain = files(render(SPEC, b""))[DROP_IN_PATH]["content"].splitlines()
    assert next(line for line in content.split("\n") if line not in plain).startswith('Environment="ETCD_X=')
    assert len(content.split("\n")) == len(plain) + 2


# --- the programs that run on the machine ---


class Answer(io.BytesIO):
    """What ``urlopen`` gives."""


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program as it goes into a UserData, as a module; what it imports of cloud-init is not here."""
    for missing in ("cloudinit", "cloudinit.stages", "cloudinit.util"):
        monkeypatch.setitem(sys.modules, missing, MagicMock())
    made = ModuleType(name)
    exec(compile(program(f"{name}.py"), name, "exec"), made.__dict__)  # noqa: S102 - our own text
    return made


FETCHING = pytest.mark.parametrize("name", ["install_etcd", "fetch_bundle", "fetch_user_data"])


@FETCHING
def test_a_download_is_tried_ten_times_five_seconds_apart_and_then_given_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    slept: list[float] = []

    def refuse(url: str, timeout: float) -> Answer:
        tried.append(url)
        raise OSError("refused")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(OSError, match="refused"):
        module(name, monkeypatch).fetch("https://x", "0" * 64)
    assert len(tried) == 10
    assert sum(slept) == 45


@FETCHING
def test_a_download_cut_short_is_tried_again_and_a_wrong_one_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutShort(Answer):
        def read(self, *_: Any) -> bytes:
            raise IncompleteRead(b"da")

    answers: list[Answer] = [CutShort(), Answer(b"data"), Answer(b"other"), Answer(b"data")]
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: answers.pop(0))
    monkeypatch.setattr("time.sleep", lambda _: None)
    fetch, wanted = module(name, monkeypatch).fetch, hashlib.sha256(b"data").hexdigest()
    assert fetch("https://x", wanted) == b"data"
    with pytest.raises(ValueError, match=f"wanted {wanted}"):
        fetch("https://x", wanted)
    assert len(answers) == 1


def packed(**files: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return made.getvalue()


def test_only_etcd_s_programs_are_taken_out_of_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = "#!/bin/sh\n"
    unpack = module("install_etcd", monkeypatch).unpack
    unpack(packed(v__etcd=works, v__etcdctl=works, v__README="x", v__x__etcdutl=works, sh="x"), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etcd", "etcdctl"]
    assert (tmp_path / "etcd").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "archive",
    [
        packed(v__etcdctl="#!/bin/sh\n"),  # no etcd in it
        packed(v__etcd="#!/bin/sh\n"),
        packed(v__etcd="x", v__etcdctl="\x7fELF of another architecture"),
        b"no archive",
    ],
)
def test_an_archive_that_brings_no_etcd_for_this_machine_is_an_error(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((OSError, tarfile.TarError)):
        module("install_etcd", monkeypatch).unpack(archive, str(tmp_path))


# --- what does not fit is fetched ---


def test_the_short_document_carries_the_handler_and_the_order_for_it() -> None:
    (handler_kind, handler), (order_kind, order) = parts(fetching("https://b/x?a=1&b=%40", "5" * 64))
    assert (handler_kind, order_kind) == ("text/part-handler", "text/x-etcd-resize")
    assert json.loads(order) == {"url": "https://b/x?a=1&b=%40", "sha256": "5" * 64}
    assert f'return ["{order_kind}"]'.encode() in handler
    assert b"# ruff" not in handler
    assert b"etcd_resize" not in handler


# --- the user's own document ---


def test_a_cloud_config_becomes_a_part_as_it_is_and_ours_comes_after_it() -> None:
    base = b"#cloud-config\npackages: &tools [jq]  # mine\nx: *tools\n"
    document = render(SPEC, base)
    boundary = email.message_from_bytes(document).get_boundary()
    assert document.decode() == MERGED.format(boundary=boundary, own=GOLDEN)
    assert render(SPEC, base) == document


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        (b"#!/bin/sh\necho hello\n", mime.SCRIPT),
        (b"#!/bin/sh\r\necho h\xc3\xa9\r\n\x0b\x1b[0m", mime.SCRIPT),
        (b"#cloud-boothook\n#!/bin/sh\necho early", mime.BOOTHOOK),
        (b'#cloud-config\r\nmotd: "\xe6\x97\xa5\xe6\x9c\xac"\r\n', mime.CLOUD_CONFIG),
        (b"#cloud-config\nmotd: 'a\tb'\nwrite_files: [{path: /a, content: \"\xf0\x9f\x8c\x8a\"}]\n", mime.CLOUD_CONFIG),
        (b"#cloud-config\na: &x {b: c}\nd: {<<: *x}\n", mime.CLOUD_CONFIG),
    ],
)  # fmt: skip
def test_a_document_is_kept_byte_for_byte(base: bytes, kind: str) -> None:
    kept, (own_kind, own) = parts(render(SPEC, base))
    assert kept == (kind, base)
    assert (own_kind, own.decode()) == (mime.CLOUD_CONFIG, GOLDEN)


LINES = st.text(st.characters(codec="utf-8"), max_size=60)


@given(text=LINES)
@example(text="\r")
@example(text="\n--etcd-resize\nFrom x\n.\n")
def test_whatever_a_script_says_is_kept(text: str) -> None:
    base = f"#!/bin/sh\n{text}".encode()
    assert parts(render(SPEC, base))[0] == (mime.SCRIPT, base)


def multipart(*bodies: str | tuple[str, str], encode: Callable[[Any], str] = str, **headers: str) -> bytes:
    """As Python's own email package writes it; a body is text, or text with its subtype."""
    message = MIMEMultipart()
    for body in bodies:
        text, subtype = (body, "cloud-config") if isinstance(body, str) else body
        part = MIMEText(text, subtype, "utf-8" if not text.isascii() else "us-ascii")
        for name, value in headers.items():
            part[name.replace("_", "-")] = value
        message.attach(part)
    return encode(message.as_string()).encode()


def test_every_part_of_a_multi_part_document_is_kept_with_its_headers() -> None:
    config, script = "#cloud-config\npackages: [jq]\n", "#!/bin/sh\necho 日本\n"
    base = multipart(
        config, (script, "x-shellscript"), (script, "plain"), Merge_Type="list(append)+dict()+str()"
    )
    document = render(SPEC, base)
    assert parts(document)[:-1] == [
        (mime.CLOUD_CONFIG, config.encode()),
        (mime.SCRIPT, script.encode()),
        (mime.SCRIPT, script.encode()),
    ]
    leaves = [part for part in email.message_from_bytes(document).walk() if not part.is_multipart()]
    assert [part["Merge-Type"] for part in leaves] == ["list(append)+dict()+str()"] * 3 + [MERGE]


def test_what_cloud_init_would_mangle_in_a_part_without_an_encoding_is_encoded() -> None:
    base = (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n'
        "Content-Type: text/x-shellscript\n\n#!/bin/sh\necho 日本\n\n--b--\n"
    )
    assert parts(render(SPEC, base.encode()))[0] == (mime.SCRIPT, "#!/bin/sh\necho 日本\n".encode())


def test_an_empty_base_changes_nothing() -> None:
    assert render(SPEC, b"#cloud-config\n# nothing yet\n") == render(SPEC, b"")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/default/etcd", "ETCD_DISCOVERY=https://d/x"),  # it is taken out of the environment
        ("/etc/default/etcd", "# ETCD_NAME=x"),
        ("/etc/default/etcd", "DAEMON_ARGS=--snapshot-count=5 --initial-election-tick-advance"),
        (f"{UNIT_PATH}.d/20-cloudinit.conf", "Environment=ETCD_NAME=x"),  # ours comes after it
        (UNIT_PATH, "Environment=ETCD_NAME=%H"),
        ("/etc/default/other", "ETCD_NAME=x"),
    ],
)
def test_the_user_s_settings_of_etcd_stay_where_they_do_no_harm(path: str, content: str) -> None:
    base = files_of(path, f'content: "{content}"').encode()
    assert parts(render(SPEC, base))[0][1] == base


def files_of(path: str, more: str) -> str:
    return f"#cloud-config\nwrite_files: [{{path: {path}, {more}}}]\n"


REFUSED = {
    "#cloud-config\n- a\n": "is no mapping of keys",
    "#cloud-config\na: [\n": "is no YAML at line",
    "#cloud-config\na:\n\t- b\n": "is no YAML at line 3",
    "#cloud-config\npackages: [jq]\nruncmd: []\npackages: [vim]\n": "has the key packages twice",
    "#cloud-config\na: 1\n---\nb: 2\n": "is no YAML at line 3",
    "#cloud-config\na: !mine b\n": "has the tag !mine at line 2",
    "#cloud-config\na: 2026-99-99\n": "has a value that cloud-init cannot read",
    "#cloud-config\npackages: jq\n": "has packages, but not as a list",
    "#cloud-config\npackages:\n": "has packages, but not as a list",
    "#cloud-config\nwrite_files: {path: /a}\n": "has write_files, but not as a list",
    "#cloud-config\nwrite_files: [a]\n": "an entry in write_files without a path",
    "#cloud-config\ncloud_final_modules: []\n": "has cloud_final_modules, which may leave out what starts etcd",
    files_of(DROP_IN_PATH, "content: a"): f"writes {DROP_IN_PATH}, which is the member's own",
    files_of(f"/etc/../{PROFILE_PATH}", "content: a"): f"writes {PROFILE_PATH}, which is the member's own",
    files_of("/etc/default/etcd", "content: 'ETCD_NAME=x'"): "sets ETCD_NAME in /etc/default/etcd",
    files_of("/etc/default/etcd", "encoding: b64, content: eA=="): "writes /etc/default/etcd not as plain content",
    files_of(f"{UNIT_PATH}.d/zz.conf", 'content: "[Service]\\nEnvironment=ETCD_DATA_DIR=/x"'): "sets ETCD_DATA_DIR in",
    files_of("/etc/default/etcd", "content: 'DAEMON_ARGS=--discovery=https://d/x'"): "sets --discovery in",
    files_of("/run/systemd/system/etcd2.service.d/1.conf", "content: 'ExecStart=etcd -name x'"): "sets -name in",
    "Content-Type: text/plain\n\nhello\n": "cannot be merged, the first line 'Content-Type: text/plain'",
    "hello\n": "cannot be merged, the first line 'hello'",
    "\ufeff#cloud-config\n": "cannot be merged, the first line",
    "#include\nhttps://x/y\n": "cannot be merged, #include",
    "#cloud-config-archive\n- a\n": "cannot be merged, #cloud-config-archive",
    "#part-handler\n": "cannot be merged, #part-handler",
    "## template: jinja\n#cloud-config\n": "cannot be merged, jinja template",
    "MIME-Version: 1.0\nContent-Type: text/cloud-config\n\n#cloud-config\n": "but is not multi-part",
}  # fmt: skip


@pytest.mark.parametrize(("base", "sentence"), REFUSED.items())
def test_what_cannot_be_merged_is_refused_in_one_sentence(base: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        render(SPEC, base.encode())
    assert len(str(refused.value)) < REASON_LIMIT


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (b"#!/bin/sh\n\xff", "is not UTF-8 at its byte 10"),
        (multipart("#cloud-config\na: [\n"), "is no YAML at line"),
        (multipart("a: 1\na: 2\n"), "has the key a twice"),
        (multipart(("https://x", "x-include-url")), "cannot be merged, text/x-include-url"),
        (
            multipart("a: 1\n", X_Merge_Type="list()").replace(b"list()", "é".encode()),
            "X-Merge-Type that is not ASCII",
        ),
        (multipart(("GIF", "plain")), "cannot be merged, the first line 'GIF'"),
        (multipart("a: 1\n", encode=lambda text: text[:-6]), "is damaged multi-part MIME: "),
        (
            multipart("a: b\n").replace(b"7bit", b"base64").replace(b"a: b", base64.b64encode(b"\xff")),
            r"a part of BaseUserData \(text/cloud-config\) is not UTF-8",
        ),
    ],
)
def test_what_a_multi_part_document_cannot_have_is_refused_too(base: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        render(SPEC, base)


@pytest.mark.parametrize(
    "package",
    ["etcd", "etcd-server=3.5", "[etcd-server, 3.5]", "{apt: [etcd-server]}", "{apt: [[etcd-server, 3.5]]}"],
)
def test_a_release_beside_the_package_is_refused(package: str) -> None:
    base = f"#cloud-config\npackages: [jq, {package}]\n".encode()
    with pytest.raises(InvalidRequest, match="installs the package etcd"):
        render(replace(SPEC, release=RELEASE), base)
    assert base in render(SPEC, base)


def test_with_a_release_the_user_s_commands_must_be_a_list() -> None:
    base = b"#cloud-config\nruncmd: ls\n"
    with pytest.raises(InvalidRequest, match="has runcmd, but not as a list"):
        render(replace(SPEC, release=RELEASE), base)
    assert base in render(SPEC, base)
