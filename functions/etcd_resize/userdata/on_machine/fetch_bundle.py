#!/usr/bin/python3
# ruff: noqa: ANN001, ANN201, BLE001, D103, EXE001, PTH103, PTH105, PTH110, PTH123
# ruff: noqa: F401 - the text of fetch stands there, and needs these imports
# mypy: ignore-errors
"""Brings a member's key and certificates, once: fetch_bundle.py URL SHA256 FOLDER OWNER."""

import hashlib
import json
import os
import shutil
import sys
import time
import urllib.request

from etcd_resize.userdata.on_machine.fetch import fetch


def install(data, folder, owner):
    os.makedirs(folder, 0o755, exist_ok=True)
    for name, text in json.loads(data).items():
        draft = f"{folder}/.{name}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        shutil.chown(draft, owner)
        os.replace(draft, f"{folder}/{name}")
    open(f"{folder}/.complete", "w").close()


if __name__ == "__main__":
    url, sha256, folder, owner = sys.argv[1:]
    try:
        if not os.path.exists(f"{folder}/.complete"):
            install(fetch(url, sha256), folder, owner)
    except Exception as problem:
        sys.exit(f"etcd-resize: no certificates from {url.partition('?')[0]}: {problem}")
