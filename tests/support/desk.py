"""Where a user types what the documents say: a shell in a checkout, led to the playground."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from playground.tools import ROOT, etcd
from tests.support.stacks import World

READS = ("sam logs ", "sh scripts/why.sh ")
LEFT_OPEN = re.compile(r"…|<[A-Za-z]+>|0123456789abcdef0")
"""What a page leaves for its reader to put in."""
SECONDS = 300
CHECKOUT = (
    *("examples", "functions", "layers", "scripts", "LICENSE", "README.md", "member.yaml", "template.yaml"),
    "samconfig.toml",
)
"""What is built and deployed, of the checkout."""


class Desk:
    """A shell that is led to a stack's playground. One table puts in what a page leaves open; the rest is its words.

    ``sam build`` has run there, unless the page does so itself (``builds``). A line that only reads, and was typed
    before, is not typed again: its answer is known.
    """

    def __init__(self, world: World, folder: Path, *, builds: bool = False) -> None:
        self._world, self._playground, self._folder = world, world.playground, folder
        self._functions: list[str] = []
        self._read: dict[str, str] = {}
        folder.mkdir(exist_ok=True)
        for name in CHECKOUT if builds else ("scripts",):
            (folder / name).symlink_to(ROOT / name)
        if not builds:
            self._configure()
        path = [str(etcd().parent), self._playground.environment["PATH"]]
        self._environment = {**os.environ, **self._playground.environment, "PATH": os.pathsep.join(path)}

    def _configure(self) -> None:
        """Let ``sam deploy`` take what the playground has built, and this world's stack."""
        config = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
        name, deploy = 'stack_name = "etcd"\n', "[default.deploy.parameters]\n"
        assert name in config
        assert deploy in config
        built = f'{deploy}template_file = "{self._playground.built_template}"\n'
        config = config.replace(deploy, built).replace(name, f'stack_name = "{self._world.stack}"\n')
        (self._folder / "samconfig.toml").write_text(config, encoding="utf-8")

    @property
    def folder(self) -> Path:
        """Where it stands."""
        return self._folder

    def table(self) -> dict[str, str]:
        """What the pages leave open or have by way of example, and what it is here, in the order in which it is put in.

        Where a page names a network for a new stack, a test's waits are shorter, too.
        """
        here = self._playground.parameters()
        groups = self._playground.client("ec2").describe_security_groups()["SecurityGroups"]
        default = next(one["GroupId"] for one in groups if one["VpcId"] == here["VpcId"])
        waits = " ".join(f"{name}={value}" for name, value in self._world.patience.items())
        network = " ".join(f"{name}={value}" for name, value in here.items())
        return {
            "vpc-0123456789abcdef0": here["VpcId"],
            "subnet-0aaaaaaaaaaaaaaaa,subnet-0bbbbbbbbbbbbbbbb,subnet-0cccccccccccccccc": here["SubnetIds"],
            "rtb-0123456789abcdef0": here["RouteTableIds"],
            "ClientCidr=10.0.0.0/16": f"ClientCidr={here['ClientCidr']} {waits}",
            "sg-… VpcId=… SubnetIds=…": f"{default} {network} {waits}",
            " …": f" {network} {waits}",
        }

    def type(self, lines: Sequence[str], put_in: Mapping[str, str] | None = None, answers: str = "") -> str:
        """What these lines print.

        ``put_in``: what this test has in place of a page's example, before the table's; each must be there.
        ``answers``: what is typed when a program asks.
        """
        script = self._put_in(lines, put_in)
        typed = script.splitlines()
        if all(line in self._read for line in typed):
            return "".join(self._read[line] for line in typed)
        if "sam deploy" in script:
            self._playground.upload_again()
        new = [line for line in typed if line not in self._read]
        printed = self._run(new, answers)
        self._read |= {line: printed for line in new if line.startswith(READS)}
        return printed

    def _put_in(self, lines: Sequence[str], put_in: Mapping[str, str] | None) -> str:
        script = "\n".join(lines)
        for example, here in (put_in or {}).items():
            assert example in script, f"{example} is not in {script}"
            script = script.replace(example, here)
        if LEFT_OPEN.search(script):
            for example, here in self.table().items():
                script = script.replace(example, here)
        assert not LEFT_OPEN.search(script), f"what is to be put in? {script}"
        return script

    def deploy(self, lines: Sequence[str], put_in: Mapping[str, str] | None = None) -> str:
        """Type a deploy of this world's stack, which must succeed; what it prints."""
        printed = self.type(lines, put_in)
        told = f"stack - {self._world.stack} "
        assert told in printed, f"another stack than {self._world.stack}:\n{printed}"
        self._world.created = True
        self._world.tls = self._world.tls and "Tls=off" not in " ".join(lines)
        return printed

    def keep(self, lines: Sequence[str], put_in: Mapping[str, str] | None = None) -> None:
        """Type these, and keep the functions and variables that they make for all that is typed later."""
        lines = self._put_in(lines, put_in).splitlines()
        functions = [line for line in lines if re.match(r"\w+\(\) \{", line)]
        self._functions += functions
        self._run([*(line for line in lines if line not in functions), "env -0 > exported"])
        exported = (self._folder / "exported").read_text(encoding="utf-8").rstrip("\0").split("\0")
        self._environment = dict(pair.split("=", 1) for pair in exported)

    def _run(self, lines: list[str], answers: str = "") -> str:
        done = subprocess.run(
            ["sh", "-euc", "\n".join([*self._functions, *lines])],
            env=self._environment,
            cwd=self._folder,
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{lines} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout
