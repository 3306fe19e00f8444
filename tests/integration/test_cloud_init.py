"""The dialect cloud-init, judged by cloud-init and systemd themselves, and by machines that boot from it.

Debian 12 has cloud-init 22.4 and systemd 252, Debian 13 25.1 and 257.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import platform
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etcd_resize import userdata
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import (
    BUNDLE_FILES,
    BUNDLE_FOLDER,
    REVOKED_FILE,
    REVOKED_KEY,
    Bundle,
    MemberSpec,
    Release,
)
from etcd_resize.userdata import mime
from etcd_resize.userdata.cloud_init import (
    DROP_IN_PATH,
    INSTALLER_PATH,
    PACKAGES,
    UNIT_PATH,
    fetching,
    render,
)
from etcd_resize.userdata.etcdctl import PROFILE_PATH
from playground import containers, network, tree
from playground.cloud.userdata import InvalidUserData, read
from playground.network import Network
from tests.support.etcd import program
from tests.support.tls import Issuer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

RELEASES = ("bookworm", "trixie")
SUPPORT = Path(__file__).parents[1] / "support"
HEALTHY = ("sh", "-lc", "etcdctl endpoint health")
"""In a login shell, as a person has it: no endpoint is named."""


def spec(address: str, **more: Any) -> MemberSpec:
    """A member that bootstraps a cluster of its own."""
    identity = Identity("etcd", "etcd-1", address, tls="bundle" in more)
    return MemberSpec(identity, (("etcd-1", identity.peer_url),), "new", "token", **more)


@pytest.fixture(scope="module", autouse=True)
def _containers() -> None:
    if lacking := tree.missing():
        pytest.skip(lacking)


@pytest.fixture(params=RELEASES, scope="module")
def debian(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with network.scratch(tmp_path) as made:
        yield made


@dataclass
class Server:
    """Serves files at the host's address in a network; each refuses so many times first."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, path: str, content: bytes) -> str:
        """Serve the content there."""
        self.files[path] = content
        return f"http://{self.address}/{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.strip("/").partition("?")[0]
        self.asked.append(path)
        refused = self.refusals.get(path, 0) >= self.asked.count(path)
        content = b"" if refused else self.files[path]
        handler.send_response(503 if refused else 200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def server(net: Network) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((net.gateway, 0), Handler) as listening:
        made = Server(f"{net.gateway}:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            listening.shutdown()
            thread.join()


def environment(machine: containers.Container) -> dict[str, str]:
    """What the machine's etcd was started with."""
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", "etcd").strip()
    pairs = [text.partition("=") for text in machine.run("cat", f"/proc/{pid}/environ").split("\0")]
    return {name: value for name, _, value in pairs if name.startswith("ETCD_")}


def log(machine: containers.Container) -> str:
    """What cloud-init, and what it started, had to say."""
    return (machine.upper / "var/log/cloud-init-output.log").read_text()


def settle(machine: containers.Container) -> None:
    """Until cloud-init is through; it complains of what a container lacks, so its status says nothing."""
    machine.run("cloud-init", "status", "--wait", check=False)


def never_started(machine: containers.Container) -> bool:
    settle(machine)
    return machine.run("systemctl", "is-active", "etcd", check=False).strip() in {"inactive", "unknown"} and (
        not (machine.upper / "var/lib/etcd").exists()
    )


# --- a machine of each Debian: gzipped, its member's life, and the judges on it ---


@pytest.fixture(scope="module")
def machine(debian: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[containers.Container]:
    """It boots from a gzipped document, and has the judge."""
    folder = tmp_path_factory.mktemp(debian)

    def prepare(root: Path) -> None:
        shutil.copy(SUPPORT / "cloud_init_judge.py", root / "root/judge.py")

    with network.scratch(folder) as made:
        document = gzip.compress(render(spec(f"{made.prefix}.1.11"), b""), mtime=0)
        with containers.boot(document, folder=folder, release=debian, within=made, prepare=prepare) as booted:
            booted.until(*HEALTHY)
            settle(booted)
            yield booted


def test_it_boots_from_gzip_with_exactly_the_member_s_environment(machine: containers.Container) -> None:
    wanted = spec(machine.address).environment()
    found = environment(machine)
    assert {name: found.get(name) for name in wanted} == wanted
    assert set(found) - set(wanted) == {"ETCD_UNSUPPORTED_ARCH"}


def test_systemd_s_architecture_is_the_one_that_etcd_goes_by(machine: containers.Container) -> None:
    """etcd 3.4 starts on arm64 only if the variable says so; elsewhere it does not look."""
    names = {"x86_64": "x86-64", "aarch64": "arm64"}
    assert environment(machine)["ETCD_UNSUPPORTED_ARCH"] == names[platform.machine()]


def test_a_reboot_keeps_the_member_and_its_data(machine: containers.Container) -> None:
    listed = machine.run("sh", "-lc", "etcdctl put before reboot >/dev/null; etcdctl member list")
    machine.reboot()
    machine.until(*HEALTHY)
    assert machine.run("sh", "-lc", "etcdctl get --print-value-only before") == "reboot\n"
    assert machine.run("sh", "-lc", "etcdctl member list") == listed
    settle(machine)


RELEASE = Release("https://mirror/etcd.tar.gz", "5" * 64)
SCRIPT = "#!/bin/sh\r\necho 'h\xe9llo \U0001f30a'\n\n"
CONFIG = (
    "#cloud-config\npackages: [jq]\nruncmd: [[ls, '日本']]\nwrite_files: [{path: /a, content: \"x\\n\"}]\n"
)
BUNDLE = Bundle("https://bucket/bundle?X-Amz-Signature=a%2Fb&x=$y", "5" * 64)
SAMPLES = {
    "with certificates": (spec("10.0.0.2", bundle=BUNDLE, peers="etcd-member"), ""),
    "plain": (spec("10.0.0.2"), ""),
    "release": (spec("10.0.0.2", release=RELEASE), ""),
    "merged": (spec("10.0.0.2"), CONFIG),
    "merged with a release": (spec("10.0.0.2", release=RELEASE), CONFIG),
    "with a script": (spec("10.0.0.2"), SCRIPT),
}


def put(machine: containers.Container, content: bytes, path: str) -> None:
    (machine.upper / path).write_bytes(content)


def parts_of(document: bytes) -> list[bytes]:
    """The cloud-configs in a document: `cloud-init schema` reads no MIME, not even that of 25.1."""
    return [part.text.encode() for part in mime.read(document) if part.kind == mime.CLOUD_CONFIG]


@pytest.mark.parametrize("sample", SAMPLES)
def test_cloud_init_schema_accepts(machine: containers.Container, sample: str) -> None:
    member, base = SAMPLES[sample]
    for number, checked in enumerate(parts_of(render(member, base.encode()))):
        put(machine, checked, f"root/{number}.yaml")
        said = machine.run("cloud-init", "schema", "--config-file", f"/root/{number}.yaml")
        assert "valid" in said.lower(), said
        assert "invalid" not in said.lower(), said


def judged(machine: containers.Container, document: bytes) -> dict[str, Any]:
    put(machine, document, "root/user-data")
    answer: dict[str, Any] = json.loads(machine.run("python3", "/root/judge.py", "/root/user-data"))
    return answer


SAFE = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], include_characters="\t\n")
"""systemd ignores a variable with any other control character in it."""
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
SPECS = st.builds(
    lambda name, state, token, value, release: MemberSpec(
        Identity("etcd", name, "10.0.0.2"),
        (("etcd-1", "http://10.0.0.1:2380"), (name, "http://10.0.0.2:2380")),
        state,
        token,
        settings=(("ETCD_X", value),),
        release=RELEASE if release else None,
    ),
    NAMES,
    st.sampled_from(["new", "existing"]),
    NAMES,
    st.text(SAFE),
    st.booleans(),
)
FILES = st.lists(
    st.fixed_dictionaries(
        {"path": st.from_regex(r"/srv/[a-z]{1,5}", fullmatch=True), "content": st.text(SAFE)}
    ),
    min_size=1,
    max_size=3,
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "packages": st.lists(st.sampled_from(["jq", "curl", "vim"]), min_size=1, unique=True),
        "write_files": FILES,
        "runcmd": st.lists(st.sampled_from(["exit 1", "true"]), min_size=1),
        "package_update": st.booleans(),
        "fqdn": st.just("x.example"),
    },
)
SCRIPTS = st.text(SAFE).map(lambda text: f"#!/bin/sh\n{text}")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(member=SPECS, theirs=st.one_of(st.none(), CONFIGS, SCRIPTS))
def test_what_is_rendered_gives_back_the_same_member_and_keeps_what_is_the_user_s(
    machine: containers.Container, member: MemberSpec, theirs: dict[str, Any] | str | None
) -> None:
    config: Mapping[str, Any] = theirs if isinstance(theirs, dict) else {}
    base = theirs if isinstance(theirs, str) else f"#cloud-config\n{yaml.safe_dump(theirs)}" if theirs else ""
    found = judged(machine, render(member, base.encode()))
    assert found["complaints"] == []
    merged = found["config"]
    ours = [DROP_IN_PATH, PROFILE_PATH, *([UNIT_PATH, INSTALLER_PATH] if member.release else [])]
    assert [file["path"] for file in merged["write_files"][: len(ours)]] == ours
    assert merged["write_files"][len(ours) :] == config.get("write_files", [])
    installed = [] if member.release else list(PACKAGES)
    assert merged.get("packages", []) == installed + config.get("packages", [])
    started = [[INSTALLER_PATH, RELEASE.url, RELEASE.sha256]] if member.release else []
    assert merged.get("runcmd", []) == started + config.get("runcmd", [])
    assert merged.get("fqdn") == config.get("fqdn")
    assert found["others"] == ([["text/x-shellscript", theirs]] if isinstance(theirs, str) else [])
    architecture = found["environment"].pop("ETCD_UNSUPPORTED_ARCH")
    assert architecture
    # what the unit's own file sets beside ours stays; what would make it another etcd is gone
    assert found["environment"] == {**member.environment(), "ETCD_TICK": "100"}


def test_line_ends_and_unicode_of_a_script_arrive_as_they_were(machine: containers.Container) -> None:
    found = judged(machine, render(spec("10.0.0.2"), SCRIPT.encode()))
    assert found["others"] == [["text/x-shellscript", SCRIPT]]


# --- the user's own document takes effect, and so does ours ---

OWN_PACKAGE = """\
Package: hello-base
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: a package of the user's
"""
BASE = """\
#cloud-config
packages: [hello-base]
package_update: false
write_files:
- path: /etc/hello
  content: "h\u00e9llo"
- path: /etc/default/etcd
  content: |
    ETCD_DISCOVERY=https://discovery.etcd.io/none
    ETCD_SNAPSHOT_COUNT=777
- path: /etc/systemd/system/etcd.service.d/20-cloudinit.conf
  content: |
    [Service]
    Environment=ETCD_DISCOVERY=https://discovery.etcd.io/none
    Environment=ETCD_NAME=other
runcmd:
- sh -lc 'etcdctl endpoint health' >/root/ran 2>&1
- exit 3
"""


def with_own_package(root: Path) -> None:
    """A second repository on the machine, with one package in it."""
    repository = root / "srv/own"
    package = root / "srv/hello-base"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(OWN_PACKAGE)
    repository.mkdir()
    built = repository / "hello-base_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(package), str(built)], check=True, capture_output=True)
    content = built.read_bytes()
    (repository / "Packages").write_text(
        f"{OWN_PACKAGE}Filename: ./{built.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    )
    (root / "etc/apt/sources.list.d/own.list").write_text("deb [trusted=yes] file:/srv/own ./\n")


def test_the_user_s_packages_files_and_commands_take_effect_and_their_discovery_goes(
    debian: str, net: Network, tmp_path: Path
) -> None:
    member = spec(f"{net.prefix}.1.11")
    document = render(member, BASE.encode())
    with containers.boot(
        document, folder=tmp_path, release=debian, within=net, prepare=with_own_package
    ) as machine:
        machine.until(*HEALTHY)
        settle(machine)
        assert machine.run("cat", "/etc/hello") == "h\u00e9llo"
        assert "is healthy" in machine.run(
            "cat", "/root/ran"
        )  # our etcd was there before the user's commands
        assert "install ok installed" in machine.run("dpkg-query", "--status", "hello-base")
        found = environment(machine)
    wanted = {**member.environment(), "ETCD_SNAPSHOT_COUNT": "777"}
    assert {name: found.get(name) for name in wanted} == wanted
    assert "ETCD_DISCOVERY" not in found


def test_without_the_unset_line_that_discovery_breaks_the_member(net: Network, tmp_path: Path) -> None:
    """What the line is for: etcd refuses discovery beside an initial cluster."""
    document = render(spec(f"{net.prefix}.1.11"), BASE.encode())
    broken = b"".join(line for line in document.splitlines(keepends=True) if b"UnsetEnvironment" not in line)
    with containers.boot(broken, folder=tmp_path, within=net, prepare=with_own_package) as machine:
        machine.until("sh", "-c", "journalctl -u etcd | grep 'multiple discovery or bootstrap flags are set'")


# --- a release ---


def archive(folder: Path) -> bytes:
    """As etcd's own releases are: etcd-vX-linux-ARCH.tar.gz, all in a folder of that name."""
    name = "etcd-v3.5.1-linux-amd64"
    etcd = program("3.5")
    (folder / "README.md").write_text("not a program")
    path = folder / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as made:
        made.add(folder / "README.md", f"{name}/README.md")
        for binary in ("etcd", "etcdctl"):
            made.add(etcd.parent / binary, f"{name}/{binary}")
    return path.read_bytes()


def test_a_release_is_fetched_again_if_it_must_be_verified_installed_and_outlives_a_reboot(
    debian: str, net: Network, server: Server, tmp_path: Path
) -> None:
    packed = archive(tmp_path)
    server.refusals["etcd.tar.gz"] = 1
    release = Release(server.url("etcd.tar.gz", packed), hashlib.sha256(packed).hexdigest())
    member = spec(f"{net.prefix}.1.11", release=release)
    base = b"#cloud-config\nruncmd:\n- sh -lc 'etcdctl endpoint health' >/root/ran 2>&1\n- exit 3\n"
    with containers.boot(render(member, base), folder=tmp_path, release=debian, within=net) as machine:
        machine.until(*HEALTHY)
        settle(machine)
        assert server.asked == ["etcd.tar.gz"] * 2
        assert "is healthy" in machine.run("cat", "/root/ran")
        found = environment(machine)
        assert {name: found.get(name) for name in member.environment()} == member.environment()
        assert "3.5" in machine.run("/usr/local/bin/etcd", "--version")
        assert machine.run("stat", "-c", "%U %a", "/var/lib/etcd/default") == "etcd 700\n"
        assert not (machine.upper / "usr/bin/etcd").exists()
        machine.run("sh", "-lc", "etcdctl put before reboot")
        machine.reboot()
        machine.until(*HEALTHY)
        assert machine.run("sh", "-lc", "etcdctl get --print-value-only before") == "reboot\n"
        assert server.asked == ["etcd.tar.gz"] * 2


def test_a_release_with_another_checksum_is_not_unpacked_and_says_so_in_one_line(
    debian: str, net: Network, server: Server, tmp_path: Path
) -> None:
    url = f"{server.url('etcd.tar.gz', archive(tmp_path))}?signature=secret"
    member = spec(f"{net.prefix}.1.11", release=Release(url, "0" * 64))
    with containers.boot(render(member, b""), folder=tmp_path, release=debian, within=net) as machine:
        assert never_started(machine)
        said = [line for line in log(machine).splitlines() if "etcd-resize" in line]
        digest = hashlib.sha256(server.files["etcd.tar.gz"]).hexdigest()
        bare = url.partition("?")[0]
        assert said == [f"etcd-resize: no etcd from {bare}: its sha256 is {digest}, wanted {'0' * 64}"]
        assert said[0] in machine.console.read_text()
        assert list((machine.upper / "usr/local/bin").iterdir()) == []


# --- a member's key and certificates ---


def test_a_bundle_is_fetched_once_belongs_to_etcd_and_the_revoked_are_taken_from_the_cluster(
    debian: str, net: Network, server: Server, tmp_path: Path
) -> None:
    address = f"{net.prefix}.1.11"
    issuer = Issuer("etcd", tmp_path / "authority")
    files = issuer.files(Identity("etcd", "etcd-1", address))
    packed = json.dumps({name: (files / name).read_text() for name in BUNDLE_FILES}).encode()
    url = f"{server.url('bundle', packed)}?X-Amz-Signature=a%2Fb&x=$y"
    member = spec(address, bundle=Bundle(url, hashlib.sha256(packed).hexdigest()), peers="etcd-member")
    server.refusals["bundle"] = 1
    with containers.boot(render(member, b""), folder=tmp_path, release=debian, within=net) as machine:
        machine.until(*HEALTHY, patience=60)
        listed = machine.run("sh", "-c", f"stat --format '%n %U %a' {BUNDLE_FOLDER}/*").splitlines()
        assert sorted(listed) == sorted(f"{BUNDLE_FOLDER}/{name} etcd 600" for name in BUNDLE_FILES)
        assert machine.run("systemctl", "is-active", "etcd-revoked.timer").strip() == "active"
        machine.reboot()
        machine.until(*HEALTHY)
        assert server.asked == ["bundle"] * 2, "refused, then fetched, and not again after the reboot"
        revoked = issuer.revoke("etcd-1").strip()
        (machine.upper / "root/revoked").write_text(revoked)
        machine.run("sh", "-lc", f"etcdctl put {REVOKED_KEY} </root/revoked")
        machine.run("systemctl", "start", "etcd-revoked.service")
        assert machine.run("cat", f"{BUNDLE_FOLDER}/{REVOKED_FILE}").strip() == revoked
        assert machine.run("sh", "-lc", "etcdctl endpoint health 2>&1 || true").find("is healthy") < 0


def test_a_bundle_with_another_checksum_is_not_used_and_etcd_does_not_start(
    net: Network, server: Server, tmp_path: Path
) -> None:
    url = f"{server.url('bundle', b'{}')}?X-Amz-Signature=secret"
    member = spec(f"{net.prefix}.1.11", bundle=Bundle(url, "0" * 64))
    with containers.boot(render(member, b""), folder=tmp_path, within=net) as machine:
        bare, digest = url.partition("?")[0], hashlib.sha256(b"{}").hexdigest()
        wanted = f"no certificates from {bare}: its sha256 is {digest}, wanted {'0' * 64}"
        machine.until("sh", "-c", f"journalctl --unit etcd | grep -qF '{wanted}'", patience=60)
        assert not (machine.upper / "var/lib/etcd/default/member").exists()


# --- what did not fit is fetched ---

LARGE = mime.write(
    [
        mime.Part(mime.CLOUD_CONFIG, f"{BASE}# {base64.b64encode(bytes(range(256)) * 60).decode()}\n"),
        mime.Part(mime.BOOTHOOK, "#cloud-boothook\n#!/bin/sh\necho early >>/root/order\n"),
        mime.Part(mime.SCRIPT, "#!/bin/sh\necho late >>/root/order\n"),
    ]
)
"""More than EC2 takes."""


def test_a_large_document_is_fetched_verified_and_used_as_if_it_had_been_there(
    debian: str, net: Network, server: Server, tmp_path: Path
) -> None:
    member = spec(f"{net.prefix}.1.11")
    large = render(member, LARGE)
    assert len(large) > userdata.USER_DATA_LIMIT
    server.refusals["large"] = 1
    url = f"{server.url('large', large)}?X-Amz-Signature=secret"
    short = base64.b64decode(
        userdata.encode("cloud-init", userdata.fetching("cloud-init", url, large), 1600)  # gzipped
    )
    with containers.boot(
        short, folder=tmp_path, release=debian, within=net, prepare=with_own_package
    ) as machine:
        machine.until(*HEALTHY)
        settle(machine)
        assert server.asked == ["large"] * 2
        assert machine.run("cat", "/etc/hello") == "h\u00e9llo"
        assert "is healthy" in machine.run("cat", "/root/ran")
        order = machine.run("uniq", "/root/order").split()
        assert order == ["early", "late"]
        assert "install ok installed" in machine.run("dpkg-query", "--status", "hello-base")
        found = environment(machine)
        assert {name: found.get(name) for name in member.environment()} == member.environment()
        before = machine.run("cat", "/var/lib/cloud/instance/cloud-config.txt")
        assert "hello-base" in before
        machine.run("sh", "-lc", "etcdctl put before reboot")
        machine.reboot()  # the URL is no longer needed: it would have expired
        machine.until(*HEALTHY)
        settle(machine)
        assert machine.run("sh", "-lc", "etcdctl get --print-value-only before") == "reboot\n"
        assert machine.run("cat", "/var/lib/cloud/instance/cloud-config.txt") == before
        assert server.asked == ["large"] * 2
        kept = machine.run("sh", "-c", "stat -Lc %a /var/lib/cloud/instance/etcd-resize")
        assert kept == "600\n"  # it may hold the user's secrets


def test_a_large_document_with_another_checksum_is_not_used_and_says_so_in_one_line(
    debian: str, net: Network, server: Server, tmp_path: Path
) -> None:
    large = render(spec(f"{net.prefix}.1.11"), LARGE)
    url = f"{server.url('large', large)}?X-Amz-Signature=secret"
    with containers.boot(
        fetching(url, "0" * 64), folder=tmp_path, release=debian, within=net, prepare=with_own_package
    ) as machine:
        assert never_started(machine)
        said = [line for line in log(machine).splitlines() if "etcd-resize: " in line]
        digest = hashlib.sha256(large).hexdigest()
        bare = url.partition("?")[0]
        assert len(said) == 1
        assert said[0].endswith(f"no UserData from {bare}: its sha256 is {digest}, wanted {'0' * 64}")
        assert said[0].partition("etcd-resize: ")[2] in machine.console.read_text()
        assert not (machine.upper / "etc/hello").exists()
        machine.reboot()
        settle(machine)
        with contextlib.suppress(FileNotFoundError):
            assert not list((machine.upper / "var/lib/etcd").iterdir())
        assert server.asked == ["large"]


def test_a_process_machine_cannot_fetch_and_says_so() -> None:
    with pytest.raises(InvalidUserData, match="the first line is not #cloud-config"):
        read(fetching("https://b/x", "0" * 64))
