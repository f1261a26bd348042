"""Asking several environments at once whether they can run here: each tries itself, which takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vprobe.environments import Available, Environment, Unavailable
from vprobe.errors import VprobeError

WORKERS = 4


_answers: dict[int, tuple[Environment, Available | Unavailable]] = {}


def ask(environment: Environment) -> Available | Unavailable:
    """Its own answer; a check that breaks is a reason, too, since one environment must not hide the others."""
    answer: Available | Unavailable
    try:
        answer = environment.availability()
    except VprobeError as error:
        answer = Unavailable(error.message, error.hint)
    except Exception as error:  # an environment of another package may raise anything
        answer = Unavailable(f"its availability check failed: {type(error).__name__}: {error}"[:300], "report it")
    _answers[id(environment)] = environment, answer
    return answer


def answer_of(environment: Environment) -> Available | Unavailable:
    """What it answered last, or its answer now: a run wants to know several times, and each trial takes its time."""
    known = _answers.get(id(environment))
    return known[1] if known else ask(environment)


def survey(environments: Sequence[Environment]) -> tuple[Available | Unavailable, ...]:
    """The answers of all, in their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return tuple(pool.map(ask, environments))
