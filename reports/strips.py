"""Distributions and run order of the arms of a workload, as path data: every arm by itself, arms of like size on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from . import paths, quantities, scales
from .texts import Texts
from .ticks import Tick, value_ticks
from .view import ArmView, Floats, Series, View, WorkloadView

POINTS = 40_000
"""Samples that the whole page draws, in each of its two kinds of plot; the data inside the page has more."""
FEWEST_POINTS = 60
LIKE = 1.6
"""Arms whose medians are at most this many times apart share an axis."""
STRIP_HEIGHT = 40
ORDER_HEIGHT = 60


@dataclass(frozen=True)
class Budget:
    """How many samples one arm of one workload may draw."""

    points: int

    @classmethod
    def of(cls, views: Sequence[View]) -> Budget:
        """Share POINTS evenly; where each would get only a few, none is drawn: boxes and medians say more."""
        share = POINTS // max(sum(len(view.series) for view in views), 1)
        return cls(share if share >= FEWEST_POINTS else 0)


@dataclass(frozen=True)
class Strip:
    """Distribution and run order of one arm, as path data. Places run from 0 to scales.WIDTH."""

    arm: ArmView
    dots: Markup
    whisker: tuple[int, int]
    box: tuple[int, int]
    median: int
    medians: Markup
    distribution_words: Markup
    order_dots: Markup
    order_steps: Markup
    boots: int
    order_words: Markup
    beyond: int


@dataclass(frozen=True)
class Group:
    """Arms of like size, on one axis."""

    ticks: tuple[Tick, ...]
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Drawing:
    """What the strips of one workload share. `limit`: largest deviation that the run-order plots show."""

    workload: WorkloadView
    limit: float
    points: int
    texts: Texts


def boot_grid(count: int) -> Markup:
    """The lines between boots."""
    return paths.uprights([round(scales.WIDTH * boot / count) for boot in range(1, count)], ORDER_HEIGHT)


def groups(
    workload: WorkloadView, measured: Sequence[tuple[ArmView, Series]], budget: Budget, texts: Texts
) -> tuple[Group, ...]:
    """The strips of every arm of a workload."""
    drawing = Drawing(workload, run_order_limit([series for _, series in measured]), budget.points, texts)
    return tuple(_group(members, drawing) for members in alike(measured))


def alike(measured: Sequence[tuple[ArmView, Series]]) -> list[list[tuple[ArmView, Series]]]:
    """The arms in groups of like size: where the next larger one is more than LIKE times as large, a group ends."""
    ordered = sorted(measured, key=lambda pair: pair[1].center or 0.0)
    groups: list[list[tuple[ArmView, Series]]] = []
    for pair in ordered:
        before = groups[-1][-1][1].center if groups else None
        if before and pair[1].center and pair[1].center <= before * LIKE:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    groups = [sorted(group, key=lambda pair: pair[0].index) for group in groups]
    return sorted(groups, key=lambda group: group[0][0].index)


def _group(members: Sequence[tuple[ArmView, Series]], drawing: Drawing) -> Group:
    axis = _axis([series for _, series in members])
    return Group(
        value_ticks(axis, drawing.workload.unit), tuple(_strip(arm, series, axis, drawing) for arm, series in members)
    )


def extent(series: Series) -> tuple[float, float]:
    """What of an arm must be seen: the bulk of its samples, and the median of every boot.

    The bulk ends at three times the middle half's width beyond it, or with the outermost hundredth: a few samples that an
    interrupt made ten times as long would otherwise press all others into one spot.
    """
    quarter, three_quarters = series.quantiles[25], series.quantiles[75]
    room = max(3 * (three_quarters - quarter), 0.002 * abs(series.quantiles[50]))
    medians = series.boot_medians
    low = min(max(series.quantiles[1], quarter - room), float(medians.min()))
    high = max(min(series.quantiles[99], three_quarters + room), float(medians.max()))
    return low, high


def _axis(members: Sequence[Series]) -> scales.Axis:
    """An axis that shows what must be seen of all arms."""
    ends = [extent(one) for one in members]
    return scales.value_axis(min(low for low, _ in ends), max(high for _, high in ends))


def run_order_limit(series: Sequence[Series]) -> float:
    """The largest deviation from its own median that the run-order plots show, the same for all arms."""
    known = [(one.quantiles[50], *extent(one)) for one in series if one.quantiles[50]]
    ends = [max(high - median, median - low) / abs(median) for median, low, high in known]
    return scales.nice_limit(max([0.005, *ends]))


def deviation(series: Series) -> Floats:
    """Each sample as its distance from the median of all, in shares of it."""
    center = series.quantiles[50]
    return np.asarray(series.values / center - 1 if center else series.values * 0, dtype=np.float64)


def _strip(arm: ArmView, series: Series, axis: scales.Axis, drawing: Drawing) -> Strip:
    at = {percent: axis.at(value) for percent, value in series.quantiles.items()}
    chosen = paths.thinned(len(series.values), drawing.points)
    medians = series.boot_medians
    away = medians / series.quantiles[50] - 1 if series.quantiles[50] else medians * 0
    return Strip(
        arm=arm,
        dots=paths.dots(axis.places(series.values[chosen]), paths.scattered(len(chosen), 4, STRIP_HEIGHT - 4)),
        whisker=(at[5], at[95]),
        box=(at[25], at[75]),
        median=at[50],
        medians=paths.dots(axis.places(medians), [STRIP_HEIGHT // 2] * len(medians)),
        distribution_words=_distribution_words(arm, series, drawing),
        order_dots=_order_dots(series, chosen, drawing.limit),
        order_steps=paths.staircase(_boot_edges(len(medians)), _heights(away, drawing.limit)),
        boots=len(medians),
        order_words=drawing.texts(
            "detail.order_words",
            arm=arm.name,
            low=quantities.percent(float(away.min()), signed=True),
            high=quantities.percent(float(away.max()), signed=True),
        ),
        beyond=int(np.count_nonzero((series.values < axis.low) | (series.values > axis.high))),
    )


def _distribution_words(arm: ArmView, series: Series, drawing: Drawing) -> Markup:
    return drawing.texts(
        "detail.distribution_words",
        arm=arm.name,
        median=quantities.quantity(series.quantiles[50], drawing.workload.unit),
        range=quantities.quantity_range(series.quantiles[25], series.quantiles[75], drawing.workload.unit),
    )


def _boot_edges(count: int) -> list[int]:
    return [round(scales.WIDTH * boot / count) for boot in range(count + 1)]


def _heights(shares: Floats, limit: float) -> list[int]:
    """Places from top (+limit) to bottom (-limit) of a run-order plot."""
    inside = np.clip(shares / limit, -1, 1)
    return [int(place) for place in np.rint((1 - inside) / 2 * (ORDER_HEIGHT - 4) + 2)]


def _order_dots(series: Series, chosen: np.ndarray, limit: float) -> Markup:
    """Samples in run order; every boot is equally wide."""
    sizes = np.array([len(values) for values in series.by_boot])
    within = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    boot = np.repeat(np.arange(len(sizes)), sizes)
    xs = np.rint((boot + within) / len(sizes) * scales.WIDTH).astype(int)
    return paths.dots(xs[chosen].tolist(), _heights(deviation(series)[chosen], limit))
