"""A machine that Ignition has set up boots with real systemd, joins, comes back, and stays down once it was removed.

Flatcar and Fedora CoreOS themselves are not to be had here: a Debian container stands in for each. What Flatcar brings
is a unit and a wrapper, whose behaviour is written down below. What Fedora CoreOS brings is podman, which is real.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from etcd_resize.gateway import EtcdGateway
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.userdata import ignition
from playground import network, tree
from playground.containers import Container
from playground.network import Network
from tests.support.etcd import Etcd, accepted, program, wait_healthy
from tests.support.ignition import FLATCAR_UNIT, Machine, podman
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WRAPPER = """\
#!/bin/bash
# As Flatcar's: a --name wins over ETCD_NAME, the data directory is made, variables are handed over one a line.
set -e
for flag in "$@"; do [[ $flag =~ ^-?-name=? ]] && unset ETCD_NAME; done
mkdir -p "$ETCD_DATA_DIR"
chmod 700 "$ETCD_DATA_DIR"
mapfile -t variables < <(env)
exec env -i "${variables[@]}" /usr/local/bin/etcd "$@"
"""
PODMAN = """\
#!/bin/bash
# A container inside a container has no control groups of its own, where the host has their version 1.
exec /usr/libexec/podman/podman "${@/#--cgroups=split/--cgroups=disabled}"
"""
SUDO = '#!/bin/sh\nexec "$@"\n'
STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
SETTINGS = "[containers]\nkeyring = false\n"
"""systemd-nspawn lets a container have no keyring."""
BUILD = """\
set -e
mkdir /root/image
cp -L --parents /usr/local/bin/etcd /usr/local/bin/etcdctl $(ldd /usr/local/bin/etcd | grep -o '/lib[^ ]*') /root/image
tar -C /root/image -cf /root/image.tar .
podman import /root/image.tar localhost/etcd >/dev/null
podman images --digests --format '{{.Repository}}@{{.Digest}}'
"""
"""Makes an image of etcd in the machine's own storage, and prints its name with its digest."""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    if lacking := tree.missing():
        pytest.skip(lacking)
    with network.scratch(tmp_path) as made:
        yield made


def install(file: Path, text: str, mode: int = 0o755) -> None:
    """Write a file, and the folders above it that the tree does not lend."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def bare(root: Path) -> None:
    """A machine before its first boot, without cloud-init, and with etcd's programs somewhere."""
    (root / "etc/cloud").mkdir(exist_ok=True)
    (root / "etc/cloud/cloud-init.disabled").touch()
    (root / "etc/machine-id").write_text("uninitialized\n")  # systemd then enables what the presets name
    etcd = program("3.5")
    for name in ("etcd", "etcdctl"):
        install(root / "usr/local/bin" / name, "")
        shutil.copyfile(etcd.parent / name, root / "usr/local/bin" / name)


def as_flatcar(machine: Container, spec: MemberSpec) -> str:
    """Switch the machine on as a Flatcar that has read the document of ``spec``. Returns the unit that runs etcd."""
    root = machine.upper
    install(root / "usr/lib/flatcar/etcd-wrapper", WRAPPER)
    install(root / "usr/lib/systemd/system/etcd-member.service", FLATCAR_UNIT, 0o644)
    set_up(machine, spec)
    return "etcd-member.service"


def as_fedora(machine: Container, spec: MemberSpec) -> str:
    """The same as a Fedora CoreOS, whose podman has the image already, so that it need not pull it."""
    root = machine.upper
    packages = Path(podman("usr/bin/podman")).parents[2]
    for folder in ("usr", "etc"):
        subprocess.run(["cp", "-a", f"{packages / folder}/.", str(root / folder)], check=True)
    (root / "usr/bin/podman").rename(root / "usr/libexec/podman/podman")
    install(root / "usr/bin/podman", PODMAN)
    install(root / "usr/bin/sudo", SUDO)
    (root / "etc/containers/storage.conf").write_text(STORAGE)
    (root / "etc/containers/containers.conf").write_text(SETTINGS)
    machine.start()
    # until then systemd-tmpfiles clears what podman leaves in /var/tmp, also what it has just put there
    machine.until("systemctl", "is-active", "sysinit.target")
    image = machine.run("sh", "-c", BUILD).strip()
    machine.stop()
    (root / "etc/machine-id").write_text("uninitialized\n")
    for name in ("etcd", "etcdctl"):
        (root / "usr/local/bin" / name).unlink()
    set_up(machine, MemberSpec(**{**vars(spec), "image": image}))
    return "etcd.service"


def set_up(machine: Container, spec: MemberSpec) -> None:
    """Let Ignition set the machine up, as in its initramfs, and switch it on."""
    Machine(machine.folder / "ignition", machine.upper).apply(ignition.render(spec, b""))
    shutil.rmtree(machine.upper / "etc/selinux")
    machine.start()


@pytest.mark.parametrize("system", [as_flatcar, as_fedora])
def test_a_machine_joins_comes_back_after_a_crash_and_a_reboot_and_stays_down_once_removed(
    system: Callable[[Container, MemberSpec], str], net: Network, tmp_path: Path
) -> None:
    first = Identity("etcd", "m1", net.gateway)
    identity = Identity("etcd", "m2", f"{net.prefix}.1.11")
    ours = ((first.name, first.peer_url), (identity.name, identity.peer_url))
    alone = MemberSpec(first, ours[:1], "new", "etcd")
    spec = MemberSpec(identity, ours, "existing", "etcd")
    host = Etcd(program("3.5"), tmp_path / "host", alone.environment())
    machine = Container(
        tmp_path / "machine", b"", base=tree.find(), within=net, address=identity.address, prepare=bare
    )
    endpoints = [first.client_url, identity.client_url]
    try:
        wait_healthy(endpoints[:1], 1)
        with closing(EtcdGateway(endpoints[:1])) as gateway:
            gateway.view()  # it changes only what it has seen
            gateway.add_learner(identity.peer_url)
            member = gateway.view().at(identity.peer_url)
            assert member
            unit = system(machine, spec)
            wait_until(lambda: accepted(lambda: gateway.promote(member)), "the learner is in sync", 60)
        wait_healthy(endpoints, 2)
        assert "is healthy" in machine.run("bash", "-lic", "etcdctl endpoint health 2>&1")

        before = machine.run("systemctl", "show", "-p", "MainPID", "--value", unit)
        machine.run("systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit)
        wait_until(
            lambda: machine.run("systemctl", "show", "-p", "MainPID", "--value", unit) not in {before, "0\n"},
            "systemd has started etcd again",
            30,
        )
        wait_healthy(endpoints, 2)

        machine.reboot()
        machine.until("systemctl", "is-active", unit)
        wait_healthy(endpoints, 2)

        restarts = machine.run("systemctl", "show", "-p", "NRestarts", "--value", unit)
        with closing(EtcdGateway(endpoints[:1])) as gateway:
            registered = gateway.view().at(identity.peer_url)
            assert registered
            assert registered.id == member.id
            wait_until(lambda: accepted(lambda: gateway.remove(registered)), "etcd lets it go")
        wait_until(
            lambda: machine.run("systemctl", "is-active", unit, check=False) == "inactive\n",
            "etcd is down",
        )
        assert machine.run("systemctl", "show", "-p", "Result", "--value", unit) == "success\n"
        assert machine.run("systemctl", "show", "-p", "NRestarts", "--value", unit) == restarts
    finally:
        machine.remove()
        host.kill()
