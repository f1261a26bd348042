"""Asking several environments at once whether they can run here: each tries itself, which takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vprobe.environments import Available, Environment, Unavailable
from vprobe.errors import VprobeError

WORKERS = 4


def ask(environment: Environment) -> Available | Unavailable:
    """Its own answer; a check that breaks is a reason, too, since one environment must not hide the others."""
    try:
        return environment.availability()
    except VprobeError as error:
        return Unavailable(error.message, error.hint)
    except Exception as error:  # an environment of another package may raise anything
        return Unavailable(f"its availability check failed: {type(error).__name__}: {error}"[:300], "report it")


def survey(environments: Sequence[Environment]) -> tuple[Available | Unavailable, ...]:
    """The answers of all, in their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return tuple(pool.map(ask, environments))
