"""What an environment costs before and after the work: measured by the engine itself, around a whole session."""

from __future__ import annotations

from . import QUICK, workload


@workload("lifecycle.start", kind="external", needs=(), level=QUICK)
def start() -> None:
    """From the engine's execution to the agent's first answer."""


@workload("lifecycle.stop", kind="external", needs=(), level=QUICK)
def stop() -> None:
    """From the request to end a session until nothing of it is left."""
