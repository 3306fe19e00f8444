"""Every command in the documents is run: here is by which test, or why by none.

A row is held against the test that it names: that test must read the very block from the page, by
``tests.support.pages``.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from playground import tools
from playground.tools import ROOT
from tests.support.pages import PAGES, blocks, inline

OPERATIONS = "tests/stack/test_operations.py::test_the_page_of_operations_typed_line_by_line"
HEALTH = (
    "tests/stack/test_operations.py"
    "::test_health_is_told_as_text_and_as_data_with_no_more_rights_than_it_takes"
)
MAINTAIN = "tests/stack/test_operations.py::test_maintenance_is_done_by_the_command_line"
MAIN_JOB = "tests/stack/test_resize.py::test_from_one_to_three_to_one_to_nothing"
JOIN = "tests/stack/test_existing_cluster.py::test_three_become_four_and_three_again"
FLIP = "tests/stack/test_replacing.py::test_a_dead_one_is_removed_before_its_successor_joins"
AUTH = "tests/stack/test_auth.py::test_a_cluster_with_auth_is_resized_and_the_password_is_nowhere"
RESTORE = "tests/stack/test_snapshots.py::test_a_snapshot_by_hand_is_whole_and_a_new_stack_starts_from_it"
LOST = "tests/stack/test_lost_quorum.py::test_a_stack_that_lost_its_quorum_is_healthy_again_with_its_data"
BUNDLE = "tests/stack/test_tls.py::test_certificates_are_renewed_and_no_key_is_seen_anywhere"
JOIN_TLS = (
    "tests/stack/test_tls.py::test_a_cluster_with_tls_that_others_have_made_is_joined_with_its_authority"
)
SHELL = "tests/playground/test_containers.py::test_the_shell_runs_a_command_on_a_machine"
DOWN = "tests/playground/test_command.py::test_down_cleans_up_after_an_up_that_was_killed"
FAULTS = "tests/faults/test_faults.py::test_a_resize_survives_one_fault_of_each_kind"
EXAMPLE_VPC = "tests/stack/test_examples.py::test_a_cluster_in_a_vpc_of_its_own_grows_by_the_number_outside"
EXAMPLE_PLAIN = (
    "tests/stack/test_examples.py::test_a_cluster_without_tls_refuses_a_name_twice_is_joined_and_left_again"
)
EXAMPLE_FLATCAR = "tests/stack/test_examples.py::test_members_on_flatcar_boot_from_an_ignition_document"
HERE = "tests/scripts/test_commands_are_run.py"
BASE = f"{HERE}::test_a_document_is_encoded_in_one_line"
MEMORY = f"{HERE}::test_a_snapshot_of_some_size_goes_through_in_the_memory_that_there_is"

TYPED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "README.md": {
        "Deploy it on AWS": (OPERATIONS, MAIN_JOB),
        "A cluster that is already there": (JOIN,),
        "Replace a member": (FLIP,),
    },
    "docs/dialects/coreos-cloudinit.md": {"The dialect coreos-cloudinit": (BASE,)},
    "docs/dialects/ignition.md": {"BaseUserData": (BASE,)},
    "docs/etcd-auth.md": {"Enabling it": (AUTH,), "Changing the password": (AUTH,)},
    "docs/machines.md": {"Looking into one": (SHELL,)},
    "docs/operations.md": dict.fromkeys(blocks("docs/operations.md"), (OPERATIONS,)),
    "docs/recovery.md": {
        "Snapshots": (RESTORE,),
        "A new stack from a snapshot": (RESTORE,),
        "After a lost quorum, in the same stack": (LOST,),
    },
    "docs/replacing.md": {"Replacing a member": (FLIP,)},
    "docs/tls.md": {
        "Your own bundle": (BUNDLE,),
        "Times": (OPERATIONS,),
        "A cluster with TLS that others have made": (JOIN_TLS,),
    },
    "examples/README.md": {
        "A VPC with the cluster inside": (EXAMPLE_VPC,),
        "Without TLS": (EXAMPLE_PLAIN,),
        "More members for a cluster that is there": (EXAMPLE_PLAIN,),
        "Flatcar": (EXAMPLE_FLATCAR,),
        "When one fails": (EXAMPLE_PLAIN,),
    },
}
"""By page and section: the tests that type its commands. Those of ``make`` are below."""

RUNNING_TEXT: Mapping[str, str] = {
    ".venv/bin/python -m scripts.snapshot_memory 2048": MEMORY,
    "python -m playground health": HEALTH,
    "python -m playground maintain defragment": MAINTAIN,
    'python -m playground.faults --only "killed after-add"': FAULTS,
    "python -m playground.faults --only NAME": FAULTS,
    "sam delete": MAIN_JOB,
    "source .playground/environment": DOWN,
    "systemctl disable --now etcd": LOST,
}
"""Commands between words, and the tests that run them, if no block has them."""

NOT_RUN: Mapping[str, str] = {
    "butane --strict": "no package here has Butane; what it is to print is judged by Ignition's own program",
    "butane --strict config.bu": "the same",
    "etcdctl member add instance4 http://172.31.22.9:2380": "what was done by hand in 2016, and is not to be typed",
    "etcdctl snapshot save": "a comparison, and is not to be typed",
    "journalctl --directory ...": "a journal may be newer than the journalctl of the machine that the tests run on",
    "sam package": "it is of publishing; the stacks' playground packages what it deploys by the same command",
    "sam publish": "it would publish, for which there is no local likeness",
    "skopeo inspect --format '{{.Digest}}' docker://registry.example/coreos/etcd:v3.5.26": (
        "it asks a registry of containers, and the tests reach none"
    ),
}
"""Those that no test runs, each with the reason."""

CI = ".ci/run"
ARTIFACT = "tests/artifact/test_layer.py::test_a_layer_holds_the_locked_packages_and_no_other"
DEMO = "tests/stack/test_demo.py::test_the_demo_ends_well_on_a_stack_that_is_deployed"
PICTURE = "tests/demo/test_page.py::test_the_command_draws_the_picture_of_a_result"
DASHBOARD = (
    "tests/scripts/test_dashboard_picture.py::test_the_picture_has_a_title_lines_and_a_legend_for_each_widget"
)
LICENCES = "tests/scripts/test_licences.py::test_the_page_is_up_to_date_with_what_ships"
PROMISES = (
    "tests/faults/test_promises.py"
    "::test_the_command_writes_the_table_of_whole_runs_into_the_page_and_refuses_parts"
)

MAKE: Mapping[str, tuple[str, str]] = {
    "bench": ("-m bench", "it measures for a quarter of an hour what is worth nothing beside other tests"),
    "bench-page": ("-m bench.page build/bench/result.json", "it writes what the bench has measured"),
    "build": ("sam build", ARTIFACT),
    "check": (".venv/bin/mypy", CI),
    "dashboard-picture": ("-m scripts.dashboard_picture", DASHBOARD),
    "demo": ("-m playground.demo --demo resize --machines process", DEMO),
    "demo DEMO=replace": ("-m playground.demo --demo replace --machines process", DEMO),
    "demo DEMO=upgrade": ("-m playground.demo --demo upgrade --machines process", DEMO),
    "demo DEMO=upgrade MACHINES=container": (
        "-m playground.demo --demo upgrade --machines container",
        DEMO,
    ),
    "demo MACHINES=container": ("-m playground.demo --demo resize --machines container", DEMO),
    "down": ("-m playground down", DOWN),
    "ETCD_VERSION=3.5 test": ("-m pytest", CI),
    "faults": ("-m playground.faults", FAULTS),
    "judges": ("-m scripts.judges", CI),
    "licences": ("-m scripts.licences", LICENCES),
    "lock": ("pip compile", "it takes what the package index has that day"),
    "picture": ("-m playground.page build/demo/result.json", PICTURE),
    "promises": ("-m playground.faults.promises build/faults/3.4.json build/faults/3.5.json", PROMISES),
    "proto": ("grpc_tools.protoc --proto_path functions", "it needs packages that nothing else does"),
    "PYTHON=/path/to/python3 tools": ("scripts/bootstrap.sh", CI),
    "restore-demo": ("-m playground.restore_demo", "it takes minutes; its steps are those of " + RESTORE),
    "status": ("-m playground status", DOWN),
    "test": ("-m pytest", CI),
    "tools": ("scripts/etcd.py default", CI),
    "trees": ("-m playground trees", CI),
    "up": ("-m playground up --machines process", DOWN),
    "up MACHINES=container": ("-m playground up --machines container", DOWN),
}
"""What is behind ``make`` and these words, and what runs that: CI itself, a test, or nobody for a reason."""

STARTS = (
    *("make", "sam", "aws", "etcdctl", "python -m", ".venv/bin/python", "sh", "source", "systemctl"),
    *("journalctl", "skopeo", "butane"),
)
"""How the commands between words begin."""


def commands(lines: list[str]) -> list[str]:
    """The lines of a block with those that go on below in one, without remarks."""
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [" ".join(line.partition(" # ")[0].split()) for line in joined]


# ---- what a test reads from the pages, by its source ----


@cache
def source(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def functions(file: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in source(file).body if isinstance(node, ast.FunctionDef)}


def names(node: ast.AST) -> set[str]:
    """All that is named within: variables, and fixtures as arguments."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}


def used(file: str, test: str) -> list[ast.FunctionDef]:
    """A test, and the functions and fixtures of its file that it uses."""
    known = functions(file)
    assert test in known, f"{file} has no {test}"
    found = [known.pop(test)]
    for one in found:
        found += [known.pop(name) for name in names(one) & known.keys()]
    return found


@cache
def typed(node_id: str) -> frozenset[str]:
    """The commands that a test reads from the pages and uses."""
    file, _, test = node_id.partition("::")
    body, parts = source(file).body, used(file, test)
    within = {
        one.id
        for part in parts
        for one in ast.walk(part)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
    }
    return frozenset(
        command
        for node in (*body, *(one for part in parts for one in ast.walk(part)))
        if isinstance(node, ast.Assign)
        for name, lines in read(node, body)
        if name in within
        for command in commands(lines)
    )


def read(node: ast.Assign, body: list[ast.stmt]) -> Iterator[tuple[str, list[str]]]:
    """The names that an assignment gives to blocks of a page or to commands between its words, and their lines."""
    target = node.targets[0]
    match node.value:
        case ast.Call(func=ast.Name("inline"), args=[ast.Constant(str(page)), ast.Constant(str(start))]):
            yield from spread(target, [[one] for one in inline(page, start)])
        case ast.Call(func=ast.Name("blocks"), args=[ast.Constant(str(page))]):
            if all_sections(target, body):
                yield from spread(target, [block for found in blocks(page).values() for block in found])
        case ast.Subscript(whole, ast.Constant(str(section))) if of := page_of(whole, body):
            yield from spread(target, blocks(of)[section])


def spread(target: ast.expr, found: list[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """What each name of ``a, *b, c = found`` is given; ``a`` alone is given everything."""
    if isinstance(target, ast.Name):
        yield from ((target.id, lines) for lines in found)
        return
    assert isinstance(target, ast.Tuple)
    for place, one in enumerate(target.elts):
        if isinstance(one, ast.Name):
            before = not any(isinstance(other, ast.Starred) for other in target.elts[:place])
            yield one.id, found[place if before else place - len(target.elts)]


def page_of(node: ast.expr, body: list[ast.stmt]) -> str | None:
    """The page of ``blocks("page")``, or of the name that was given to it; None for what is none."""
    match node:
        case ast.Call(func=ast.Name("blocks"), args=[ast.Constant(str(page))]):
            return page
        case ast.Name(name):
            for one in body:
                if isinstance(one, ast.Assign) and names(one.targets[0]) == {name}:
                    return page_of(one.value, body)
    return None


def all_sections(target: ast.expr, body: list[ast.stmt]) -> bool:
    """Whether the sections of a page are gone through, so that each is read."""
    return any(
        isinstance(one, ast.Subscript)
        and names(one.value) == names(target)
        and isinstance(one.slice, ast.Name)
        and one.slice.id == "section"
        for part in body
        for one in ast.walk(part)
    )


# ---- the tables are true, and have everything ----


def in_blocks() -> Iterator[tuple[str, str, str]]:
    """(page, section, command)."""
    for page in PAGES:
        for section, found in blocks(page).items():
            yield from ((page, section, command) for lines in found for command in commands(lines))


def in_text() -> Iterator[tuple[str, str]]:
    """(page, command), of those that say more than a program's name."""
    for page in PAGES:
        for start in STARTS:
            yield from ((page, command) for command in inline(page, start) if " " in command)


def made(command: str) -> str | None:
    """What stands behind ``make``; None for another command."""
    return command.removeprefix("make ") if command.startswith("make ") else None


def test_every_command_of_a_block_is_typed_by_the_tests_of_its_row() -> None:
    found = list(in_blocks())
    assert len(found) > 100
    for page, section, command in found:
        if made(command) is None and command not in NOT_RUN:
            tests = TYPED.get(page, {}).get(section, ())
            assert any(command in typed(test) for test in tests), f"{page}, {section}: {command}"


def test_every_test_of_a_row_types_something_of_its_section() -> None:
    for page, found in TYPED.items():
        for section, tests in found.items():
            there = {command for lines in blocks(page)[section] for command in commands(lines)}
            assert all(there & typed(test) for test in tests), f"{page}, {section}"


def test_no_block_is_hidden_by_its_indentation() -> None:
    for page in PAGES:
        fenced, before = False, ""
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
            fenced ^= line.strip().startswith("```")
            assert fenced or before or not line.startswith("    "), f"{page}: fence it: {line}"
            before = line


def test_every_command_between_words_is_in_a_block_or_has_a_row() -> None:
    blocked = [command for _, _, command in in_blocks()] + [program for program, _ in MAKE.values()]
    found = list(in_text())
    assert len(found) > 40
    for page, command in found:
        if made(command) is None and command not in NOT_RUN and command not in RUNNING_TEXT:
            pattern = rf"(?<![\w-]){re.escape(command)}(?![\w-])"
            assert any(re.search(pattern, one) for one in blocked), f"{page}: {command}"


def test_the_rows_of_commands_between_words_are_true() -> None:
    for command, test in RUNNING_TEXT.items():
        assert command in typed(test), f"{test} does not read {command}"


def test_no_row_is_left_of_a_command_that_is_gone() -> None:
    there = {command for _, _, command in in_blocks()} | {command for _, command in in_text()}
    assert {*RUNNING_TEXT, *NOT_RUN} <= there
    assert {f"make {words}" for words in MAKE} == {command for command in there if made(command)}
    with_commands = {(page, section) for page, section, command in in_blocks() if made(command) is None}
    assert {(page, section) for page, found in TYPED.items() for section in found} <= with_commands


@pytest.mark.parametrize("words", MAKE)
def test_make_runs_the_program_of_its_row(words: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    program, run_by = MAKE[words]
    assert program in done.stdout, done.stdout + done.stderr
    if run_by == CI:
        lines = (ROOT / CI).read_text(encoding="utf-8").splitlines()
        targets = {
            target for line in lines if line.startswith(("make ", "beside ")) for target in line.split()
        }
        assert words.rpartition(" ")[2] in targets
    elif run_by.startswith("tests/"):
        file, _, test = run_by.partition("::")
        assert test in functions(file), f"{file} has no {test}"
        assert runs(file, program), f"{file} does not run {program}"


def runs(file: str, program: str) -> bool:
    """Whether the tests of a file call a program's module, or run it by its name."""
    module = re.search(r"-m (\S+) ?(\w*)", program)
    wanted = module[1] if module else "tests.support.built"
    imported = set[str]()
    for node in ast.walk(source(file)):
        if isinstance(node, ast.ImportFrom):
            imported |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    texts = {node.value for node in ast.walk(source(file)) if isinstance(node, ast.Constant)}
    return bool(imported & {wanted, f"{wanted}.__main__"}) or {"-m", wanted, module and module[2]} <= texts


# ---- those that need no stack ----

(IGNITION,) = blocks("docs/dialects/ignition.md")["BaseUserData"]
(COREOS,) = blocks("docs/dialects/coreos-cloudinit.md")["The dialect coreos-cloudinit"]
(MEASURE,) = inline("docs/recovery.md", ".venv/bin/python -m scripts.snapshot_memory")


def test_a_document_is_encoded_in_one_line(tmp_path: Path) -> None:
    document = b"#cloud-config\n" * 50
    for name in ("config.ign", "user-data.yaml"):
        (tmp_path / name).write_bytes(document)
    for lines in (IGNITION, COREOS):
        done = subprocess.run(["sh", "-euc", "\n".join(lines)], cwd=tmp_path, capture_output=True, check=True)
        assert b"\n" not in done.stdout
        assert base64.b64decode(done.stdout) == document


@pytest.mark.integration
def test_a_snapshot_of_some_size_goes_through_in_the_memory_that_there_is() -> None:
    try:
        tools.etcd()
    except tools.ToolMissing as reason:
        pytest.skip(str(reason))
    _, *words, mebibytes = MEASURE.split()
    assert int(mebibytes) > 1000
    done = subprocess.run(
        [sys.executable, *words, "20"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["stored"]) == (0, True), told["problem"]
    assert told["uploaded_mib"] >= 20
    assert told["parts"] > 1
    assert told["resident_mib"] < told["limit_mib"]
