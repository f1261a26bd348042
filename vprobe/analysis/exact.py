"""Inverting an exact rank test into an interval, ties and all.

A rank test's p value, seen as a function of the centre or shift that is tested, only changes where an observation changes
its rank: at finitely many candidates (averages or differences of pairs). Between two candidates it is constant, at a
candidate it has a value of its own. So the set of values that the test does not reject is found by looking at each
candidate and at one point in each gap.

Numbers are put on an integer grid first: ties are then exact, whatever rounding the logarithms went through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GRID_BITS = 46
"""Steps of the grid in the largest magnitude: 1.4e-14 of it, far below any clock, far above floating-point noise."""

SCAN_LIMIT = 400
"""Candidates up to which each is looked at. Beyond, the edge is found by bisection: ties let p fall back a little here and
there on its way up, and with so many candidates that moves the edge by less than it is worth."""

PValue = Callable[[int], float]
"""p of the hypothesis "the candidate is t / 2", where t is on the grid of the candidates doubled."""


@dataclass(frozen=True)
class Grid:
    """Observations as integers: value = integer * step."""

    step: float
    values: tuple[Integers, ...]

    @classmethod
    def of(cls, *samples: Floats) -> Grid:
        """Put samples on one common grid. Its step is a power of two, so that short values stay exact."""
        largest = max((float(np.abs(sample).max()) for sample in samples if len(sample)), default=0.0)
        step = float(2.0 ** (np.ceil(np.log2(largest)) - GRID_BITS)) if largest > 0 else 1.0
        return cls(step, tuple(np.rint(sample / step).astype(np.int64) for sample in samples))


def doubled_midranks(magnitudes: Integers) -> Integers:
    """Twice the rank of each value, 1 being the smallest; equal values share the mean of their ranks."""
    _, index, counts = np.unique(magnitudes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((2 * last - counts + 1)[index], dtype=np.int64)


def not_rejected(candidates: Integers, p: PValue, alpha: float) -> tuple[float, float] | None:
    """Hull of what a test with that p does not reject at `alpha`, in grid steps; infinite where there are too few data.

    `candidates`: sorted, distinct. None where everything is rejected, which ties can bring about: with 34 observations of
    0 and 6 below it the data are symmetric around nothing.
    """
    low = _edge(candidates, p, alpha)
    if low is None:
        return None
    high = _edge(-candidates[::-1], lambda t: p(-t), alpha)
    assert high is not None
    return low, -high


def _edge(candidates: Integers, p: PValue, alpha: float) -> float | None:
    """The lower end of the hull. Places are counted outside in: gap 0, candidate 0, gap 1, candidate 1, …"""
    places = 2 * len(candidates) + 1

    def accepted(place: int) -> bool:
        return p(_doubled(candidates, place)) > alpha

    if len(candidates) <= SCAN_LIMIT:
        place = next((place for place in range(places) if accepted(place)), None)
        if place is None:
            return None
    else:
        place = _bisect(accepted, places // 2)
    return -np.inf if place == 0 else float(candidates[(place - 1) // 2])


def _bisect(accepted: Callable[[int], bool], inside: int) -> int:
    """First accepted place up to `inside`, which is accepted."""
    outside = -1
    while inside - outside > 1:
        middle = (inside + outside) // 2
        if accepted(middle):
            inside = middle
        else:
            outside = middle
    return inside


def _doubled(candidates: Integers, place: int) -> int:
    """Twice a candidate (odd place), or the sum of the two around a gap (even place)."""
    after, is_candidate = divmod(place, 2)
    if is_candidate:
        return 2 * int(candidates[after])
    if after == 0:
        return 2 * int(candidates[0]) - 1
    if after == len(candidates):
        return 2 * int(candidates[-1]) + 1
    return int(candidates[after - 1]) + int(candidates[after])
