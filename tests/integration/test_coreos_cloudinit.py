"""coreos-cloudinit's documents on real etcd 3.4, the script that fetches one, and both on machines that play CoreOS.

There is no image of CoreOS here. What plays it is Debian 13 and its real systemd, with CoreOS's ``etcd2.service``, the
etcd of Debian 12 as its binary, and ``tests/support/coreos.py`` as its coreos-cloudinit, run at every boot.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from etcd_resize import service, userdata
from etcd_resize.model.cluster import ClusterView, hex_id
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import client_url, peer_url
from etcd_resize.request import parse
from etcd_resize.userdata.coreos_cloudinit import KEPT_PATH, RESTORE_PATH, RESTORED_UNIT, fetching
from playground import containers, network, tree
from tests.integration.test_partitions import Apart, EtcdApart
from tests.support import coreos
from tests.support.by_hand import Stack
from tests.support.etcd import Etcd, program, view, wait_healthy
from tests.support.namespaces import Network
from tests.support.waiting import wait_until
from tests.unit.test_userdata_coreos import BASE, render

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CLOUDINIT_PATH = "/run/systemd/system/etcd2.service.d/20-cloudinit.conf"
AS_COREOS = {"Dialect": "coreos-cloudinit", "BaseUserData": base64.b64encode(BASE).decode()}

# --- the environment alone -----------------------------------------------------------------------------


class Derived(Apart):
    """Every member is started with exactly the variables that coreos-cloudinit derives from its document."""

    def create_member(self, number: int, **changes: str) -> dict[str, str]:
        return super().create_member(number, **AS_COREOS, **changes)

    def boot(self, answer: dict[str, str]) -> None:
        applied = coreos.read(base64.b64decode(answer["UserData"]), {"private_ipv4": "10.0.0.1"})
        content, _ = applied.files[CLOUDINIT_PATH]
        self.machines.append(EtcdApart(self.network, self.etcd, self.folder, coreos.variables(content)))


def test_etcd_joins_with_exactly_the_variables_that_coreos_cloudinit_derives(tmp_path: Path) -> None:
    with Network() as apart:
        stack = Derived(program("3.4"), tmp_path, apart)
        try:
            stack.grow(1)
            stack.grow(3)
            stack.wait_whole(3)
            seen = stack.look()
        finally:
            stack.stop()
    assert {member.name: member.client_urls for member in seen.voters} == {
        f"etcd-{number}": (client_url(stack.addresses[number - 1]),) for number in (1, 2, 3)
    }


# --- the script that fetches ---------------------------------------------------------------------------


class Server:
    """A server, on the loopback by default; ``refusals`` requests are answered with 503 before it serves.

    It also plays EC2's metadata service, which knows the machine's own address if there is one.
    """

    def __init__(self, body: bytes, refusals: int, address: str = "127.0.0.1") -> None:
        self.body, self.refusals, self.asked, self.address = body, refusals, 0, b"172.31.22.9"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/meta-data/" in self.path:
                    known = self.headers["X-aws-ec2-metadata-token"] == "token" and "local" in self.path
                    self.answer(200 if known else 404, outer.address if known else b"")
                    return
                outer.asked += 1
                refused = outer.asked <= outer.refusals
                self.answer(503 if refused else 200, b"" if refused else outer.body)

            def do_PUT(self) -> None:
                right = (
                    self.path.endswith("/api/token") and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                )
                self.answer(200 if right else 400, b"token" if right else b"")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_port}/user data?it's&a=$HOME".replace(" ", "%20")
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], Server]]:
    if not shutil.which("curl"):
        pytest.skip("the script that fetches needs curl")
    started: list[Server] = []

    def start(body: bytes, refusals: int) -> Server:
        started.append(Server(body, refusals))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def run(server: Server, sha256: str, folder: Path) -> tuple[int, str]:
    """Run the script with real bash, curl and sha256sum, and a coreos-cloudinit that records what it gets."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    recorded = f'echo "$* $COREOS_PRIVATE_IPV4 $COREOS_PUBLIC_IPV4" > {folder}/arguments'
    for name, text in {
        "coreos-cloudinit": f'#!/bin/sh\n{recorded}; cp "${{1#--from-file=}}" {folder}/got\n',
        "sleep": f'#!/bin/sh\necho "$1" >> {folder}/slept\n',
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = fetching(server.url, sha256)
    assert script.startswith(b"#!/bin/bash\n")
    for real, ours in {
        KEPT_PATH: str(kept_in(folder)),
        "http://169.254.169.254": server.url.rpartition("/")[0],
        "/etc/environment": str(folder / "environment"),
    }.items():
        assert real.encode() in script
        script = script.replace(real.encode(), ours.encode())
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": "/wrong"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def kept_in(folder: Path) -> Path:
    return folder / "kept/user-data"


def test_the_script_fetches_the_document_and_hands_it_over(
    serve: Callable[[bytes, int], Server], tmp_path: Path
) -> None:
    document = render(BASE)
    server = serve(document, 3)
    sha256 = hashlib.sha256(document).hexdigest()
    assert run(server, sha256, tmp_path)[0] == 0
    assert (tmp_path / "got").read_bytes() == document
    assert (tmp_path / "arguments").read_text() == f"--from-file={kept_in(tmp_path)} 172.31.22.9 \n"
    assert (tmp_path / "slept").read_text() == "5\n5\n5\n"
    assert server.asked == 4
    assert stat.S_IMODE(kept_in(tmp_path).stat().st_mode) == 0o600


def test_the_script_has_the_machines_addresses_for_the_document(
    serve: Callable[[bytes, int], Server], tmp_path: Path
) -> None:
    """coreos/bugs#1865: started from a script, coreos-cloudinit put nothing in the place of ``$private_ipv4``."""
    document = render(BASE)
    assert b"$private_ipv4" in document
    server, sha256 = serve(document, 0), hashlib.sha256(document).hexdigest()
    (tmp_path / "environment").write_text(
        "PATH=/x\nTEXT=a b\nCOREOS_PRIVATE_IPV4=10.0.0.1\nCOREOS_PUBLIC_IPV4=52.1.2.3\nCOREOS_X=$(touch x)\n"
    )
    assert run(server, sha256, tmp_path) == (0, "")
    assert (tmp_path / "arguments").read_text().endswith("user-data 10.0.0.1 52.1.2.3\n")

    (tmp_path / "environment").unlink()
    server.address = b""
    assert run(server, sha256, tmp_path) == (1, "no address to fill in\n")


def test_at_the_next_boot_the_script_has_the_document(
    serve: Callable[[bytes, int], Server], tmp_path: Path
) -> None:
    document = render(BASE)
    server = serve(document, 0)
    sha256 = hashlib.sha256(document).hexdigest()
    assert run(server, sha256, tmp_path)[0] == 0
    (tmp_path / "got").unlink()
    assert run(server, sha256, tmp_path)[0] == 0
    assert (tmp_path / "got").read_bytes() == document
    assert server.asked == 1

    kept_in(tmp_path).write_bytes(b"#cloud-config\nhostname: half")
    assert run(server, sha256, tmp_path)[0] == 0
    assert (tmp_path / "got").read_bytes() == document
    assert server.asked == 2


def test_the_script_refuses_another_document(serve: Callable[[bytes, int], Server], tmp_path: Path) -> None:
    server = serve(b"#cloud-config\nhostname: evil\n", 0)
    status, said = run(server, hashlib.sha256(render()).hexdigest(), tmp_path)
    assert (status, said) == (1, "what was fetched has another sha256\n")
    assert not (tmp_path / "got").exists()
    assert server.asked == 1


def test_the_script_gives_up_after_ten_minutes(serve: Callable[[bytes, int], Server], tmp_path: Path) -> None:
    server = serve(b"", 1_000)
    status, said = run(server, "0" * 64, tmp_path)
    assert status == 1
    assert "503" in said
    assert not (tmp_path / "got").exists()
    assert sum(map(int, (tmp_path / "slept").read_text().split())) == 119 * 5


# --- machines ------------------------------------------------------------------------------------------

ETCD_UID = 232
UNITS = {
    "etcd2.service": """\
[Unit]
Description=etcd2
Conflicts=etcd.service

[Service]
User=etcd
Type=notify
Environment=ETCD_DATA_DIR=/var/lib/etcd2
Environment=ETCD_NAME=%m
ExecStart=/usr/bin/etcd2
Restart=always
RestartSec=10s
LimitNOFILE=40000
TimeoutStartSec=0
""",
    "user-cloudinit.service": """\
[Unit]
Description=Load cloud-config from /srv/user-data
After=dbus.service

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=-/etc/environment
ExecStart=/usr/bin/coreos-cloudinit --from-file=/srv/user-data
""",
    "fleet.service": """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
""",
}
"""CoreOS's own unit of etcd, its unit that applies the UserData at every boot, and what stands for fleet."""


def coreos_files(root: Path, base: Path, document: bytes, address: str) -> None:
    """Make a Debian machine play CoreOS: ``root`` is what it sees as its /, ``base`` the tree below."""
    units = root / "usr/lib/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for name, text in UNITS.items():
        (units / name).write_text(text)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "user-cloudinit.service").symlink_to("/usr/lib/systemd/system/user-cloudinit.service")
    for name, line in {
        "passwd": f"etcd:x:{ETCD_UID}:{ETCD_UID}::/var/lib/etcd2:/usr/sbin/nologin\n",
        "group": f"etcd:x:{ETCD_UID}:\n",
    }.items():
        (root / "etc" / name).write_text((base / "etc" / name).read_text() + line)
    (root / "etc/environment").write_text(f"COREOS_PRIVATE_IPV4={address}\nCOREOS_PUBLIC_IPV4=\n")
    (root / "srv/user-data").write_bytes(document)
    shutil.copy(program("3.4"), root / "usr/bin/etcd2")
    cloudinit = root / "usr/bin/coreos-cloudinit"
    cloudinit.write_text("#!/usr/bin/python3\n" + Path(coreos.__file__).read_text())
    cloudinit.chmod(0o755)
    (root / "var/lib/etcd2").mkdir()
    os.chown(root / "var/lib/etcd2", ETCD_UID, ETCD_UID)


def once_a_proxy(root: Path, _address: str) -> None:
    """What a machine has kept of its life as a proxy: etcd becomes one again."""
    proxy = root / "var/lib/etcd2/proxy"
    proxy.mkdir()
    (proxy / "cluster").write_text('{"PeerURLs":["http://192.0.2.1:2380"]}')
    for path in (proxy, proxy / "cluster"):
        os.chown(path, ETCD_UID, ETCD_UID)


class Machines(Stack):
    """A stack whose machines are containers that play CoreOS."""

    def __init__(self, folder: Path, within: network.Network, ending: ExitStack) -> None:
        addresses = [f"{within.prefix}.1.{host}" for host in range(11, 14)]
        super().__init__(program("3.4"), folder, addresses)
        self.within, self.ending = within, ending
        self.booted: list[containers.Container] = []

    def send(self, sent: dict[str, Any]) -> dict[str, str]:
        return service.handle(self.outside, parse(sent), budget=90)

    def create_member(self, number: int, **changes: str) -> dict[str, str]:
        return super().create_member(number, **AS_COREOS, **changes)

    def create_voter(self, number: int, **changes: str) -> None:
        super().create_voter(number, TimeoutSeconds="80", **changes)

    def switch_on(
        self,
        document: bytes,
        more: Callable[[Path, str], None] = lambda _root, _address: None,
    ) -> containers.Container:
        """One more machine with that document; ``more`` may put files of its own into it."""
        number = len(self.booted) + 1
        address = self.addresses[number - 1]
        base = tree.find()

        def prepare(root: Path) -> None:
            coreos_files(root, base, document, address)
            more(root, address)

        self.booted.append(
            self.ending.enter_context(
                containers.boot(
                    b"#cloud-config\n{}\n",
                    folder=self.folder / str(number),
                    within=self.within,
                    host=10 + number,
                    prepare=prepare,
                )
            )
        )
        return self.booted[-1]

    def first(self) -> containers.Container:
        """The member that bootstraps the cluster."""
        machine = self.switch_on(document(self.create_member(1)))
        self.create_voter(1)
        return machine

    def look(self) -> ClusterView:
        return view([client_url(self.addresses[0])])

    def ids(self) -> set[str]:
        """Those of two voters that serve."""
        return {hex_id(member.id) for member in wait_healthy(self.endpoints(3).split(","), 2).voters}

    def wait_healthy(self, machine: containers.Container) -> None:
        wait_until(lambda: healthy(machine), f"{machine.address} is healthy", patience=40)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if lacking := tree.missing():
        pytest.skip(lacking)
    with ExitStack() as ending:
        within = ending.enter_context(network.scratch(tmp_path))
        yield Machines(tmp_path, within, ending)


def document(answer: dict[str, str]) -> bytes:
    return base64.b64decode(answer["UserData"])


def healthy(machine: containers.Container) -> bool:
    url = f"{client_url(machine.address)}/health"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 — http, by its definition
            return bool(json.load(answer)["health"] == "true")
    except OSError:
        return False


def show(machine: containers.Container, unit: str, *properties: str) -> dict[str, str]:
    said = machine.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
    return dict(line.split("=", 1) for line in said.splitlines())


def process_environment(machine: containers.Container) -> dict[str, str]:
    pid = show(machine, "etcd2.service", "MainPID")["MainPID"]
    said = machine.run("cat", f"/proc/{pid}/environ")
    return {
        name: value
        for name, _, value in (line.partition("=") for line in said.split("\0"))
        if name.startswith("ETCD_")
    }


def wait_removed(machine: containers.Container) -> None:
    machine.until("test", "!", "-e", RESTORE_PATH, patience=40)
    wait_until(
        lambda: show(machine, RESTORED_UNIT, "ActiveState")["ActiveState"] == "inactive",
        "the unit that removes it has ended",
    )
    assert RESTORE_PATH not in show(machine, "etcd2.service", "DropInPaths")["DropInPaths"]
    assert show(machine, "etcd2.service", "NeedDaemonReload", "NRestarts") == {
        "NeedDaemonReload": "no",
        "NRestarts": "0",
    }


def test_a_machine_writes_uses_and_removes_its_restore_drop_in_and_stays_a_member(machines: Machines) -> None:
    machines.first()
    answer = machines.create_member(2)
    machine = machines.switch_on(document(answer), once_a_proxy)
    machines.create_voter(2)

    machine.until("systemctl", "is-active", "etcd2.service", "fleet.service")
    wait_removed(machine)
    assert machine.run("ls", "/var/lib/etcd2").split() == ["member"]
    started = process_environment(machine)
    expected = coreos.environment(coreos.read(document(answer), {"private_ipv4": machine.address}).files)
    assert started == {**expected, "ETCD_DATA_DIR": "/var/lib/etcd2"}
    assert started["ETCD_DISCOVERY"] == ""  # still the process that was started with the drop-in

    machine.run("systemctl", "restart", "etcd2.service")
    machines.wait_healthy(machine)
    assert "ETCD_DISCOVERY" not in process_environment(machine)

    machine.reboot()
    machines.wait_healthy(machine)
    machine.until("systemctl", "is-active", "user-cloudinit.service")
    wait_removed(machine)
    assert process_environment(machine) == started  # the document was applied again
    assert machines.names(2) == ["etcd-1", "etcd-2"]
    assert answer["MemberId"] in machines.ids()


def test_a_machine_fetches_its_document_once_and_boots_from_it_ever_after(machines: Machines) -> None:
    whole = document(machines.create_member(1))
    server = Server(whole, refusals=1, address=machines.within.gateway)
    try:
        machine = machines.switch_on(userdata.fetching("coreos-cloudinit", server.url, whole))
        machines.create_voter(1)
    finally:
        server.stop()
    assert server.asked == 2
    wait_removed(machine)
    assert process_environment(machine)["ETCD_NAME"] == "etcd-1"

    machine.reboot()  # the server is gone
    machines.wait_healthy(machine)
    wait_removed(machine)
    assert machines.names(1) == ["etcd-1"]


@pytest.fixture
def discovery(machines: Machines) -> Iterator[str]:
    """The URL of a cluster of one, ``etcd-1``, in a discovery service: a real one, etcd with its old API."""
    gateway = machines.within.gateway
    spec = MemberSpec(Identity("found", "found", gateway), (("found", peer_url(gateway)),), "new", "found")
    served_by = Etcd(program("3.4"), machines.folder, {**spec.environment(), "ETCD_ENABLE_V2": "true"})
    url = f"{client_url(gateway)}/v2/keys/discovery/3e86b59982e49066c5d813af1c2e2579"
    try:
        wait_healthy([client_url(gateway)], 1)
        for key, value in {
            "_config/size": "1",
            "abc": f"etcd-1={peer_url(machines.addresses[0])}",
        }.items():
            put = urllib.request.Request(  # noqa: S310 — http, by its definition
                f"{url}/{key}", data=urllib.parse.urlencode({"value": value}).encode(), method="PUT"
            )
            with urllib.request.urlopen(put, timeout=5) as answer:  # noqa: S310 — the same
                assert answer.status == 201
        yield url
    finally:
        served_by.kill()


def test_a_machine_that_still_has_its_discovery_joins_with_the_restore_drop_in_and_not_without(
    machines: Machines, discovery: str
) -> None:
    """As by hand, in 2016: the cluster of the discovery URL is full, and the machine becomes a proxy of it."""
    first = machines.first()
    answer = machines.create_member(2)
    whole = document(answer)
    without = whole.replace(f'path: "{RESTORE_PATH}"'.encode(), b'path: "/run/elsewhere.conf"')
    assert without != whole

    def launched(root: Path, address: str) -> None:
        """What it was launched with; by its name it hides the one that coreos-cloudinit makes."""
        folder = root / "etc/systemd/system/etcd2.service.d"
        folder.mkdir(parents=True)
        (folder / "20-cloudinit.conf").write_text(coreos.drop_in(discovering(address, discovery)))

    machine = machines.switch_on(without, launched)
    machine.until("systemctl", "is-active", "etcd2.service", patience=60)
    assert process_environment(machine)["ETCD_DISCOVERY"] == discovery
    proxied = json.loads(machine.run("cat", "/var/lib/etcd2/proxy/cluster"))
    assert peer_url(machines.addresses[0]) in proxied["PeerURLs"]
    (learner,) = machines.look().learners
    assert not learner.started

    machine.run("systemctl", "stop", "etcd2.service")
    (machine.upper / "srv/user-data").write_bytes(whole)
    machine.run("systemctl", "restart", "user-cloudinit.service")
    machines.create_voter(2)
    wait_removed(machine)
    assert process_environment(machine)["ETCD_DISCOVERY"] == ""
    assert machine.run("ls", "/var/lib/etcd2").split() == ["member"]
    assert machines.names(2) == ["etcd-1", "etcd-2"]
    ids = machines.ids()
    assert answer["MemberId"] in ids

    machine.run("systemctl", "restart", "etcd2.service")
    assert process_environment(machine)["ETCD_DISCOVERY"] == discovery  # ignored: there is a member's data
    machines.wait_healthy(machine)
    assert machine.run("ls", "/var/lib/etcd2").split() == ["member"]
    assert machines.ids() == ids
    assert healthy(first)


def discovering(address: str, url: str) -> dict[str, str]:
    """The ancestor's ``20-cloudinit.conf``."""
    return {
        "advertise_client_urls": client_url(address),
        "discovery": url,
        "initial_advertise_peer_urls": peer_url(address),
        "listen_client_urls": "http://0.0.0.0:2379,http://0.0.0.0:4001",
        "listen_peer_urls": peer_url(address),
    }
