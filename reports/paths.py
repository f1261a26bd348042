"""SVG path data. Dots are segments of no length, drawn round by the style sheet at whatever width the plot is stretched to.

Markup, because it is numbers of ours only, and too long to be bounded as text of the machine is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

GOLDEN = 0.6180339887498949


def dots(xs: Iterable[int], ys: Iterable[int]) -> Markup:
    """A dot at every (x, y). Moves are relative and go from left to right, which is what makes them short."""
    drawn, at_x, at_y = [], 0, 0
    for x, y in sorted(zip(xs, ys, strict=True)):
        drawn.append(f"m{x - at_x}{_after(y - at_y)}h0")
        at_x, at_y = x, y
    return Markup("".join(drawn))


def staircase(edges: Sequence[int], ys: Sequence[int]) -> Markup:
    """A line of steps: `ys[i]` is the height between `edges[i]` and `edges[i + 1]`."""
    drawn = [f"M{edges[0]} {ys[0]}"] if ys else []
    for place, y in enumerate(ys):
        if place and y != ys[place - 1]:
            drawn.append(f"v{y - ys[place - 1]}")
        drawn.append(f"h{edges[place + 1] - edges[place]}")
    return Markup("".join(drawn))


def _after(number: int) -> str:
    """A coordinate that follows another: a minus sign parts them, too."""
    return str(number) if number < 0 else f" {number}"


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
    return np.unique(np.linspace(0, count - 1, most).astype(np.intp))
