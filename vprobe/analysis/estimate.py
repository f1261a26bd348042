"""What one series of boots says: the centre, its interval, and the smallest change that it could have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vprobe.analysis import rank_sum, signed_rank
from vprobe.analysis.exact import Floats

CONFIDENCE = 0.95
POWER_FACTOR = 1.43
"""(z(0.975) + z(0.8)) / z(0.975): turns the half-width of a 95 % interval into the effect that is found with power 0.8.
Simulated power at that effect is 0.75 to 0.82 for 6 to 60 boots (docs/statistics.md)."""

MINIMUM_BOOTS = 6
"""Fewest boots that can give a 95 % interval: 2 / 2**6 < 0.05 < 2 / 2**5."""


@dataclass(frozen=True)
class Estimate:
    """Centre of a series, with the interval that the exact test does not reject.

    `confidence` is CONFIDENCE, or what the range of fewer boots attains. `p` is of "the centre is 0", two-sided.
    """

    centre: float
    low: float
    high: float
    p: float
    boots: int
    confidence: float = CONFIDENCE

    @property
    def conclusive(self) -> bool:
        """Whether there were boots enough for the confidence that was asked for."""
        return self.confidence >= CONFIDENCE

    @property
    def minimum_detectable(self) -> float | None:
        """The smallest difference from 0 that would be found with power 0.8 at alpha 0.05; None with too few boots."""
        return POWER_FACTOR * (self.high - self.low) / 2 if self.conclusive else None


def estimate(x: Floats) -> Estimate:
    """Of a series of at least one finite value, one a boot: Hodges-Lehmann with the signed-rank interval."""
    low, high = signed_rank.interval(x, CONFIDENCE)
    confidence = CONFIDENCE
    if not np.isfinite(low):
        low, high, confidence = float(x.min()), float(x.max()), 1 - 2.0 ** (1 - len(x))
    return Estimate(signed_rank.hodges_lehmann(x), low, high, signed_rank.p_two_sided(x), len(x), confidence)


def estimate_shift(x: Floats, y: Floats) -> Estimate:
    """Of the shift of x against y, two sessions' series: Hodges-Lehmann with the rank-sum interval.

    `boots` is the number of the smaller session.
    """
    low, high = rank_sum.interval(x, y, CONFIDENCE)
    confidence = CONFIDENCE
    if not np.isfinite(low):
        differences = np.subtract.outer(x, y)
        low, high, confidence = float(differences.min()), float(differences.max()), 0.0
    return Estimate(rank_sum.shift(x, y), low, high, rank_sum.p_two_sided(x, y), min(len(x), len(y)), confidence)
