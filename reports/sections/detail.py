"""Each workload down to its samples: numbers of every arm, distributions on one axis, samples in run order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vprobe.analysis.exporters.layout import GLYPHS
from vprobe.model import Comparison

from .. import machine, paths, quantities, scales
from ..printable import printable
from ..report import Report, Section
from ..texts import Texts
from ..view import ArmView, Floats, Role, Series, View, WorkloadView
from .heatmap import tone

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
class Numbers:
    """A row of the table of numbers."""

    arm: ArmView
    anchor: str
    tone: str
    glyph: str
    word: Markup
    host: Markup | None
    ratio: str
    interval: str
    value: str
    spread: str
    p: str
    boots: str
    detectable: str
    clocks: str
    note: str


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


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent of its width.

    `edge` keeps labels at the ends inside the plot; a `minor` one is left out where the plot is narrow.
    """

    at: float
    label: str
    edge: str
    minor: bool


@dataclass(frozen=True)
class Group:
    """Arms of like size, on one axis."""

    ticks: tuple[Tick, ...]
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Detail:
    """A workload."""

    workload: WorkloadView
    anchor: str
    words: Markup | None
    summary: tuple[tuple[str, str, str], ...]
    numbers: tuple[Numbers, ...]
    skipped: tuple[tuple[ArmView, str], ...]
    groups: tuple[Group, ...]
    limit: str
    drawn: Markup


@dataclass(frozen=True)
class Run:
    """The details of one run."""

    view: View
    details: tuple[Detail, ...]


@dataclass(frozen=True)
class Context:
    """What detail.html shows. `grids`: numbers of boots, and the lines between so many, which the plots refer to."""

    runs: tuple[Run, ...]
    grids: tuple[tuple[int, Markup], ...]


def context(report: Report) -> Context:
    """The details of every run."""
    budget = Budget.of(report.views)
    runs = tuple(_run(view, budget, report.texts) for view in report.views)
    groups = [group for run in runs for detail in run.details for group in detail.groups]
    counts = sorted({strip.boots for group in groups for strip in group.strips})
    return Context(runs, tuple((count, boot_grid(count)) for count in counts))


def _run(view: View, budget: Budget, texts: Texts) -> Run:
    return Run(view, tuple(_detail(view, workload, budget, texts) for workload in view.workloads))


def boot_grid(count: int) -> Markup:
    """The lines between boots."""
    return paths.uprights([round(scales.WIDTH * boot / count) for boot in range(1, count)], ORDER_HEIGHT)


def _detail(view: View, workload: WorkloadView, budget: Budget, texts: Texts) -> Detail:
    anchor = f"w{view.index}-{workload.index}"
    measured = [
        (arm, view.series[workload.key, arm.key]) for arm in view.arms if (workload.key, arm.key) in view.series
    ]
    limit = _limit([series for _, series in measured])
    groups = tuple(_group(members, workload, limit, budget, texts) for members in alike(measured))
    samples = sum(len(series.values) for _, series in measured)
    drawn = sum(min(len(series.values), budget.points) for _, series in measured)
    return Detail(
        workload=workload,
        anchor=anchor,
        words=texts.get(f"workload.{workload.key}") or texts.get(f"workload.{workload.key.partition('[')[0]}"),
        summary=_summary(view, workload),
        numbers=tuple(_numbers(view, workload, arm, series, anchor, texts) for arm, series in measured),
        skipped=tuple(
            (arm, view.skipped[workload.key, arm.key]) for arm in view.arms if (workload.key, arm.key) in view.skipped
        ),
        groups=groups,
        limit="±" + quantities.percent(limit),
        drawn=texts(
            "detail.drawn_all" if drawn == samples else "detail.drawn" if drawn else "detail.drawn_none",
            drawn=f"{drawn:,}",
            count=f"{samples:,}",
            limit="±" + quantities.percent(limit),
        ),
    )


def _summary(view: View, workload: WorkloadView) -> tuple[tuple[str, str, str], ...]:
    """Arm, ratio and tone for the line that stands while the detail is closed: the three farthest from 1."""
    rows = [view.rows.get((workload.key, arm.key)) for arm in view.measured_arms]
    known = [row for row in rows if row is not None and row.ratio is not None and row.verdict is not None]
    known.sort(key=lambda row: -abs(np.log(row.ratio or 1.0)))
    return tuple(
        (
            printable(row.arm, 24),
            f"{GLYPHS[row.verdict]} {quantities.ratio(row.ratio)}×",
            tone(row.ratio or 1.0, row.verdict),
        )
        for row in known[:3]
        if row.verdict is not None
    )


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


def _group(
    members: Sequence[tuple[ArmView, Series]], workload: WorkloadView, limit: float, budget: Budget, texts: Texts
) -> Group:
    axis = _axis([series for _, series in members])
    strips = tuple(_strip(arm, series, workload, axis, limit, budget, texts) for arm, series in members)
    return Group(value_ticks(axis, workload.unit), strips)


def _axis(members: Sequence[Series]) -> scales.Axis:
    """An axis that shows all arms but for the outermost hundredth of each."""
    return scales.value_axis(min(one.quantiles[1] for one in members), max(one.quantiles[99] for one in members))


def _limit(series: Sequence[Series]) -> float:
    """The largest deviation from its own median that the run-order plots show, the same for all arms."""
    ends = [
        max(one.quantiles[99] - one.quantiles[50], one.quantiles[50] - one.quantiles[1]) / abs(one.quantiles[50])
        for one in series
        if one.quantiles[50]
    ]
    return scales.nice_limit(max([0.005, *ends]))


def deviation(series: Series) -> Floats:
    """Each sample as its distance from the median of all, in shares of it."""
    center = series.quantiles[50]
    return np.asarray(series.values / center - 1 if center else series.values * 0, dtype=np.float64)


def value_ticks(axis: scales.Axis, unit: str) -> tuple[Tick, ...]:
    """The labelled places of a value axis."""
    return tuple(
        Tick(round(axis.share(tick) * 100, 1), quantities.quantity(tick, unit), _edge(axis.share(tick)), index % 2 == 1)
        for index, tick in enumerate(scales.value_ticks(axis))
    )


def _edge(share: float) -> str:
    return "start" if share < 0.06 else "end" if share > 0.94 else "middle"


def _strip(
    arm: ArmView, series: Series, workload: WorkloadView, axis: scales.Axis, limit: float, budget: Budget, texts: Texts
) -> Strip:
    values = series.values
    p5, p25, p50, p75, p95 = (series.quantiles[percent] for percent in (5, 25, 50, 75, 95))
    chosen = paths.thinned(len(values), budget.points)
    medians = series.boot_medians
    away = medians / p50 - 1 if p50 else medians * 0
    return Strip(
        arm=arm,
        dots=paths.dots(axis.places(values[chosen]), paths.scattered(len(chosen), 4, STRIP_HEIGHT - 4)),
        whisker=(axis.at(p5), axis.at(p95)),
        box=(axis.at(p25), axis.at(p75)),
        median=axis.at(p50),
        medians=paths.dots(axis.places(medians), [STRIP_HEIGHT // 2] * len(medians)),
        distribution_words=texts(
            "detail.distribution_words",
            arm=arm.name,
            median=quantities.quantity(p50, workload.unit),
            range=quantities.quantity_range(p25, p75, workload.unit),
        ),
        order_dots=_order_dots(series, chosen, limit),
        order_steps=paths.staircase(_boot_edges(len(medians)), _heights(away, limit)),
        boots=len(medians),
        order_words=texts(
            "detail.order_words",
            arm=arm.name,
            low=quantities.percent(float(away.min()), signed=True),
            high=quantities.percent(float(away.max()), signed=True),
        ),
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


def _numbers(view: View, workload: WorkloadView, arm: ArmView, series: Series, anchor: str, texts: Texts) -> Numbers:
    row = view.rows.get((workload.key, arm.key))
    unit = workload.unit
    compared = row is not None and row.ratio is not None and row.verdict is not None
    return Numbers(
        arm=arm,
        anchor=f"{anchor}-{arm.index}",
        tone=_tone(row),
        glyph=GLYPHS[row.verdict] if compared and row and row.verdict else "",
        word=_word(row, arm, texts),
        host=machine.host_note(view.run.probe, texts) if arm.environment == "bare" else None,
        ratio=quantities.ratio(row.ratio) + "×" if compared and row else quantities.DASH,
        interval=_interval(row, unit),
        value=quantities.quantity(series.center, unit),
        spread=quantities.quantity_range(series.quantiles[25], series.quantiles[75], unit),
        p=quantities.p_value(row.p if row else None),
        boots=f"{len(series.boot_medians)} × {round(len(series.values) / max(len(series.boot_medians), 1))}",
        detectable=quantities.percent(row.minimum_detectable if row else None),
        clocks=clocks(view, workload, arm),
        note=row.reason if row else "",
    )


def _tone(row: Comparison | None) -> str:
    return tone(row.ratio, row.verdict) if row is not None and row.ratio is not None and row.verdict else "n"


def _word(row: Comparison | None, arm: ArmView, texts: Texts) -> Markup:
    if row is not None and row.ratio is not None and row.verdict is not None:
        return texts(f"word.{row.verdict}")
    return texts({Role.BASE: "word.base", Role.NOISE: "word.noise"}.get(arm.role, "word.estimate"))


def _interval(row: Comparison | None, unit: str) -> str:
    if row is None:
        return quantities.DASH
    if row.ratio is None:
        return quantities.quantity_range(row.low, row.high, unit)
    return quantities.ratio_range(row.low, row.high)


def clocks(view: View, workload: WorkloadView, arm: ArmView) -> str:
    """How much longer the controller's clock says a block took than the arm's own clock, as the median over blocks."""
    known = [visit.samples[arm.key] for visit in view.visits_of(workload.key) if arm.key in visit.samples]
    timed = [one for one in known if one.inside_ns and one.outside_ns and len(one.inside_ns) == len(one.outside_ns)]
    if not timed:
        return quantities.DASH
    inside = np.concatenate([np.asarray(one.inside_ns, dtype=np.float64) for one in timed])
    outside = np.concatenate([np.asarray(one.outside_ns, dtype=np.float64) for one in timed])
    sound = inside > 0
    return (
        quantities.percent(float(np.median(outside[sound] / inside[sound] - 1)), signed=True)
        if sound.any()
        else quantities.DASH
    )


SECTION = Section("detail", "detail.html", context)
