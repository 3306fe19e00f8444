"""Containers boot real Debian systems; machines of the playground can be containers."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from etcd_resize.userdata.cloud_init import DROP_IN_PATH
from playground import containers, network, tools, tree
from playground.account import PlaygroundError
from playground.containers import Container
from playground.local import Playground, read_state
from playground.machines import Machine, MachineError
from playground.processes import start_time
from tests.playground.client import Cloud
from tests.playground.test_machines import TEMPLATE, happened
from tests.support.addresses import CONTAINERS, KILLED, free_port
from tests.support.containers import healthy, lonely, remains, require, time_to_boot
from tests.support.etcd import view
from tests.support.pages import blocks
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]  # the first one may have to build a tree

PATIENCE = 60.0
(LOOKING,) = blocks("docs/machines.md")["Looking into one"]


@pytest.fixture(scope="session", autouse=True)
def _containers_are_to_be_had() -> None:
    require()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[network.Network]:
    with network.scratch(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture(scope="module")
def machine(net: network.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A Debian 13 with the only member of a cluster, healthy. Tests leave it so."""
    folder = tmp_path_factory.mktemp("machine")
    with containers.boot(lonely(f"{net.prefix}.1.11"), folder=folder, within=net) as booted:
        wait_healthy(booted)
        booted.run("cloud-init", "status", "--wait")
        yield booted


def wait_healthy(machine: Container | Machine) -> None:
    wait_until(lambda: healthy(machine.address), f"{machine.address} is healthy", PATIENCE)


def etcdctl(machine: Container, *command: str) -> str:
    return machine.run(
        "env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=http://{machine.address}:2379", *command
    ).strip()


# ---- booting ----


@pytest.mark.parametrize(
    ("release", "debian", "etcd"), [("trixie", "13", "3.5."), ("bookworm", "12", "3.4.")]
)
def test_a_debian_boots_its_member_from_the_user_data(
    release: str,
    debian: str,
    etcd: str,
    net: network.Network,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    tree.find(release)  # what may take long is not what is measured
    address = f"{net.prefix}.1.21"
    user_data = lonely(address)
    begin = time.monotonic()
    with containers.boot(user_data, folder=tmp_path, release=release, within=net, host=21) as booted:
        wait_healthy(booted)
        seconds = time.monotonic() - begin
        record_property("seconds from start to healthy", round(seconds, 1))
        assert seconds < time_to_boot()
        booted.run("cloud-init", "status", "--wait")
        assert booted.run("cat", "/var/lib/cloud/instance/user-data.txt").encode() == user_data
        assert f'VERSION_ID="{debian}"' in booted.run("cat", "/etc/os-release")
        assert json.load(urllib.request.urlopen(f"http://{address}:2379/version"))["etcdserver"].startswith(
            etcd
        )
        (member,) = view([f"http://{address}:2379"]).members
        assert (member.name, member.health.serving) == ("lonely", True)
        assert_the_drop_in_was_there_before_the_package(booted)


def assert_the_drop_in_was_there_before_the_package(booted: Container) -> None:
    installed = booted.run("grep", " install etcd-server", "/var/log/dpkg.log").split(" install ")[0]
    since = float(booted.run("date", "--date", installed, "+%s"))
    assert (
        float(booted.run("stat", "--format=%.9Z", DROP_IN_PATH)) < since + 1
    )  # dpkg's log knows whole seconds
    # the package started etcd, once, and it was ours already
    main = booted.run("systemctl", "show", "etcd", "--property=MainPID", "--value").strip()
    entries = booted.run("journalctl", "--unit=etcd", "--output=json", "_COMM=etcd").splitlines()
    assert {json.loads(entry)["_PID"] for entry in entries} == {main}
    assert "ETCD_NAME=lonely" in booted.run("cat", f"/proc/{main}/environ")


def test_files_are_there_before_the_boot_and_change_nothing_else(
    machine: Container, net: network.Network, tmp_path: Path
) -> None:
    def prepare(root: Path) -> None:
        (root / "etc/cloud/cloud.cfg.d/99-hello.cfg").write_text(
            "runcmd: [[cp, /etc/hello, /etc/hello-again]]\n"
        )
        (root / "etc/hello").write_text("hello\n")

    with containers.boot(
        b"#cloud-config\n{}\n", folder=tmp_path, within=net, host=22, prepare=prepare
    ) as other:
        assert other.run("cat", "/etc/hello") == "hello\n"
        other.run("cloud-init", "status", "--wait")
        assert other.run("cat", "/etc/hello-again") == "hello\n"
        assert other.run("stat", "--format=%a", "/root", "/var/lib") == "700\n755\n"
        assert other.run("systemctl", "is-system-running").strip() == "running"
        # two in one network reach each other, and nobody else
        assert "true" in other.run("curl", "--silent", f"http://{machine.address}:2379/health")
        assert other.run("ip", "-oneline", "route").split()[:3] == [f"{net.prefix}.0.0/16", "dev", "eth0"]
        assert len(other.run("ip", "-oneline", "route").splitlines()) == 1
        assert "cloud-init" in other.console.read_text()


def test_a_command_waits_until_the_machine_has_its_own_root(net: network.Network, tmp_path: Path) -> None:
    with containers.boot(b"", folder=tmp_path, within=net, host=12) as booting:
        deadline = time.monotonic() + PATIENCE
        while booting.leader() is None:  # without a pause: what is looked for lasts milliseconds
            assert time.monotonic() < deadline
        assert booting.run("readlink", "/proc/1/exe") == "/usr/lib/systemd/systemd\n"


def test_a_machine_reaches_a_server_on_the_host(machine: Container, net: network.Network) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its own name for it
            pass

    with HTTPServer((net.gateway, 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{net.gateway}:{server.server_port}/"
        try:
            assert (
                machine.run("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url)
                == "204"
            )
        finally:
            server.shutdown()


# ---- breaking ----


def test_a_reboot_keeps_member_and_data_and_installs_nothing_again(machine: Container) -> None:
    (before,) = view([f"http://{machine.address}:2379"]).members
    etcdctl(machine, "put", "kept", "yes")
    identity = machine.run("cat", "/etc/machine-id")
    semaphores = machine.run("find", "/var/lib/cloud/instance/sem", "-type", "f", "-printf", "%f %T@\n")
    assert "config_package_update_upgrade_install" in semaphores
    dpkg = machine.run("cat", "/var/log/dpkg.log")
    starts = machine.run("journalctl", "--list-boots").count("\n")

    machine.reboot()
    wait_healthy(machine)
    machine.run("cloud-init", "status", "--wait")

    assert machine.run("journalctl", "--list-boots").count("\n") == starts + 1
    assert machine.run("cat", "/etc/machine-id") == identity
    (after,) = view([f"http://{machine.address}:2379"]).members
    assert (after.id, after.name) == (before.id, before.name)
    assert etcdctl(machine, "get", "--print-value-only", "kept") == "yes"
    assert (
        machine.run("find", "/var/lib/cloud/instance/sem", "-type", "f", "-printf", "%f %T@\n") == semaphores
    )
    assert machine.run("cat", "/var/log/dpkg.log") == dpkg


def test_a_machine_whose_power_went_comes_back_with_its_data(machine: Container) -> None:
    etcdctl(machine, "put", "written", "before")
    machine.kill()
    assert not healthy(machine.address)
    assert machine.leader() is None
    with pytest.raises(containers.ContainerError, match="off"):
        containers.run(os.getpid(), "true")
    machine.start()
    wait_healthy(machine)
    assert etcdctl(machine, "get", "--print-value-only", "written") == "before"


def test_a_paused_machine_answers_nothing_and_goes_on(machine: Container) -> None:
    leader = machine.leader()
    machine.pause()
    assert not healthy(machine.address)
    machine.resume()
    wait_healthy(machine)
    assert machine.leader() == leader


def test_a_machine_that_is_cut_off_runs_on(machine: Container) -> None:
    machine.cut_off()
    assert not healthy(machine.address)
    assert (
        machine.run("systemctl", "is-active", "etcd").strip() == "active"
    )  # looked at from inside, not through the net
    machine.heal()
    wait_healthy(machine)


def test_a_machine_that_is_shut_down_ends_its_etcd_in_order(machine: Container) -> None:
    machine.pause()  # a paused one is woken for it
    machine.stop()
    assert "Reached target" in machine.console.read_text().rpartition("Stopping")[2]
    machine.start()
    wait_healthy(machine)


# ---- nothing is left ----

OWNER = """
import sys, time
from pathlib import Path
from playground import containers
with containers.boot(b"#cloud-config\\n{}\\n", folder=Path(sys.argv[1])) as machine:
    machine.until("true")
    print(machine.namespace, flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_in_a_container(tmp_path)
    assert remains(network.name_of(tmp_path)) == []


def fail_in_a_container(folder: Path) -> None:
    with containers.boot(b"#cloud-config\n{}\n", folder=folder) as machine:
        machine.until("true")
        assert len(remains(network.name_of(folder))) > 4  # namespaces, leg, control group, record, process
        raise ZeroDivisionError


def test_the_next_network_ends_what_a_killed_owner_left(tmp_path: Path) -> None:
    line = [sys.executable, "-c", OWNER, str(tmp_path / "killed")]
    owner = subprocess.Popen(line, cwd=tools.ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner.stdout:
        name = owner.stdout.readline().strip().removesuffix("-1-11")
    owner.kill()
    owner.wait()
    assert name == network.name_of(tmp_path / "killed")
    assert any("--machine" in remain for remain in remains(name))  # it runs on
    with network.scratch(tmp_path / "next"):
        assert remains(name) == []


def test_a_range_that_is_taken_is_refused(net: network.Network, tmp_path: Path) -> None:
    with pytest.raises(network.NetworkError, match=rf"{net.prefix}\.0\.0/16 is taken by {net.name}"):
        network.Network(net.prefix, tmp_path).up()
    assert remains(network.name_of(tmp_path)) == []


# ---- in the playground ----

PRESIGNER = """
import boto3

def handler(event, context):
    return boto3.client("s3").generate_presigned_url("get_object", Params=event, ExpiresIn=60)
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("containers")
    with Playground(folder, kind="container", network=CONTAINERS, port=free_port()) as running:
        yield Cloud(running, "")
    assert remains(network.name_of(folder)) == []


@pytest.fixture(scope="module")
def of_stack(cloud: Cloud) -> Iterator[Machine]:
    """The machine of a stack, its etcd healthy."""
    assert cloud.create("one", TEMPLATE, Subnet=cloud.playground.subnet_ids[0]) == "CREATE_COMPLETE"
    (made,) = cloud.playground.machines()
    wait_healthy(made)
    yield made
    assert cloud.delete("one") == "DELETE_COMPLETE"
    assert cloud.playground.machines() == []
    assert not any("-1-" in remain for remain in remains(network.name_of(cloud.playground.directory)))


@pytest.mark.stack
def test_an_instance_is_a_container(cloud: Cloud, of_stack: Machine) -> None:
    playground, machine = cloud.playground, of_stack
    assert (machine.kind, machine.name, machine.state) == ("container", "one", "running")
    assert machine.address == playground.outputs("one")["Address"]
    assert machine.pid
    given = cloud.ec2.describe_instance_attribute(InstanceId=machine.instance, Attribute="userData")
    assert given["UserData"]["Value"].encode() == base64.b64encode(machine.user_data)
    assert (machine.folder / "upper" / containers.SEED / "user-data").read_bytes() == machine.user_data

    playground.pause(machine)
    assert not healthy(machine.address)
    playground.resume(machine)
    wait_healthy(machine)
    playground.cut_off(machine)
    assert not healthy(machine.address)
    playground.heal(machine)
    wait_healthy(machine)
    playground.kill(machine)
    assert (playground.machines()[0].state, healthy(machine.address)) == ("stopped", False)
    playground.restart(machine)
    wait_healthy(machine)
    (again,) = playground.machines()
    containers.run(again.pid or 0, "systemctl", "reboot", check=False)  # its own, not ours
    wait_until(lambda: playground.machines()[0].pid not in (again.pid, None), "it boots again", PATIENCE)
    wait_healthy(machine)
    assert happened(cloud, machine) == ["start"]


@pytest.mark.stack
def test_the_shell_runs_a_command_on_a_machine(cloud: Cloud, of_stack: Machine) -> None:
    """By the lines of docs/machines.md: a shell, and a command."""
    line = [sys.executable, "-m", "playground", "shell", "--directory", str(cloud.playground.directory)]

    def typed(words: str, told: str = "") -> str:
        given = words.partition(" # ")[0].replace("etcd-2", of_stack.name).split()
        assert given[:4] == [".venv/bin/python", *line[1:4]]
        done = subprocess.run(
            [*line, *given[4:]], cwd=tools.ROOT, capture_output=True, input=told, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    *_, shell, command = LOOKING
    assert typed(shell, "systemctl is-active etcd\n") == "active\n"
    assert "etcd.service" in typed(command)
    unknown = subprocess.run([*line, "two"], cwd=tools.ROOT, capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stderr) == (1, "There is no machine two: `status` lists them.\n")


@pytest.mark.stack
def test_the_local_aws_listens_for_this_machine_and_its_containers_alone(cloud: Cloud) -> None:
    playground = cloud.playground
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    pid = read_state(playground.directory)["cloud_pid"]
    sockets = {row.split()[3] for row in listening.splitlines() if f"pid={pid}," in row}
    assert sockets == {f"127.0.0.1:{playground.port}", f"{playground.gateway}:{playground.port}"}


@pytest.mark.stack
def test_a_machine_fetches_what_a_function_presigned(cloud: Cloud, of_stack: Machine) -> None:
    playground = cloud.playground
    cloud.s3.create_bucket(Bucket="given")
    cloud.s3.put_object(Bucket="given", Key="a key", Body=b"fetched")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", PRESIGNER)
    functions = playground.client("lambda")
    role = "arn:aws:iam::000000000000:role/any"
    functions.create_function(
        FunctionName="presigner",
        Runtime="python3.13",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": code.getvalue()},
    )
    asked = json.dumps({"Bucket": "given", "Key": "a key"})
    url = json.load(functions.invoke(FunctionName="presigner", Payload=asked)["Payload"])
    assert url.startswith(f"https://{playground.gateway}:{playground.port}/given/a%20key?")
    (machine,) = playground.machines()
    assert machine.pid
    assert containers.run(machine.pid, "curl", "--silent", "--show-error", "--fail", url) == "fetched"


@pytest.mark.stack
def test_down_ends_the_containers_of_a_playground_that_was_killed(tmp_path: Path) -> None:
    playground = Playground(tmp_path, kind="container", network=KILLED, port=free_port())
    playground.start()
    cloud = Cloud(playground, "")
    assert cloud.create("one", TEMPLATE, Subnet=playground.subnet_ids[0]) == "CREATE_COMPLETE"
    (machine,) = playground.machines()
    assert machine.pid
    os.killpg(read_state(tmp_path)["cloud_pid"], signal.SIGKILL)
    assert playground.alive is False or wait_dead(playground)
    assert start_time(machine.pid)
    line = [sys.executable, "-m", "playground", "down", "--directory", str(tmp_path)]
    # `down` looks for the process that started the playground, here the test itself: it is not to be ended
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps(state | {"started": "0"}))
    done = subprocess.run(line, cwd=tools.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "The playground is down.\n"), done.stderr
    assert start_time(machine.pid) is None
    assert remains(network.name_of(tmp_path)) == []
    playground.stop()


def wait_dead(playground: Playground) -> bool:
    wait_until(lambda: not playground.alive, "the local AWS is gone")
    return True


# ---- refusals ----


def test_a_folder_that_cannot_hold_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        containers.ContainerError, match=rf"^{tmp_path} cannot hold container machines, choose"
    ):
        containers.probe(tmp_path / "no tree", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_machine_cannot_be_cut_off(tmp_path: Path) -> None:
    process = Machine(
        "i-1", "127.77.1.11", "etcd-1", None, "stopped", protected=False, user_data=b"", image=""
    )
    with pytest.raises(MachineError, match="etcd-1 is a process"):
        Playground(tmp_path).cut_off(process)


@pytest.mark.parametrize("wrong", ["127.77", "8.8", "10", "x.y"])
def test_a_network_of_containers_must_be_private(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(PlaygroundError, match=f"The network {wrong} is not like 10.77"):
        Playground(tmp_path, kind="container", network=wrong).start()
