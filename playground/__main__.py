"""The playground's command line: `python -m playground up | status | health | maintain | shell | down | trees`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TypeAlias

from playground import containers, tools, tree
from playground.account import KINDS, USERS_OWN, PlaygroundError
from playground.local import Playground, end_cloud, end_machines, read_state
from playground.processes import start_time

STACK = "etcd"
"""The name of the stack in the lines that `up` prints."""
EVENTS = (
    f"aws cloudformation describe-stack-events --stack-name {STACK} --output text "
    "--query 'StackEvents[].[ResourceStatus,LogicalResourceId,ResourceStatusReason]'"
)
ACTIONS = ("snapshot", "defragment")
"""What a stack's ClusterMaintenance does when it is asked."""
DOWN_SECONDS = 30.0
"""How long `down` waits for `up` to end everything in order."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (PlaygroundError, tools.ToolMissing, tree.TreeError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m playground",
        description="A small AWS on this machine: a local CloudFormation for real sam, and machines that boot etcd. "
        "It needs no account and no docker, and no root unless the machines are containers.",
    )
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument(
        "--directory",
        type=Path,
        default=Path(".playground"),
        help="where everything lies (default: %(default)s)",
    )
    commands = parser.add_subparsers(title="commands", required=True)
    _add_up(commands, directory)
    status = commands.add_parser("status", parents=[directory], help="show the stacks and the machines")
    status.set_defaults(command=_status)
    _add_health(commands, directory)
    _add_maintain(commands, directory)
    _add_shell(commands, directory)
    down = commands.add_parser(
        "down", parents=[directory], help="end everything, also after an `up` that was killed"
    )
    down.set_defaults(command=_down)
    trees = commands.add_parser(
        "trees", help="build what container machines boot, if it is not there yet (root; a few minutes)"
    )
    trees.set_defaults(command=_trees)
    return parser


# ---- up ----


def _add_up(commands: Commands, directory: argparse.ArgumentParser) -> None:
    up = commands.add_parser(
        "up",
        parents=[directory],
        help="start it, and stay until Ctrl-C or `down`",
        description="Start the playground, build the stack, and print what to type. Ctrl-C or `down` ends everything.",
    )
    up.add_argument("--port", type=int, default=4566, help="the port of the local AWS (default: %(default)s)")
    up.add_argument(
        "--machines",
        choices=KINDS,
        default="process",
        help="what a machine is: a process, or a container with its own systemd and cloud-init (default: %(default)s)",
    )
    networks = ", ".join(f"{network} for {kind}" for kind, network in KINDS.items())
    up.add_argument(
        "--network", default="", help=f"the first half of the machines' addresses (default: {networks})"
    )
    up.add_argument(
        "--page-port", type=int, default=0, help="the port of the live page (default: any that is free)"
    )
    up.add_argument(
        "--etcd", type=Path, help="the etcd that process machines run (default: the one of `make tools`)"
    )
    up.add_argument(
        "--release",
        choices=tree.RELEASES,
        default=tree.DEFAULT,
        help="the Debian of container machines (default: %(default)s)",
    )
    up.set_defaults(command=_up)


def _up(options: argparse.Namespace) -> int:
    from playground.live import Live  # noqa: PLC0415 - the other commands do without etcd's and AWS's packages

    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: asked.set())
    playground = Playground(
        options.directory,
        kind=options.machines,
        network=options.network,
        port=options.port,
        etcd=options.etcd,
        release=options.release,
    )
    print(f"starting the local AWS in {playground.directory} ...", flush=True)
    with playground:
        print("building the stack with sam ...", flush=True)
        playground.build()
        _write_environment(playground)
        with Live(playground, STACK, port=options.page_port) as live:
            print(_instructions(playground, live.address), flush=True)
            while playground.alive and not asked.wait(0.5):
                pass
        if not asked.is_set():
            raise PlaygroundError(
                f"The local AWS ended by itself, see {playground.directory}/logs/cloudformation.log."
            )
        print("ending the machines and the local AWS ...", flush=True)
    return 0


def _write_environment(playground: Playground) -> None:
    (playground.directory / "environment").write_text(
        "\n".join(_exports(playground)) + "\n", encoding="utf-8"
    )


def _exports(playground: Playground) -> list[str]:
    programs = os.pathsep.join(str(folder) for folder in playground.programs)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in playground.settings.items()]
    return [*lines, f'export PATH={shlex.quote(programs)}:"$PATH"', f"unset {' '.join(USERS_OWN)}"]


def _instructions(playground: Playground, page: str) -> str:
    template = _relative(playground.built_template)
    deploy = playground.deploy_command(STACK, {"ClusterSize": "1", **playground.parameters()}, template)
    exports = "\n".join(f"  {line}" for line in _exports(playground))
    return f"""
The playground is up. Look at it, resize it and break it in a browser on this machine:

  {page}

Or in another terminal, in this folder:

{exports}

or, shorter:

  source {_relative(playground.directory / "environment")}

Then deploy, and deploy again with another ClusterSize:

  {shlex.join(deploy)}

See what happened, and delete the stack:

  {EVENTS}
  sh scripts/why.sh {STACK}
  sam delete --stack-name {STACK} --no-prompts

Logs are in {_relative(playground.directory / "logs")} and beside each machine. Ctrl-C ends everything.
"""


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


# ---- status ----


def _status(options: argparse.Namespace) -> int:
    playground = Playground.running(options.directory)
    print(f"{playground.endpoint}, machines in {playground.network}.0.0/16")
    print("\nstacks")
    for stack in playground.client("cloudformation").describe_stacks()["Stacks"]:
        print(f"  {stack['StackStatus']:<28}  {stack['StackName']}")
    print("\nmachines")
    for machine in playground.machines():
        protected = "protected" if machine.protected else ""
        print(
            f"  {machine.address:<15}  {machine.name or '-':<12}  {machine.state:<12}  {machine.instance}  {protected}"
        )
    return 0


# ---- health ----


def _add_health(commands: Commands, directory: argparse.ArgumentParser) -> None:
    health = commands.add_parser(
        "health",
        parents=[directory],
        help="ask a stack's ClusterHealth how its cluster is",
        description="Invoke the function ClusterHealth. The exit status is 0 for a healthy cluster, 2 for another one.",
    )
    health.add_argument("--stack", default=STACK, help="the stack (default: %(default)s)")
    health.add_argument("--json", action="store_true", help="print the report as data")
    health.set_defaults(command=_health)


def _health(options: argparse.Namespace) -> int:
    report = Playground.running(options.directory).invoke(options.stack, "ClusterHealth")
    text = report.pop("text")
    print(json.dumps(report, indent=2) if options.json else "\n".join(text))
    return 0 if report["state"] == "healthy" else 2


# ---- maintain ----


def _add_maintain(commands: Commands, directory: argparse.ArgumentParser) -> None:
    maintain = commands.add_parser(
        "maintain",
        parents=[directory],
        help="take a snapshot of a stack's cluster, or defragment it",
        description="Invoke the function ClusterMaintenance, and print what it answers.",
    )
    maintain.add_argument("action", choices=ACTIONS)
    maintain.add_argument("--stack", default=STACK, help="the stack (default: %(default)s)")
    maintain.set_defaults(command=_maintain)


def _maintain(options: argparse.Namespace) -> int:
    playground = Playground.running(options.directory)
    answer = playground.invoke(options.stack, "ClusterMaintenance", {"action": options.action})
    print("\n".join(f"{name}: {told}" for name, told in answer.items()))
    return 0


# ---- shell ----


def _add_shell(commands: Commands, directory: argparse.ArgumentParser) -> None:
    shell = commands.add_parser(
        "shell",
        parents=[directory],
        help="run a command in a container machine, a shell if none is given (root)",
    )
    shell.add_argument("machine", help="the name of its member, or its instance id")
    shell.add_argument("command_line", nargs=argparse.REMAINDER, metavar="command")
    shell.set_defaults(command=_shell)


def _shell(options: argparse.Namespace) -> int:
    found = [
        machine
        for machine in Playground.running(options.directory).machines()
        if options.machine in (machine.name, machine.instance)
    ]
    if not found:
        raise PlaygroundError(f"There is no machine {options.machine}: `status` lists them.")
    if found[0].kind != "container" or found[0].pid is None:
        raise PlaygroundError(f"{options.machine} is no container that runs: there is nothing to enter.")
    command = containers.enter(found[0].pid, *(options.command_line or ["bash", "-l"]))
    return subprocess.run(command, check=False).returncode


# ---- down ----


def _down(options: argparse.Namespace) -> int:
    directory = options.directory.resolve()
    state = read_state(directory)
    if state and _lives(state["pid"], state["started"]):
        _signal(state["pid"], signal.SIGTERM)
        _wait_for_end(state["pid"], state["started"])
    if state and _lives(state["cloud_pid"], state["cloud_started"]):
        end_cloud(state["cloud_pid"], lambda: not _lives(state["cloud_pid"], state["cloud_started"]))
    left = end_machines(directory)
    (directory / "state.json").unlink(missing_ok=True)
    print("The playground is down." if state or left else f"No playground runs in {directory}.")
    return 0


# ---- trees ----


def _trees(_options: argparse.Namespace) -> int:
    tree.install()
    for release in tree.RELEASES:
        print(tree.find(release), flush=True)
    return 0


def _lives(pid: int, started: str) -> bool:
    return start_time(pid) == started


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended just now
        os.kill(pid, number)


def _wait_for_end(pid: int, started: str) -> None:
    deadline = time.monotonic() + DOWN_SECONDS
    while _lives(pid, started):
        if time.monotonic() > deadline:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
