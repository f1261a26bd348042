"""Axes: from a value to a place between 0 and WIDTH, and the ticks that a reader expects to find on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .view import Floats

WIDTH = 1000
"""Every plot is drawn this many units wide and stretched to the width that the page gives it."""

NEAR, FAR = 1.5, 2.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LIMITS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_RATIO_TICKS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 0.98, 0.99),
    *(1.0, 1.01, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
)


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from `low` to `high`; values outside are drawn at its ends."""

    low: float
    high: float
    logarithmic: bool

    def at(self, value: float) -> int:
        """Where a value lies, 0 to WIDTH."""
        return round(WIDTH * min(max(self.share(value), 0.0), 1.0))

    def share(self, value: float) -> float:
        """The same as a share of the axis; outside 0 to 1 where the value lies beyond it."""
        if self.logarithmic:
            if value <= 0:
                return 0.0
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def places(self, values: Floats) -> list[int]:
        """at() of many values."""
        if self.logarithmic:
            shares = np.log(np.maximum(values, self.low) / self.low) / math.log(self.high / self.low)
        else:
            shares = (values - self.low) / (self.high - self.low)
        return [int(place) for place in np.rint(WIDTH * np.clip(shares, 0.0, 1.0))]


def value_axis(low: float, high: float) -> Axis:
    """An axis for values between two limits: logarithmic where they are more than a factor of 4 apart."""
    if not low < high:
        middle = low if math.isfinite(low) and low > 0 else 1.0
        low, high = middle * 0.99, middle * 1.01
    if low > 0 and high / low > 4:
        return Axis(low / 1.05, high * 1.05, True)
    pad = (high - low) * 0.04
    return Axis(low - pad, high + pad, False)


def ratio_axis(ratios: Sequence[float]) -> Axis:
    """A logarithmic axis around 1, at least from 0.97 to 1.03.

    It shows all ratios, but where three quarters of them are near 1 and others are far away it ends at FAR: otherwise the
    far ones would press the near ones into one spot.
    """
    known = sorted(ratio for ratio in ratios if math.isfinite(ratio) and ratio > 0)
    low, high = min([0.97, *known]), max([1.03, *known])
    if known and known[len(known) // 4] > 1 / NEAR:
        low = max(low, 1 / FAR)
    if known and known[len(known) * 3 // 4] < NEAR:
        high = min(high, FAR)
    pad = (high / low) ** 0.04
    return Axis(max(low, 1e-3) / pad, min(high, 1e4) * pad, True)


def ratio_ticks(axis: Axis, most: int = 7) -> list[float]:
    """Ticks of a ratio axis: 1 and round ratios beside it, far enough apart to be labelled."""
    chosen = [1.0]
    inside = [tick for tick in _RATIO_TICKS if axis.low <= tick <= axis.high]
    for tick in sorted(inside, key=lambda value: (-abs(math.log(value)), value)):
        if len(chosen) < most and all(abs(axis.share(tick) - axis.share(other)) >= 0.8 / most for other in chosen):
            chosen.append(tick)
    return sorted(chosen)


def value_ticks(axis: Axis, most: int = 5) -> list[float]:
    """Round values on an axis, at most `most` or so."""
    if axis.logarithmic:
        ticks = _log_ticks(axis)
        return ticks[:: max(1, math.ceil(len(ticks) / most))]
    span = axis.high - axis.low
    raw = span / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in _STEPS if factor * magnitude >= raw * 0.999)
    first = math.ceil(axis.low / step)
    return [index * step for index in range(first, math.floor(axis.high / step) + 1)]


def _log_ticks(axis: Axis) -> list[float]:
    decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    wide = axis.high / axis.low > 100
    ticks = [base * 10.0**decade for decade in decades for base in ((1.0,) if wide else (1.0, 2.0, 5.0))]
    return [tick for tick in ticks if axis.low <= tick <= axis.high]


def nice_limit(value: float) -> float:
    """The next round number at or above `value`: 0.5, 1, 1.5, 2, 3 …"""
    if value <= 0:
        return 0.005
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in _LIMITS if step * magnitude >= value * 0.999)
