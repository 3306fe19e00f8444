"""Programs that run on a machine of the cluster, by its own Python: the UserData carries their text.

cloud-init is a Python program, so every machine that reads our UserData has one; curl and wget it may lack.
They import nothing of this package and stay small: each byte is one of an answer's 4,096, which is why they have
neither types nor docstrings, and why the lines that tell ruff and mypy so are left out of a UserData. They end in one
line that says what is wrong. ``tests/integration/test_cloud_init.py`` runs them where they are meant to run.
"""
