"""SVG path data. Dots are segments of no length, drawn round by the style sheet at whatever width the plot is stretched to.

Markup, because it is numbers of ours only, and too long to be bounded as text of the machine is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

GOLDEN = 0.6180339887498949


def dots(xs: Iterable[int], ys: Iterable[int]) -> Markup:
    """A dot at every (x, y)."""
    return Markup("".join(f"M{x} {y}h0" for x, y in zip(xs, ys, strict=True)))


def steps(spans: Iterable[tuple[int, int]], ys: Iterable[int]) -> Markup:
    """Horizontal lines, each at its own height."""
    return Markup("".join(f"M{start} {y}H{end}" for (start, end), y in zip(spans, ys, strict=True)))


def uprights(xs: Iterable[int], height: int) -> Markup:
    """Vertical lines over the full height."""
    return Markup("".join(f"M{x} 0v{height}" for x in xs))


def scattered(count: int, low: int, high: int) -> list[int]:
    """`count` heights between two limits, spread evenly and always alike (golden-ratio sequence): no jitter by chance."""
    places = np.modf(np.arange(1, count + 1) * GOLDEN)[0]
    return [int(place) for place in np.rint(low + places * (high - low))]


def thinned(count: int, most: int) -> NDArray[np.intp]:
    """Indices of at most `most` of `count` samples, evenly spaced; all of them where they fit."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, max(most, 1)).astype(np.intp))
