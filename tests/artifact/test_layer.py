"""What `sam build` makes of layers/ and functions/, for each architecture and for this machine's Python."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from playground import tools
from tests.support.built import BARE_PATH, Build, build

pytestmark = [pytest.mark.artifact, pytest.mark.timeout(300)]

MEBIBYTE = 1024 * 1024
LAYER_LIMIT_BYTES = 30 * MEBIBYTE
PROVIDED_BY_LAMBDA = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "urllib3")
LAYERS = {
    "PackagesArm64": "aarch64",
    "PackagesX8664": "x86_64",
    "CertificatesArm64": "aarch64",
    "CertificatesX8664": "x86_64",
}
LOCKS = {"Packages": "requirements", "Certificates": "certificates"}
LIBRARY = {"Packages": "grpc/", "Certificates": "cryptography/"}
"""What each layer has a library of, at least."""
ELF_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}
ARCHITECTURES = ("Arm64", "X8664")
IMPORT_ALL = (
    "import sys; sys.path[:0] = sys.argv[1:]; import etcd_resize.handler;"
    "import crhelper, etcd3, google.protobuf, grpc, six, tenacity, yaml; print(etcd3.__file__);"
    "import etcd_resize.pki, cryptography; print(cryptography.__file__)"
)


def kind(layer: str) -> str:
    """Packages or Certificates."""
    return re.sub("Arm64|X8664", "", layer)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(tmp_path_factory.mktemp("local"), {"PATH": BARE_PATH, "LAYER_PYTHON": sys.executable})


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def locked(lock: str) -> dict[str, str]:
    """Return the packages that a file in layers/ locks, by name, with their versions."""
    text = (tools.ROOT / f"layers/{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def installed(layer: Path) -> dict[str, str]:
    names = [path.name.removesuffix(".dist-info").rpartition("-") for path in layer.glob("*.dist-info")]
    return {name.replace("_", "-").lower(): version for name, _, version in names}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_holds_the_locked_packages_and_no_other(shipped: Build, name: str) -> None:
    assert installed(shipped.layer(name)) == locked(LOCKS[kind(name)])


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_small(shipped: Build, name: str) -> None:
    size = sum(len(content) for content in files(shipped.layer(name)).values())
    assert size < LAYER_LIMIT_BYTES


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_no_tests_and_nothing_that_lambda_provides(shipped: Build, name: str) -> None:
    layer = shipped.layer(name)
    surplus = [
        path
        for path in files(layer)
        if {"test", "tests", "__pycache__"} & set(Path(path).parts[:-1]) or path.endswith((".pyi", ".pyc"))
    ]
    assert surplus == []
    assert [package for package in PROVIDED_BY_LAMBDA if (layer / package).exists()] == []


@pytest.mark.parametrize(("name", "machine"), LAYERS.items())
def test_a_layer_has_the_libraries_of_its_architecture_and_runtime(
    shipped: Build, name: str, machine: str
) -> None:
    contents = files(shipped.layer(name))
    libraries = {path: content for path, content in contents.items() if path.endswith(".so")}
    assert any(path.startswith(LIBRARY[kind(name)]) for path in libraries)
    # e_machine of the ELF header: 16 bits at offset 18.
    machines = {path: int.from_bytes(content[18:20], "little") for path, content in libraries.items()}
    assert {ELF_MACHINES[number] for number in machines.values()} == {machine}
    for path in libraries:
        assert path.endswith((f".cpython-313-{machine}-linux-gnu.so", ".abi3.so")), path


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_says_no_path_of_the_machine_that_built_it(shipped: Build, name: str) -> None:
    contents = files(shipped.layer(name))
    assert [path for path, content in contents.items() if str(tools.ROOT).encode() in content] == []


def test_the_function_is_the_package_and_nothing_else(shipped: Build) -> None:
    source = tools.ROOT / "functions"
    wanted = {
        path: content
        for path, content in files(source).items()
        if path.endswith((".py", ".sh")) and path.startswith("etcd_resize/")
    }
    assert files(shipped.function) == wanted


def test_a_second_build_makes_the_same_bytes(shipped: Build, tmp_path: Path) -> None:
    """Otherwise a build before a resize would change the function although nothing did."""
    again = build(tmp_path / "again", {"PATH": BARE_PATH})
    for name in (*LAYERS, "Provider"):
        first, second = files(shipped.folder / name), files(again.folder / name)
        assert first.keys() == second.keys()
        assert [path for path in first if first[path] != second[path]] == []


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what Lambda's own Python has beside the standard library, and nothing else."""
    folder = tmp_path_factory.mktemp("runtime")
    for package in PROVIDED_BY_LAMBDA:
        found = importlib.util.find_spec(package)
        assert found
        assert found.origin
        (folder / package).symlink_to(Path(found.origin).parent)
    return folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_handler_imports_from_what_was_built_without_credentials(
    local: Build, runtime: Path, architecture: str
) -> None:
    layers = [local.layer(f"{name}{architecture}") for name in LOCKS]
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT_ALL, *layers, local.function, runtime],
        env={"PATH": BARE_PATH, "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line, layer in zip(done.stdout.splitlines(), layers, strict=True):
        assert line.startswith(str(layer))


def test_every_package_is_locked_with_a_hash_and_no_registry_is_named() -> None:
    locks = [*(tools.ROOT / "requirements").glob("*.txt"), *(tools.ROOT / "layers").glob("*.txt")]
    assert len(locks) > 1
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text
        assert "--index" not in text
        entries = re.findall(r"^[a-z0-9].*", text.replace("\\\n", ""), re.MULTILINE)
        assert entries
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_development_runs_the_layers_own_versions() -> None:
    development = (tools.ROOT / "requirements/dev.txt").read_text()
    for name, version in {**locked("requirements"), **locked("certificates")}.items():
        assert re.search(rf"^{re.escape(name)}=={re.escape(version)}\b", development, re.MULTILINE), name
