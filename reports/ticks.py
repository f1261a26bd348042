"""The labelled places of an axis, as the templates draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vprobe.analysis import numbers

from . import quantities, scales


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent of its width.

    `edge` keeps labels at the ends inside the plot; a `minor` one is left out where the plot is narrow.
    """

    at: float
    label: str
    edge: str
    minor: bool


def value_ticks(axis: scales.Axis, unit: str) -> tuple[Tick, ...]:
    """Of an axis of values in a unit; bytes are round in the binary unit that they are shown in."""
    size = numbers.scale(axis.high, unit)[1] if unit == "bytes" else 1.0
    values = [value * size for value in scales.value_ticks(replace(axis, low=axis.low / size, high=axis.high / size))]
    return _ticks(axis, values, [quantities.quantity(value, unit) for value in values], 0)


def ratio_ticks(axis: scales.Axis, most: int = 7) -> tuple[Tick, ...]:
    """Of an axis of ratios, at most `most`; 1 is never a minor one."""
    values = scales.ratio_ticks(axis, most)
    return _ticks(axis, values, [f"{value:g}×" for value in values], values.index(1.0))


def _ticks(axis: scales.Axis, values: Sequence[float], labels: Sequence[str], major: int) -> tuple[Tick, ...]:
    shares = [axis.share(value) for value in values]
    return tuple(
        Tick(round(share * 100, 1), label, _edge(share), (index - major) % 2 == 1)
        for index, (share, label) in enumerate(zip(shares, labels, strict=True))
    )


def _edge(share: float) -> str:
    return "start" if share < 0.06 else "end" if share > 0.94 else "middle"
