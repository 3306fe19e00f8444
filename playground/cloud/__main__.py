"""Start the local AWS: `python -m playground.cloud DIRECTORY NETWORK KIND SOURCE [IMAGE=SOURCE ...]`.

KIND is what machines are: `process`, with SOURCE as their etcd, or `container`, with SOURCE as their tree. Machines of
an IMAGE that has a SOURCE of its own have that one. ministack's own settings are in the environment. It serves TLS on
BIND_HOST, and on the network's own address to containers, on the port of GATEWAY_PORT and nothing else, until SIGTERM,
and keeps no state between two runs.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.core.tls import resolve_tls_material

from playground import containers
from playground.booting import ContainerMachine, ProcessMachine
from playground.cloud import ec2, hooks, parts
from playground.cloud.calls import Recorded
from playground.cloud.engine import Engine
from playground.journal import Journal
from playground.machines import Bootable, Launch, Machines
from playground.network import Network, NetworkError

Make = Callable[[Path, Launch], Bootable]


def main(directory: Path, network: str, kind: str, source: Path, by_image: Mapping[str, Path]) -> None:
    """Put everything together and serve until SIGTERM."""
    ending = ExitStack()

    def source_of(launch: Launch) -> Path:
        return by_image.get(launch.image, source)

    make, hosts = ending.enter_context(KINDS[kind](directory, network, source_of))
    journal = Journal(directory / "journal.jsonl")
    control = directory / "control"
    machines = Machines(directory / "machines", make, control / "never-boot", journal)
    hooks.install_engine(Engine(journal))
    hooks.install_ec2(ec2.Ec2(machines))
    hooks.install_images(control / "images.json")
    hooks.install_function_log(directory / "logs" / "function.log")
    ec2.create_network(network, directory / "cloud" / "network.json")

    def end() -> None:
        machines.stop_all()
        ending.close()
        parts.lambda_runtime.reset()
        os._exit(0)  # no state is worth saving, and threads that wait for an answer would hold the process

    calls = Journal(directory / "cloud/calls.jsonl")
    asyncio.run(_serve(Recorded(app, calls), hosts, threading.Thread(target=end).start))


@contextmanager
def _processes(
    _directory: Path, _network: str, etcd_of: Callable[[Launch], Path]
) -> Iterator[tuple[Make, list[str]]]:
    certificate, _ = resolve_tls_material()

    def make(folder: Path, launch: Launch) -> ProcessMachine:
        return ProcessMachine(folder, launch, etcd=etcd_of(launch), trusted=Path(certificate))

    yield make, []


@contextmanager
def _containers(
    directory: Path, network: str, tree_of: Callable[[Launch], Path]
) -> Iterator[tuple[Make, list[str]]]:
    certificate, _ = resolve_tls_material()
    with Network(network, directory) as within:

        def make(folder: Path, launch: Launch) -> ContainerMachine:
            base = tree_of(launch)
            prepare = functools.partial(containers.trust, base, Path(certificate))
            return ContainerMachine(folder, launch, base=base, within=within, prepare=prepare)

        yield make, [within.gateway]


KINDS = {"process": _processes, "container": _containers}


async def _serve(served: Recorded, hosts: list[str], end: Callable[[], None]) -> None:
    config = Config()
    config.bind = [f"{host}:{os.environ['GATEWAY_PORT']}" for host in [os.environ["BIND_HOST"], *hosts]]
    config.certfile, config.keyfile = resolve_tls_material()
    config.keep_alive_timeout = 75
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await serve(served, config, shutdown_trigger=asyncio.Event().wait)  # never: SIGTERM ends the process


if __name__ == "__main__":
    try:
        sources = dict(argument.split("=", 1) for argument in sys.argv[5:])
        by_image = {image: Path(source) for image, source in sources.items()}
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), by_image)
    except NetworkError as error:
        sys.exit(str(error))
