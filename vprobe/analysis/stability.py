"""Were the boots independent? A gate fails nobody on the strength of a drift.

The exact tests take boots as exchangeable. A trend over the session, or correlation from boot to boot, breaks that: the
interval is then too narrow. With 9 or 20 boots, though, a correlation above 0.2 turns up by chance in one series of eight,
so that a plain "above 0.2 is inconclusive" would throw away one true failure in eight. Hence two tiers (figures in
docs/statistics.md):

- Clear evidence (p < 0.01, in the series or over all series of the session): no failure, unless every boot is beyond the
  limit by more than three times what all boots together span, which no drift of this size explains.
- A correlation above 0.2 without clear evidence: the interval is widened as for a first-order autoregressive series, and the
  failure stands only if the widened one still clears the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from vprobe.analysis.estimate import Estimate
from vprobe.analysis.exact import Floats, Grid, doubled_midranks

CORRELATION_LIMIT = 0.2
ONE_SIDED_Z = 2.326  # p = 0.01
TWO_SIDED_Z = 2.576
CLEARANCE_SPANS = 3.0
SESSION_SERIES = 5
"""Series that a session must have before its mean correlation is looked at."""

_SHORTEST = 5


def lag_one(x: Floats) -> float:
    """Correlation of each boot with the next; 0 for a series without variation."""
    centred = x - x.mean()
    squares = float((centred**2).sum())
    return float((centred[1:] * centred[:-1]).sum()) / squares if squares > 0 else 0.0


def lag_one_z(x: Floats) -> float:
    """The same in standard deviations from what independent boots give: mean -1/n, variance (n-2)²/(n²(n-1)).

    Dufour and Roy, "Some robust exact results on sample autocorrelations" (1985).
    """
    n = len(x)
    return (lag_one(x) + 1 / n) * n * sqrt(n - 1) / (n - 2)


def trend_z(x: Floats) -> float:
    """Spearman's rank correlation with the order of the boots, in standard deviations: rho * sqrt(n - 1)."""
    ranks = doubled_midranks(Grid.of(x).values[0]).astype(np.float64)
    ranks -= ranks.mean()
    order = np.arange(len(x)) - (len(x) - 1) / 2
    squares = float((ranks**2).sum() * (order**2).sum())
    return float((ranks * order).sum()) / sqrt(squares) * sqrt(len(x) - 1) if squares > 0 else 0.0


def session_correlation(series: Sequence[Floats]) -> float:
    """Mean lag-1 correlation over a session's series, freed of its bias, where it is clearly above the limit; else 0.

    A short series underestimates: on average by (1 + 4 rho) / n (Kendall 1954).
    """
    long_enough = [x for x in series if len(x) > _SHORTEST]
    if len(long_enough) < SESSION_SERIES:
        return 0.0
    mean = float(np.mean([(len(x) * lag_one(x) + 1) / (len(x) - 4) for x in long_enough]))
    z = float(np.mean([lag_one_z(x) for x in long_enough])) * sqrt(len(long_enough))
    return min(mean, 0.95) if mean > CORRELATION_LIMIT and z > ONE_SIDED_Z else 0.0


def dependence(x: Floats) -> str:
    """What shows clearly that the boots of a series are not independent; "" where nothing does."""
    if len(x) <= _SHORTEST:
        return ""
    correlation, trend = lag_one(x), trend_z(x)
    if abs(trend) > TWO_SIDED_Z:
        return f"the boots drift {'up' if trend > 0 else 'down'} over the session"
    if correlation > CORRELATION_LIMIT and lag_one_z(x) > ONE_SIDED_Z:
        return f"each boot resembles the one before (lag-1 correlation {correlation:.2f})"
    return ""


def unstable(x: Floats, one: Estimate, bound: float, session: float) -> str:
    """Why a series does not prove that its centre is above `bound`, although the test says so; "" where it does.

    `session`: what session_correlation() found.
    """
    if len(x) <= _SHORTEST:
        return ""
    correlation, clear = lag_one(x), dependence(x)
    if not clear and session:
        clear = f"the boots of this session resemble the ones before (mean lag-1 correlation {session:.2f})"
    if clear and not _far_beyond(x, bound):
        return f"{clear}, so they do not prove it"
    if not clear and correlation > CORRELATION_LIMIT and _widened_low(one, correlation) <= bound:
        return f"the limit is within reach once a lag-1 correlation of {correlation:.2f} is allowed for"
    return ""


def _far_beyond(x: Floats, bound: float) -> bool:
    return float(x.min()) - bound > CLEARANCE_SPANS * float(x.max() - x.min())


def _widened_low(one: Estimate, correlation: float) -> float:
    """Lower end of the interval for a first-order autoregressive series of that correlation."""
    rho = min(correlation, 0.95)
    return one.centre - (one.centre - one.low) * sqrt((1 + rho) / (1 - rho))
