"""Numbers as people read them: as many digits as carry information, in a unit that fits."""

from __future__ import annotations

_TIME_NS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))
_BYTES = (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
_RATE = (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("B/s", 1.0))
_SCALES = {"ns": _TIME_NS, "bytes": _BYTES, "B": _BYTES, "B/s": _RATE}


def ratio(value: float) -> str:
    """1.052, 37.2, 1210, 4.1e+07: three decimals around 1, where they matter, and fewer further out."""
    if value < 9.9995:
        return f"{value:.3f}"
    if value < 1e6:
        return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
    return f"{value:.3g}"


def share(value: float) -> str:
    """A share as a percentage without a sign: 0.3 %, 12 %, 240 %."""
    percent = abs(value) * 100
    return f"{percent:.1f} %" if percent < 9.95 else f"{percent:.0f} %"


def signed_share(value: float) -> str:
    """The same with its sign: +5.7 %, −0.3 %."""
    return f"{'−' if value < 0 else '+'}{share(value)}"


def scale(value: float, unit: str) -> tuple[str, float]:
    """The name of a unit in which `value` is a short number, and how many of `unit` it holds."""
    scales = _SCALES.get(unit)
    if scales is None:
        return unit, 1.0
    return next(((name, size) for name, size in scales if abs(value) >= size), scales[-1])


def quantity(value: float, unit: str) -> str:
    """A value with its unit: 43.6 µs, 11.0 GB/s."""
    name, size = scale(value, unit)
    return f"{digits(value / size)} {name}"


def quantity_interval(low: float, high: float, value: float, unit: str) -> str:
    """An interval in the unit that quantity(value) takes: [43.3, 43.8]."""
    _, size = scale(value, unit)
    return f"[{digits(low / size)}, {digits(high / size)}]"


def digits(value: float) -> str:
    """Three significant digits, and whole numbers from 1000 on."""
    if abs(value) >= 999.5 or value == 0:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")
