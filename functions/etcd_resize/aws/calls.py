"""How AWS is called, and what it says when it refuses."""

from __future__ import annotations

from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(connect_timeout=3, read_timeout=20, retries={"total_max_attempts": 3, "mode": "standard"})
"""A subnet without a route to the service must end in a sentence, soon."""


def code(problem: ClientError) -> str:
    """AWS's name for it, for instance AccessDenied; empty if there is none."""
    return str(problem.response.get("Error", {}).get("Code", ""))


def cause(problem: Exception) -> str:
    """Why, as a sentence ends."""
    if isinstance(problem, ClientError):
        error = problem.response.get("Error", {})
        return f"{error.get('Code', 'error')}: {error.get('Message', '')}"
    return str(problem)
