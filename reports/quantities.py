"""Numbers as the page prints them: those of vprobe.analysis.numbers, with spaces that do not break, and a dash for none."""

from __future__ import annotations

import math
import re

from vprobe.analysis import numbers

from .printable import NARROW_SPACE

DASH = "–"


def _set(text: str) -> str:
    return text.replace(" ", NARROW_SPACE).replace("-", "−")


def significant(value: float) -> str:
    """A plain number: three significant digits, whole from 1000 on, with thousands set apart."""
    if not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if abs(value) >= 999.5 else _set(numbers.digits(value))


def quantity(value: float | None, unit: str) -> str:
    """A measured value with its unit: 104 ns, 1.10 GB/s, 23.4 MiB. Unknown units are printed as they are."""
    if value is None or not math.isfinite(value):
        return DASH
    name, size = numbers.scale(value, unit)
    return "0" if value == 0 else f"{significant(value / size)}{NARROW_SPACE}{name}".rstrip(NARROW_SPACE)


def exact(value: float, unit: str) -> str:
    """A size that is a round number, without the zeros that quantity() gives it: 48 KiB."""
    return re.sub(r"\.0+(?!\d)", "", quantity(value, unit))


def quantity_range(low: float | None, high: float | None, unit: str) -> str:
    """An interval in one unit, that of its upper end: 9.41–9.62 µs."""
    if low is None or high is None or not math.isfinite(low + high):
        return DASH
    name, size = numbers.scale(high, unit)
    return f"{significant(low / size)}{DASH}{significant(high / size)}{NARROW_SPACE}{name}".rstrip(NARROW_SPACE)


def ratio(value: float | None) -> str:
    """A ratio without its sign of multiplication: 1.003, 2.110, 14.2, 123."""
    if value is None or not math.isfinite(value):
        return DASH
    return numbers.ratio(value)


def ratio_range(low: float | None, high: float | None) -> str:
    """The interval of a ratio: 1.041–1.063."""
    return DASH if low is None or high is None else f"{ratio(low)}{DASH}{ratio(high)}"


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share as percent: 0.4 %, +12 %; never 0.0 % for what is not 0."""
    if share is None or not math.isfinite(share):
        return DASH
    if 0 < abs(share) < 0.0005:
        return _set(f"< {numbers.share(0.001)}")
    return _set(numbers.signed_share(share) if signed else numbers.share(share))


def p_value(p: float | None) -> str:
    """A p-value: three decimals, never 0.000."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cycles(ns: float | None, hertz: float | None) -> str:
    """CPU cycles of a time, where the frequency of the clock is known."""
    if ns is None or hertz is None:
        return DASH
    count = ns * hertz / 1e9
    return significant(float(f"{count:.3g}"))
