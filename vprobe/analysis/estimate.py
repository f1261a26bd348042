"""What one series of boots says: the centre, its interval, and the smallest change that it could have shown."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from statistics import NormalDist

import numpy as np

from vprobe.analysis import rank_sum, signed_rank
from vprobe.analysis.exact import Floats

CONFIDENCE = 0.95
SHARES = (0.2, 0.3, 0.5)
"""Of alpha, that each look of an adaptive run may spend. They sum to 1, so that whatever decides when to stop, what is said
at the end is wrong no more often than alpha (Bonferroni over the looks)."""


def share_at(looks: tuple[int, ...], boots: int) -> float:
    """The share of alpha that a series of so many boots may spend: all of it, unless its run was looked at on the way.

    A series that ended between two looks (the time was up) takes the share of the later one.
    """
    return (
        next((share for look, share in zip(looks, SHARES, strict=False) if boots <= look), SHARES[-1]) if looks else 1.0
    )


def power_factor(share: float = 1.0) -> float:
    """(z(1 - alpha / 2) + z(0.8)) / z(1 - alpha / 2), 1.43 for alpha = 0.05.

    It turns the half-width of an interval into the effect that is found with power 0.8; simulated power at that effect is
    0.75 to 0.82 for 6 to 60 boots (docs/statistics.md).
    """
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) * share / 2)
    return (z + NormalDist().inv_cdf(0.8)) / z


def minimum_boots(share: float = 1.0) -> int:
    """Fewest boots that can give the interval: 6 for 95 %, since 2 / 2**6 < 0.05 < 2 / 2**5."""
    return ceil(log2(2 / ((1 - CONFIDENCE) * share)))


@dataclass(frozen=True)
class Estimate:
    """Centre of a series, with the interval that the exact test does not reject.

    `confidence` is CONFIDENCE, or what the range of fewer boots attains; over all looks, where the run was adaptive and the
    series has a `share` of alpha only. `p` is of "the centre is 0", two-sided.
    """

    centre: float
    low: float
    high: float
    p: float
    boots: int
    confidence: float = CONFIDENCE
    share: float = 1.0

    @property
    def conclusive(self) -> bool:
        """Whether there were boots enough for the confidence that was asked for."""
        return self.confidence >= CONFIDENCE

    @property
    def minimum_detectable(self) -> float | None:
        """The smallest difference from 0 that would be found with power 0.8 at alpha 0.05; None with too few boots."""
        return power_factor(self.share) * (self.high - self.low) / 2 if self.conclusive else None


def estimate(x: Floats, share: float = 1.0) -> Estimate:
    """Of a series of at least one finite value, one a boot: Hodges-Lehmann with the signed-rank interval."""
    low, high = signed_rank.interval(x, 1 - (1 - CONFIDENCE) * share)
    confidence = CONFIDENCE
    if not np.isfinite(low):
        low, high, confidence = float(x.min()), float(x.max()), 1 - 2.0 ** (1 - len(x))
    return Estimate(signed_rank.hodges_lehmann(x), low, high, signed_rank.p_two_sided(x), len(x), confidence, share)


def estimate_shift(x: Floats, y: Floats, share: float = 1.0) -> Estimate:
    """Of the shift of x against y, two sessions' series: Hodges-Lehmann with the rank-sum interval.

    `boots` is the number of the smaller session.
    """
    low, high = rank_sum.interval(x, y, 1 - (1 - CONFIDENCE) * share)
    confidence = CONFIDENCE
    if not np.isfinite(low):
        differences = np.subtract.outer(x, y)
        low, high, confidence = float(differences.min()), float(differences.max()), 0.0
    boots = min(len(x), len(y))
    return Estimate(rank_sum.shift(x, y), low, high, rank_sum.p_two_sided(x, y), boots, confidence, share)
