"""Ignition documents before the judges that read them on a machine: Ignition, systemd, Quadlet, and etcd itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.model.urls import peer_url
from etcd_resize.userdata import ignition
from tests.support.etcd import Etcd, HandMade, accepted, wait_healthy
from tests.support.ignition import (
    BASE,
    FEDORA,
    FLATCAR,
    FLATCAR_UNIT,
    GOLDEN,
    Machine,
    environment_in,
    etcd_variables,
    load,
    quadlet,
    settings_in,
    validate,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

LOCAL_BASE = json.dumps({**json.loads(BASE), "ignition": {"version": "3.1.0"}}).encode()
"""The user's document without what lies somewhere else."""

FLATCARS_OWN = {"ETCD_IMAGE_URL", "ETCD_IMAGE_TAG", "ETCD_USER", "ETCD_SSL_DIR"}

JUDGED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""A judge is a process or three an example."""


@pytest.fixture
def machines(tmp_path: Path) -> Callable[[], Machine]:
    """As many new machines as a test wants."""
    number = iter(range(1000))
    return lambda: Machine(tmp_path / f"machine-{next(number)}")


def flatcar_reads(machine: Machine) -> str:
    """What systemd makes of etcd-member.service on a Flatcar with the machine's tree."""
    own = machine.root / "usr/lib/systemd/system"
    own.mkdir(parents=True)
    (own / "etcd-member.service").write_text(FLATCAR_UNIT)
    (own / "coreos-metadata.service").write_text("[Service]\nExecStart=/usr/bin/true\n")
    return load("etcd-member.service", machine.root / "etc/systemd/system", own)


def fedora_reads(machine: Machine) -> str:
    """What systemd makes of the etcd.service that the generator makes on a Fedora CoreOS with the machine's tree."""
    generated = machine.root / "run/systemd/generator"
    generated.mkdir(parents=True)
    (generated / "etcd.service").write_text(quadlet(machine.root))
    return load("etcd.service", machine.root / "etc/systemd/system", generated)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode() for path in folder.iterdir()}


# --- Ignition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flatcar", "fedora", "merged"])
def test_ignition_validate_has_nothing_to_say_against_the_golden_documents(name: str) -> None:
    assert validate((GOLDEN / f"ignition-{name}.json").read_bytes()) == ""


def test_ignition_validate_has_something_to_say_against_a_wrong_one() -> None:
    assert "error" in validate(b'{"ignition": {"version": "3.3.0"}, "systemd": {"units": [{"name": "a"}]}}')


def test_on_flatcar_the_tree_has_the_drop_in_the_preset_and_the_profile(
    machines: Callable[[], Machine],
) -> None:
    machine = machines()
    machine.apply(ignition.render(FLATCAR, b""))
    drop_in = json.loads(ignition.render(FLATCAR, b""))["systemd"]["units"][0]["dropins"][0]["contents"]
    folders = (
        "etc",
        "etc/profile.d",
        "etc/systemd",
        "etc/systemd/system",
        "etc/systemd/system-preset",
        "etc/systemd/system/etcd-member.service.d",
    )
    assert machine.tree() == {
        **dict.fromkeys(folders, "40755 0:0"),
        "etc/profile.d/etcd-resize.sh": "100644 0:0 export ETCDCTL_API=3\n"
        "export ETCDCTL_ENDPOINTS=http://10.0.0.2:2379\n",
        "etc/systemd/system-preset/20-ignition.preset": "100644 0:0 enable etcd-member.service\n",
        "etc/systemd/system/etcd-member.service.d/99-etcd-resize.conf": f"100644 0:0 {drop_in}",
    }


def test_on_fedora_coreos_the_tree_has_the_quadlet_and_a_directory_that_only_root_enters(
    machines: Callable[[], Machine],
) -> None:
    machine = machines()
    machine.apply(ignition.render(FEDORA, b""))
    tree = machine.tree()
    assert tree["var/lib/etcd"] == "40700 0:0"
    container = tree["etc/containers/systemd/etcd.container"]
    assert container.startswith("100644 0:0 [Unit]\nDescription=etcd\n")
    assert f"\nImage={FEDORA.image}\n" in container
    assert {name for name, what in tree.items() if what.startswith("100")} == {
        "etc/containers/systemd/etcd.container",
        "etc/profile.d/etcd-resize.sh",
        "etc/systemd/system/etcd.service.d/99-etcd-resize.conf",
    }
    # labelled for SELinux, with all that is below, before the machine starts anything
    drop_ins = "/etc/systemd/system/etcd.service.d"
    assert {"/etc/containers", drop_ins, "/etc/profile.d", "/var"} <= machine.relabeled


def test_a_shell_has_etcdctl_ready(machines: Callable[[], Machine]) -> None:
    machine = machines()
    machine.apply(ignition.render(FEDORA, b""))
    profile = machine.root / "etc/profile.d/etcd-resize.sh"
    said = subprocess.run(
        ["bash", "-ec", 'shopt -s expand_aliases; . "$0"; env; alias etcdctl', str(profile)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {"ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=http://10.0.0.2:2379"} <= set(said.splitlines())
    (alias,) = re.findall(r"^alias etcdctl='(.*)'$", said, flags=re.MULTILINE)
    assert shlex.split(alias)[-2:] == ["etcd", "etcdctl"]


def test_what_the_user_brings_is_on_the_machine_byte_for_byte(machines: Callable[[], Machine]) -> None:
    machine = machines()
    base = {**json.loads(LOCAL_BASE), "passwd": {}}  # users are added by useradd, which no bare tree has
    document = ignition.render(FLATCAR, json.dumps(base).encode())
    machine.apply(document)
    root = machine.root
    assert (root / "etc/motd").read_bytes() == "grüße\r\n\ttab".encode()
    assert (root / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Berlin")
    system = root / "etc/systemd/system"
    assert (system / "fleet.service").read_bytes().decode() == base["systemd"]["units"][0]["contents"]
    assert (system / "locksmithd.service").readlink() == Path("/dev/null")
    assert sorted(contents(system / "etcd-member.service.d")) == [
        "10-limits.conf",
        "20-clct-etcd-member.conf",
        "99-etcd-resize.conf",
    ]
    presets = (root / "etc/systemd/system-preset/20-ignition.preset").read_text().splitlines()
    assert sorted(presets) == ["enable etcd-member.service", "enable fleet.service"]


NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
DATA = TEXT.map(lambda text: f"data:;base64,{base64.b64encode(text.encode()).decode()}")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents of a user's that Ignition accepts."""
    paths = draw(st.lists(NAMES, max_size=4, unique=True))
    kinds = [draw(st.sampled_from(["files", "directories", "links"])) for _ in paths]
    storage: dict[str, list[dict[str, Any]]] = {"files": [], "directories": [], "links": []}
    for name, kind in zip(paths, kinds, strict=True):
        node: dict[str, Any] = {"path": f"/srv/{name}"}
        if kind == "files":
            node |= {"contents": {"source": draw(DATA)}, "mode": draw(st.sampled_from([0o600, 0o755]))}
        if kind == "links":
            node |= {"target": "/srv"}
        storage[kind].append(node)
    units = [
        {
            "name": f"{name}.service",
            "enabled": draw(st.booleans()),
            "contents": "[Install]\nWantedBy=multi-user.target",
        }
        for name in draw(st.lists(NAMES.filter(lambda name: name != "etcd"), max_size=3, unique=True))
    ]
    own = [{"name": "10-mine.conf", "contents": "[Service]\nEnvironment=ETCD_SNAPSHOT_COUNT=1 ETCD_NAME=x\n"}]
    if draw(st.booleans()):
        units.append({"name": "etcd-member.service", "dropins": own})
    version = draw(st.sampled_from(["3.0.0", "3.1.0", "3.2.0", "3.3.0"]))
    return {"ignition": {"version": version}, "storage": storage, "systemd": {"units": units}}


@JUDGED
@given(base=documents(), value=TEXT.filter(lambda text: not set(text) & set("\r\n")))
def test_the_document_is_what_ignition_itself_would_have_merged(
    base: dict[str, Any], value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = replace(FLATCAR, settings=(("ETCD_X", value),))
    ours = ignition.render(spec, json.dumps(base).encode())
    assert validate(ours) == ""
    own = ignition.render(spec, json.dumps({"ignition": {"version": "3.3.0"}}).encode())
    sources = [
        {"source": f"data:;base64,{base64.b64encode(part).decode()}"}
        for part in (json.dumps(base).encode(), own)
    ]
    theirs = json.dumps({"ignition": {"version": "3.3.0", "config": {"merge": sources}}}).encode()
    one, other = (Machine(tmp_path_factory.mktemp("merged")) for _ in "12")
    assert one.fetch(ours), one.log.read_text()
    assert other.fetch(theirs), other.log.read_text()
    assert one.config["storage"] == other.config["storage"]
    assert one.config["systemd"] == other.config["systemd"]


# --- the long document, from elsewhere ---------------------------------------------------------------


@contextmanager
def serving(body: bytes, address: str) -> Iterator[str]:
    """A web server that answers every request with ``body``. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class calls it so
            pass

    with ThreadingHTTPServer((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{server.server_port}/userdata?X-Amz-Signature=a%2Fb&x=y"
        finally:
            server.shutdown()
            thread.join()


def test_the_short_document_becomes_the_long_one(
    machines: Callable[[], Machine], addresses: list[str]
) -> None:
    long = ignition.render(FEDORA, json.dumps({**json.loads(LOCAL_BASE), "systemd": {}}).encode())
    direct, fetched = machines(), machines()
    with serving(long, addresses[0]) as url:
        short = ignition.fetching(url, hashlib.sha256(long).hexdigest())
        assert validate(short) == ""
        assert fetched.fetch(short), fetched.log.read_text()
    assert direct.fetch(long)
    assert fetched.config == direct.config


def test_a_long_document_of_another_sum_is_not_used(
    machines: Callable[[], Machine], addresses: list[str]
) -> None:
    machine = machines()
    with serving(ignition.render(FEDORA, b"") + b"\n", addresses[0]) as url:
        assert not machine.fetch(
            ignition.fetching(url, hashlib.sha256(ignition.render(FEDORA, b"")).hexdigest())
        )
    assert "hash verification failed" in machine.log.read_text()
    assert not (machine.folder / "config.json").exists()


# --- systemd and Quadlet -----------------------------------------------------------------------------


@JUDGED
@given(value=TEXT, release=st.sampled_from(["flatcar", "fedora"]))
def test_systemd_starts_etcd_with_the_environment_of_the_spec(
    value: str, release: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if release == "flatcar":
        value = re.sub(r"[\r\n]", " ", value)
    spec = replace(FLATCAR if release == "flatcar" else FEDORA, settings=(("ETCD_X", value),))
    machine = Machine(tmp_path_factory.mktemp("spec"))
    machine.apply(ignition.render(spec, b""))
    dump = (flatcar_reads if release == "flatcar" else fedora_reads)(machine)
    found = etcd_variables(environment_in(dump))
    assert {name: found[name] for name in found if name not in FLATCARS_OWN} == spec.environment(
        ignition.DATA_DIR
    )
    # comes back after a failure, and stays down once it was removed (etcd then exits with status 0)
    assert settings_in(dump, "Restart", "RestartSec") == {"Restart": "on-failure", "RestartSec": "1s"}


def test_a_users_discovery_is_gone_and_the_users_other_settings_stay(machines: Callable[[], Machine]) -> None:
    machine = machines()
    base = {**json.loads(LOCAL_BASE), "passwd": {}}
    machine.apply(ignition.render(FLATCAR, json.dumps(base).encode()))
    dump = flatcar_reads(machine)
    found = etcd_variables(environment_in(dump))
    assert found == {
        **FLATCAR.environment(ignition.DATA_DIR),
        "ETCD_IMAGE_URL": "registry.example/coreos/etcd",
        "ETCD_IMAGE_TAG": "v3.5.16",
        "ETCD_USER": "etcd",
        "ETCD_SSL_DIR": "/etc/ssl/certs",
    }
    assert settings_in(dump, "LimitNOFILE", "Command Line") == {
        "LimitNOFILE": "100000",
        "Command Line": '/usr/lib/coreos/etcd-wrapper "\\$ETCD_OPTS" --max-request-bytes=4194304',
    }


def test_podman_is_started_with_the_image_by_digest_the_data_and_every_variable(
    machines: Callable[[], Machine],
) -> None:
    machine = machines()
    machine.apply(ignition.render(FEDORA, b""))
    unit = quadlet(machine.root)
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, flags=re.MULTILINE)
    words = shlex.split(start)
    assert words[:2] == ["/usr/bin/podman", "run"]
    assert words[-1] == FEDORA.image
    options = " ".join(words)
    for expected in (
        "--name etcd",
        "--network host",
        "--entrypoint /usr/local/bin/etcd",
        "-v /var/lib/etcd:/var/lib/etcd:Z",
        "--env=ETCD_*",
    ):
        assert f" {expected} " in options
    assert re.search(r"^\[Install\]\nWantedBy=multi-user.target$", unit, flags=re.MULTILINE)


@pytest.mark.parametrize("reads", [flatcar_reads, fedora_reads])
def test_etcd_joins_with_exactly_what_the_machine_would_give_it(
    reads: Callable[[Machine], str],
    machines: Callable[[], Machine],
    hand_made: Callable[[int], HandMade],
    etcd: Path,
    addresses: list[str],
    tmp_path: Path,
) -> None:
    cluster, identity = hand_made(1), Identity("hand", "m2", addresses[1])
    members = (("m1", peer_url(addresses[0])), ("m2", identity.peer_url))
    spec = MemberSpec(identity, members, "existing", "hand")
    machine = machines()
    machine.apply(ignition.render(spec if reads is flatcar_reads else replace(spec, image=FEDORA.image), b""))
    environment = etcd_variables(environment_in(reads(machine)))
    with closing(EtcdGateway(cluster.endpoints)) as gateway:
        gateway.view()  # it changes only what it has seen
        gateway.add_learner(identity.peer_url)
        learner = gateway.view().at(identity.peer_url)
        assert learner
        started = Etcd(etcd, tmp_path / "started", environment)
        try:
            wait_until(lambda: accepted(lambda: gateway.promote(learner)), "the learner is in sync")
            view = wait_healthy([*cluster.endpoints, identity.client_url], 2)
        finally:
            started.kill()
    assert {voter.name for voter in view.voters} == {"m1", "m2"}
