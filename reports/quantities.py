"""Numbers as people read them: three significant digits, a unit with the right prefix, a true minus sign."""

from __future__ import annotations

import math

DASH = "–"
_TIME = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0), ("ps", 1e-3))
_RATE = (("TB/s", 1e12), ("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("B/s", 1.0))
_SIZE = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
_SCALES = {"ns": _TIME, "B/s": _RATE, "bytes": _SIZE}
NARROW_SPACE = "\u202f"


def significant(value: float, digits: int = 3) -> str:
    """`value` rounded to `digits` significant digits, never in exponent form between 1e-4 and 1e9."""
    if not math.isfinite(value):
        return "∞" if value > 0 else DASH
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if abs(round(value, digits - 1 - exponent)) >= 10 ** (exponent + 1):
        exponent += 1  # 9.996 rounds to 10.0, which has one decimal fewer
    if not -4 <= exponent < 9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")


def _scale(value: float, unit: str) -> tuple[str, float]:
    steps = _SCALES.get(unit)
    if steps is None:
        return unit, 1.0
    return next((step for step in steps if abs(value) >= step[1] * 0.9995), steps[-1])


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """A measured value with its unit: 104 ns, 1.10 GB/s, 23.4 MiB. Unknown units are printed as they are."""
    if value is None:
        return DASH
    if value == 0 or not math.isfinite(value):
        return f"{significant(value)}{NARROW_SPACE}{unit}".rstrip()
    name, factor = _scale(value, unit)
    return f"{significant(value / factor, digits)}{NARROW_SPACE}{name}".rstrip()


def quantity_range(low: float | None, high: float | None, unit: str) -> str:
    """An interval in one unit, that of its upper end: 9.41 to 9.62 µs."""
    if low is None or high is None:
        return DASH
    name, factor = _scale(high or low, unit)
    return f"{significant(low / factor)}{DASH}{significant(high / factor)}{NARROW_SPACE}{name}".rstrip()


def ratio_decimals(value: float) -> int:
    """Decimals that a ratio and the ends of its interval share: three below 2, fewer the larger it is."""
    if not math.isfinite(value) or value <= 0:
        return 2
    return 3 if value < 1.9995 else max(0, 2 - math.floor(math.log10(value)))


def ratio(value: float | None, decimals: int | None = None) -> str:
    """A ratio without its sign of multiplication: 1.003, 2.11, 14.2, 123."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.{ratio_decimals(value) if decimals is None else decimals}f}"


def ratio_range(low: float | None, high: float | None, around: float | None) -> str:
    """The interval of a ratio, with the decimals of the ratio itself."""
    if low is None or high is None:
        return DASH
    decimals = ratio_decimals(around if around is not None else high)
    return f"{ratio(low, decimals)}{DASH}{ratio(high, decimals)}"


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share as percent: 0.4 %, +12 %, two significant digits. 0.0004 is 0.04 %."""
    if share is None or not math.isfinite(share):
        return DASH
    value = share * 100
    digits = 2 if abs(value) < 100 else 3
    text = "0" if abs(value) < 0.005 else significant(value, digits)
    sign = "+" if signed and value >= 0.005 else ""
    return f"{sign}{text}{NARROW_SPACE}%"


def p_value(p: float | None) -> str:
    """A p-value: three decimals, never 0.000."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cycles(ns: float | None, hertz: float | None) -> str:
    """CPU cycles of a time, where the frequency of the clock is known."""
    return DASH if ns is None or hertz is None else significant(ns * hertz / 1e9, 3)
