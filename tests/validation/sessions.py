"""Simulated sessions of two equal or unequal variants, their noise drawn from what a real machine did."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from synthetic import synthetic_run

from vprobe.analysis.signed_rank import hodges_lehmann
from vprobe.model import Noise, Run, Samples, Visit

RECORDED = Path(__file__).parents[1] / "data" / "analysis" / "recorded_noise.json.gz"
ARMS = ("bare/base", "bare/head", "bare-aa")
BASE_NS = 100.0
_QUIET = Noise(None, None, None, None, None)


@dataclass(frozen=True)
class Recorded:
    """Of one workload: ln(ratio) of equal arms, shape (boots, rounds), around 0."""

    name: str
    noise: np.ndarray

    @property
    def sigma_round(self) -> float:
        """Standard deviation of rounds, by the median absolute deviation, so that stolen time slices do not set it."""
        within = self.noise - np.median(self.noise, axis=1, keepdims=True)
        return float(1.4826 * np.median(np.abs(within)))


def recorded_noise(path: Path = RECORDED) -> list[Recorded]:
    """The recorded workloads; each is centred by its estimate, since what differs over all boots is no noise."""
    document = json.loads(gzip.decompress(path.read_bytes()))
    found = []
    for name, rows in document["workloads"].items():
        noise = np.array(rows)
        found.append(Recorded(name, noise - hodges_lehmann(np.median(noise, axis=1))))
    return found


@dataclass(frozen=True)
class Session:
    """How to draw a session.

    `sigma_boot`: boot-level noise in units of the recorded sigma of rounds, in place of the recorded boots'; None keeps
    these. `correlation` (lag 1) and `drift` (first boot to last, in units of the boots' sigma) act on head, and need a
    `sigma_boot`. `effect`: how many times slower head is.
    """

    workloads: int = 20
    boots: int = 20
    rounds: int = 60
    sigma_boot: float | None = None
    effect: float = 1.0
    correlation: float = 0.0
    drift: float = 0.0


def draw(random: np.random.Generator, recorded: Sequence[Recorded], session: Session) -> Run:
    """A run with arms bare/base, bare/head and bare-aa. Boots are drawn with replacement, and of each some rounds on end."""
    names = [f"w.{index}" for index in range(session.workloads)]
    frame = synthetic_run(boots=0, rounds=1, arms=ARMS, workloads=names)
    visits = [
        visit
        for name in names
        for visit in _visits(random, name, recorded[int(random.integers(len(recorded)))], session)
    ]
    return msgspec.structs.replace(frame, visits=tuple(visits))


def _visits(random: np.random.Generator, name: str, source: Recorded, session: Session) -> list[Visit]:
    control = _rounds(random, source, session, _independent(random, source, session))
    head = _rounds(random, source, session, _dependent(random, source, session)) + np.log(session.effect)
    base = (BASE_NS,) * session.rounds
    rows = (0,) * session.rounds
    visits = []
    for boot in range(session.boots):
        samples = {
            "bare/base": Samples(1, base),
            "bare/head": Samples(1, tuple((BASE_NS * np.exp(head[boot])).tolist())),
            "bare-aa": Samples(1, tuple((BASE_NS * np.exp(control[boot])).tolist())),
        }
        visits.append(Visit(boot, boot, name, 0, rows, _QUIET, samples))
    return visits


def _rounds(random: np.random.Generator, source: Recorded, session: Session, offsets: np.ndarray | None) -> np.ndarray:
    """ln(ratio) of two equal arms, shape (boots, rounds): recorded boots, moved to `offsets` where these are given."""
    boots, rounds = source.noise.shape
    starts = random.integers(max(rounds - session.rounds, 0) + 1, size=session.boots)
    columns = starts[:, None] + np.arange(min(session.rounds, rounds))
    chosen = source.noise[random.integers(boots, size=session.boots)[:, None], columns]
    if offsets is None:
        return chosen
    return chosen - np.median(chosen, axis=1, keepdims=True) + offsets[:, None]


def _independent(random: np.random.Generator, source: Recorded, session: Session) -> np.ndarray | None:
    """Boot-level noise of an arm in which nothing depends on anything; None to keep the recorded boots'."""
    if session.sigma_boot is None:
        return None
    return _scale(source, session) * random.normal(size=session.boots)


def _dependent(random: np.random.Generator, source: Recorded, session: Session) -> np.ndarray | None:
    """The same with the session's correlation and drift."""
    if session.sigma_boot is None:
        return None
    ramp = session.drift * (np.arange(session.boots) / (session.boots - 1) - 0.5)
    return _scale(source, session) * (autoregressive(random, session.boots, session.correlation) + ramp)


def _scale(source: Recorded, session: Session) -> float:
    """Sigma of the boots' medians: that of the boots' own noise and what is left of the rounds' in a median."""
    own = (session.sigma_boot or 0.0) * source.sigma_round
    return float(np.hypot(own, 1.2533 * source.sigma_round / np.sqrt(session.rounds)))


def autoregressive(random: np.random.Generator, boots: int, rho: float) -> np.ndarray:
    """Stationary first-order autoregressive series of variance 1."""
    x = random.normal(size=boots)
    for boot in range(1, boots):
        x[boot] = rho * x[boot - 1] + np.sqrt(1 - rho**2) * x[boot]
    return x
