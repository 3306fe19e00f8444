"""Runs on a machine, by its Python: what its cloud-init makes of a UserData, and its systemd of our drop-in.

    cloud_init_judge.py FILE

prints JSON: ``config``, the merged cloud-config; ``others``, the rest as pairs of type and text; ``complaints``,
warnings; ``environment``, of a unit with our drop-in, whose ``EnvironmentFile=`` sets what must not be there.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloudinit import handlers, helpers, user_data  # type: ignore[import-not-found]
from cloudinit.config import schema  # type: ignore[import-not-found]
from cloudinit.handlers.cloud_config import CloudConfigPartHandler  # type: ignore[import-not-found]

UNIT = Path("/run/systemd/system/judged.service")
DROP_IN = "/etc/systemd/system/etcd.service.d/99-etcd-resize.conf"
DEFAULTS, PRINTED = Path("/run/judged.defaults"), Path("/run/judged.environment")
CONTRARY = "ETCD_DISCOVERY=https://discovery.etcd.io/x\nETCD_FORCE_NEW_CLUSTER=true\nETCD_TICK=100\n"


class Complaints(logging.Handler):
    """The warnings, as they come."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one down."""
        self.said.append(record.getMessage())


def merged(document: bytes) -> dict[str, Any]:
    """What cloud-init reads in the document."""
    paths = helpers.Paths({"cloud_dir": "/tmp/judged", "run_dir": "/tmp/judged"})  # noqa: S108 — a machine's own
    read = user_data.UserDataProcessor(paths).process(document)
    config = CloudConfigPartHandler(paths)
    config.handle_part(None, "__begin__", None, None, "always", {})
    complaints, others = Complaints(), []
    logging.getLogger().addHandler(complaints)

    def take(_: object, name: str, text: str, headers: dict[str, str]) -> None:
        if headers["Content-Type"] == "text/cloud-config":
            config.handle_part(None, headers["Content-Type"], name, text, "always", headers)
        else:
            others.append((headers["Content-Type"], text))

    handlers.walk(read, take, None)
    if config.cloud_buf:
        schema.validate_cloudconfig_schema(config.cloud_buf, schema.get_schema(), strict=True)
    return {"config": config.cloud_buf, "others": others, "complaints": complaints.said}


def environment(drop_in: str) -> dict[str, str]:
    """What systemd gives to a unit with that drop-in."""
    folder = UNIT.with_suffix(".service.d")
    folder.mkdir(parents=True, exist_ok=True)
    DEFAULTS.write_text(CONTRARY, encoding="utf-8")
    UNIT.write_text(
        f"[Service]\nType=oneshot\nEnvironment=ETCD_NAME=%H\nEnvironmentFile=-{DEFAULTS}\n"
        f"ExecStart=/usr/bin/env -0\nStandardOutput=truncate:{PRINTED}\n",
        encoding="utf-8",
    )
    (folder / "99.conf").write_text(drop_in, encoding="utf-8")
    for order in (["daemon-reload"], ["start", UNIT.name]):
        subprocess.run(["/usr/bin/systemctl", *order], check=True)
    pairs = [text.partition("=") for text in PRINTED.read_text(encoding="utf-8").split("\0")]
    return {name: value for name, _, value in pairs if name.startswith("ETCD_")}


if __name__ == "__main__":
    found = merged(Path(sys.argv[1]).read_bytes())
    files = (found["config"] or {}).get("write_files", [])
    ours = [file["content"] for file in files if file["path"] == DROP_IN]
    print(json.dumps({**found, "environment": environment(ours[0]) if ours else {}}))  # noqa: T201 — its answer
