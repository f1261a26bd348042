"""Each workload down to its samples: numbers of every arm, distributions on one axis, samples in run order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vprobe.analysis.exporters.layout import GLYPHS
from vprobe.model import Comparison

from .. import machine, quantities, strips
from ..printable import printable
from ..report import Report, Section
from ..texts import Texts
from ..view import ArmView, Role, Series, View, WorkloadView
from .heatmap import tone


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
class Detail:
    """A workload."""

    workload: WorkloadView
    anchor: str
    words: Markup | None
    summary: tuple[tuple[str, str, str], ...]
    numbers: tuple[Numbers, ...]
    skipped: tuple[tuple[ArmView, str], ...]
    groups: tuple[strips.Group, ...]
    limit: str
    drawn: Markup
    beyond: Markup | None


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
    budget = strips.Budget.of(report.views)
    runs = tuple(_run(view, budget, report.texts) for view in report.views)
    groups = [group for run in runs for detail in run.details for group in detail.groups]
    counts = sorted({strip.boots for group in groups for strip in group.strips})
    return Context(runs, tuple((count, strips.boot_grid(count)) for count in counts))


def _run(view: View, budget: strips.Budget, texts: Texts) -> Run:
    return Run(view, tuple(_detail(view, workload, budget, texts) for workload in view.workloads))


def _detail(view: View, workload: WorkloadView, budget: strips.Budget, texts: Texts) -> Detail:
    anchor = f"w{view.index}-{workload.index}"
    measured = [
        (arm, view.series[workload.key, arm.key]) for arm in view.arms if (workload.key, arm.key) in view.series
    ]
    limit = "±" + quantities.percent(strips.run_order_limit([series for _, series in measured]))
    samples = sum(len(series.values) for _, series in measured)
    groups = strips.groups(workload, measured, budget, texts)
    beyond = sum(strip.beyond for group in groups for strip in group.strips)
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
        beyond=texts("detail.beyond", count=f"{beyond:,}") if beyond and drawn else None,
        limit=limit,
        drawn=texts(
            "detail.drawn_all" if drawn == samples else "detail.drawn" if drawn else "detail.drawn_none",
            drawn=f"{drawn:,}",
            count=f"{samples:,}",
            limit=limit,
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
