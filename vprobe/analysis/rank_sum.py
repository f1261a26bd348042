"""Two independent samples: the shift between them, by the exact permutation distribution of rank sums on midranks.

This is Wilcoxon's rank-sum (Mann-Whitney) test. Given the pooled values, every choice of which of them form the first
sample is equally likely, so ties need no correction.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, erfc, sqrt

import numpy as np

from vprobe.analysis.exact import Floats, Grid, Integers, doubled_midranks, not_rejected

EXACT_LIMIT = 60
"""Observations of both samples together up to which the distribution is enumerated; beyond, it is taken as normal."""


def shift(x: Floats, y: Floats) -> float:
    """Hodges-Lehmann: the median of all differences x - y. Neither is empty."""
    return float(np.median(np.subtract.outer(x, y)))


def p_greater(x: Floats, y: Floats, by: float = 0.0) -> float:
    """p of "x is at most y + `by`" against "it is greater"."""
    return _p_greater(*Grid.of(x - by, y).values)


def p_two_sided(x: Floats, y: Floats, by: float = 0.0) -> float:
    """p of "x is shifted against y by `by`": twice the smaller one-sided p, at most 1."""
    return _p_two_sided(*Grid.of(x - by, y).values)


def interval(x: Floats, y: Floats, confidence: float) -> tuple[float, float]:
    """The shifts that the two-sided test does not reject at 1 - confidence; infinite where the samples are too short."""
    grid = Grid.of(x, y)
    first, second = grid.values
    differences = np.sort(np.subtract.outer(first, second), axis=None)
    alpha = round(1 - confidence, 12)  # 1 - 0.9 is less than 0.1
    untied = len(np.unique(first)) == len(first) and len(np.unique(second)) == len(second)
    found = None
    if not untied or len(first) + len(second) > EXACT_LIMIT:
        found = not_rejected(np.unique(differences), lambda t: _p_two_sided(2 * first - t, 2 * second), alpha)
    low, high = found or _untied_interval(differences, len(first), len(second), alpha)
    return low * grid.step, high * grid.step


def _untied_interval(differences: Integers, m: int, n: int, alpha: float) -> tuple[float, float]:
    """The same where no sample has equal values: p is monotone, and a count of differences from each end is enough.

    It also serves where ties leave no shift that is not rejected.
    """
    ranks = tuple(range(2, 2 * (m + n) + 1, 2))
    least = m * (m + 1)  # twice the rank sum of m first places
    rejected = 0
    while 2 * _tail(ranks, m, least + 2 * (m * n - rejected)) <= alpha:
        rejected += 1
    if rejected == 0:
        return -np.inf, np.inf
    return float(differences[rejected - 1]), float(differences[-rejected])


def _p_two_sided(x: Integers, y: Integers) -> float:
    return min(1.0, 2 * min(_p_greater(x, y), _p_greater(-x, -y)))


def _p_greater(x: Integers, y: Integers) -> float:
    scores = doubled_midranks(np.concatenate([x, y]))
    observed = int(scores[: len(x)].sum())
    return _tail(tuple(sorted(scores.tolist())), len(x), observed)


def _tail(scores: tuple[int, ...], chosen: int, observed: int) -> float:
    """P(sum of `chosen` of the scores, drawn without replacement, >= observed)."""
    if len(scores) > EXACT_LIMIT:
        return _normal_tail(scores, chosen, observed)
    tails = _tails(scores, chosen)
    return float(tails[observed]) if observed < len(tails) else 0.0


@lru_cache(maxsize=512)
def _tails(scores: tuple[int, ...], chosen: int) -> Floats:
    """P(sum >= k): the number of choices of j scores with each sum, by adding one score after the other."""
    largest = sum(scores[-chosen:])
    ways = np.zeros((chosen + 1, largest + 1))
    ways[0, 0] = 1.0
    for score in scores:
        ways[1:, score:] += ways[:-1, : largest + 1 - score].copy()
    return np.cumsum(ways[chosen, ::-1])[::-1] / comb(len(scores), chosen)


def _normal_tail(scores: tuple[int, ...], chosen: int, observed: int) -> float:
    """The same by the normal distribution with the exact mean and variance, and half a step of continuity correction."""
    array = np.asarray(scores, dtype=np.float64)
    n = len(array)
    deviation = sqrt(float(array.var()) * chosen * (n - chosen) / (n - 1))
    return erfc((observed - 1 - chosen * float(array.mean())) / deviation / sqrt(2)) / 2
