# ruff: noqa: ANN001, ANN201, ARG001, BLE001, D100, D103, LOG015, PTH110, SLF001, TRY400
# ruff: noqa: E402, F401 - the text of fetch stands there, and needs these imports
# mypy: ignore-errors
import hashlib
import json
import logging
import os
import time
import urllib.request

from cloudinit import stages, util

frequency, handler_version = "always", 2
wanted = {}


def list_types():
    return ["text/x-etcd-resize"]


from etcd_resize.userdata.on_machine.fetch import fetch


def handle_part(cloud, kind, name, text, frequency):
    if kind in list_types():
        wanted.update(json.loads(text))
    kept = cloud.paths.get_ipath() + "/etcd-resize"
    if kind != "__end__" or (frequency == "always" and not os.path.exists(kept)):
        return
    url, sha256 = wanted["url"], wanted["sha256"]
    source = cloud.datasource
    short = source.userdata_raw
    try:
        data = fetch("file:" + kept if os.path.exists(kept) else url, sha256)
        util.write_file(kept, data, 0o600)
        source.userdata_raw, source.userdata = data, None
        init = stages.Init()
        init.read_cfg()
        init.datasource = source
        init._consume_userdata(frequency)
    except Exception as problem:
        logging.error("etcd-resize: no UserData from %s: %s", url.partition("?")[0], problem)
    source.userdata_raw, source.userdata = short, None
