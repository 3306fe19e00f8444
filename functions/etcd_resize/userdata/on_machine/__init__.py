"""Programs that run on a machine of the cluster, by its own Python: the UserData carries their text.

cloud-init is a Python program, so every machine that reads our UserData has one; curl and wget it may lack.
They stay small: each byte is one of an answer's 4,096, which is why they have neither types nor docstrings, and why the
lines that tell ruff and mypy so are left out of a UserData. Each goes there alone, so where one imports ``fetch``, the
text of that function is put; of this package it imports nothing else. They end in one line that says what is wrong.
``tests/integration/test_cloud_init.py`` runs them where they are meant to run.
"""

import re
from pathlib import Path

_FOLDER = Path(__file__).parent
_SHARED = re.compile(r"\n+from etcd_resize\.userdata\.on_machine\.fetch import fetch\n")


def program(name: str) -> str:
    """The text of the program in the file ``name``, as it goes into a UserData."""
    _, gap, fetch = _shown("fetch.py").partition("\n\n\n")  # behind its imports
    return _SHARED.sub(lambda _: gap + fetch, _shown(name))


def _shown(name: str) -> str:
    """The file without what only the linter reads."""
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("# ruff:", "# mypy:")))
