"""Every command in the documents is one that exists: its target, parameters, operation or options.

Which test runs each stands in `test_commands_are_run.py`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import botocore.session
from botocore import xform_name

from playground.__main__ import _parser
from playground.tools import ROOT
from tests.support import pages

PAGES = [ROOT / page for page in pages.PAGES]
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:make|sam|aws|python -m playground) [^`]*)`")
SAM = {"build", "deploy", "delete", "logs", "remote invoke", "package", "publish"}
HIGH_LEVEL = {("s3", "cp"), ("s3", "ls"), ("ec2", "wait")}
"""Commands of the AWS command line that are no operation of a service."""


def lines() -> Iterator[tuple[str, str]]:
    """(page, command), from blocks and from running text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        where = str(page.relative_to(ROOT))
        for block in BLOCK.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                yield where, line.split(" # ")[0].strip()
        for command in INLINE.findall(BLOCK.sub("", text)):
            yield where, " ".join(command.split())


def commands(*words: str) -> list[tuple[str, str]]:
    """Those that begin so, also within a substitution or behind a pipe."""
    start = re.compile(rf"(?:^|[(|;{{&]\s*)({re.escape(' '.join(words))}(?:\s.*)?)$")
    return [(page, found[1]) for page, line in lines() if (found := start.search(line))]


TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
VARIABLES = {"PYTHON", "ETCD_VERSION", "MACHINES", "DEMO", "KEYS"}


def test_every_make_has_a_target() -> None:
    found = commands("make")
    assert len(found) > 20
    for page, command in found:
        for word in command.split()[1:]:
            name, is_variable, _ = word.partition("=")
            known = VARIABLES if is_variable else TARGETS
            assert name in known, f"{page}: {command}"


def test_every_parameter_that_a_deploy_names_is_the_templates() -> None:
    deploys = [
        (page, command) for page, command in commands("sam", "deploy") if "--parameter-overrides" in command
    ]
    assert len(deploys) > 8
    for page, command in deploys:
        named = re.findall(r"\b([A-Z][A-Za-z]+)=", command.partition("--parameter-overrides")[2])
        assert named, f"{page}: {command}"
        assert set(named) <= _parameters(page), f"{page}: {command}"


def _parameters(page: str) -> set[str]:
    """Those of the template that a page deploys, of each that lies beside it for that of the examples."""
    folder = (ROOT / page).parent
    beside = sorted(folder.glob("*.yaml")) if folder.name == "examples" else [ROOT / "template.yaml"]
    texts = [template.read_text(encoding="utf-8").partition("\nParameters:\n")[2] for template in beside]
    parts = [re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0] for text in texts]
    found = set(re.findall(r"^  ([A-Za-z]+):$", "".join(parts), re.MULTILINE))
    assert "ClusterSize" in found
    return found


def test_every_command_of_sam_is_one_of_its_own() -> None:
    for page, command in commands("sam"):
        words = [word for word in command.split()[1:3] if not word.startswith("-")]
        assert {" ".join(words), words[0] if words else ""} & SAM, f"{page}: {command}"


def test_every_command_of_aws_is_an_operation_with_such_parameters() -> None:
    session = botocore.session.get_session()
    found = commands("aws")
    assert len(found) > 10
    for page, command in found:
        service, operation = command.split()[1:3]
        if (service, operation) in HIGH_LEVEL:
            continue
        model = session.get_service_model(service.replace("s3api", "s3"))
        operations = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}
        assert operation in operations, f"{page}: {command}"
        shape = operations[operation].input_shape
        known = {xform_name(name, "-") for name in (shape.members if shape else {})} | {
            "query",
            "output",
            "region",
        }
        options = {
            word[2:].removeprefix("no-") for word in command.split() if re.fullmatch(r"--[a-z0-9-]+", word)
        }
        assert options <= known, f"{page}: {command}"


def test_every_command_of_the_playground_is_taken() -> None:
    found = commands("python", "-m", "playground")
    assert len(found) > 1
    assert [(page, command) for page, command in found if not taken(shlex.split(command)[3:])] == []
    assert not taken(["helath"])


def taken(words: list[str]) -> bool:
    """Whether the playground's command line takes these words."""
    try:
        _parser().parse_args(words)
    except SystemExit:
        return False
    return True


def test_every_file_that_a_page_links_is_there() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 50
    assert [(str(page), target) for page, target in links if not (page.parent / target).exists()] == []
