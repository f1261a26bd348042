"""Every ratio with its interval on one logarithmic axis, the noise floor behind it and the limits of a gate through it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vprobe.analysis.exporters.layout import GLYPHS
from vprobe.model import Comparison, GateReport

from .. import quantities, scales
from ..report import Report, Section
from ..texts import Texts
from ..ticks import Tick, ratio_ticks
from ..view import ArmView, View, WorkloadView
from .heatmap import noise_words, tone


@dataclass(frozen=True)
class Mark:
    """One ratio: the places of its interval, of its point and of the limit that a rule sets.

    `beyond`: "high" or "low" where the ratio lies outside the axis, "" otherwise.
    """

    arm: ArmView
    href: str
    tone: str
    glyph: str
    word: Markup
    low: int
    high: int
    point: int
    beyond: str
    limit: int | None
    ratio: str
    interval: str


@dataclass(frozen=True)
class Group:
    """A workload: its noise floor as a band, and a mark for each arm."""

    workload: WorkloadView
    href: str
    noise: tuple[int, int] | None
    noise_words: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Suite:
    """A suite on an axis of its own: `one` is the place of the ratio 1."""

    name: Markup | str
    groups: tuple[Group, ...]
    ticks: tuple[Tick, ...]
    one: int


@dataclass(frozen=True)
class Forest:
    """The forest plot of a run, suite by suite."""

    view: View
    suites: tuple[Suite, ...]
    limits: bool


def context(report: Report) -> list[Forest]:
    """A forest plot for each run that has ratios."""
    found = [forest(view, report.gate if view.index == 0 else None, report.texts) for view in report.views]
    return [one for one in found if one.suites]


def forest(view: View, gate: GateReport | None, texts: Texts) -> Forest:
    """The forest plot of a run."""
    limits = gate_limits(gate)
    suites = [_suite(view, suite, members, limits, texts) for suite, members in view.suites]
    return Forest(view, tuple(suite for suite in suites if suite.groups), bool(limits))


def _suite(
    view: View, suite: str, members: tuple[WorkloadView, ...], limits: dict[tuple[str, str], float], texts: Texts
) -> Suite:
    keys = {workload.key for workload in members}
    rows = [row for row in view.comparisons.comparisons if row.ratio is not None and row.workload in keys]
    ends = [value for row in rows for value in (row.low, row.high, row.ratio) if value is not None]
    axis = scales.ratio_axis([*ends, *(limit for (workload, _), limit in limits.items() if workload in keys)])
    groups = tuple(group for workload in members if (group := _group(view, workload, axis, limits, texts)).marks)
    name = texts.get(f"suite.{suite}.name") or suite or texts("suite.none")
    return Suite(name, groups, ratio_ticks(axis), axis.at(1.0))


def gate_limits(gate: GateReport | None) -> dict[tuple[str, str], float]:
    """(workload, arm) to the tightest limit that a relative rule sets, as a ratio."""
    found: dict[tuple[str, str], float] = {}
    for result in gate.rules if gate else ():
        limit = relative_limit(result.rule)
        key = (result.workload, result.arm)
        if limit is not None:
            found[key] = min(limit, found.get(key, limit))
    return found


def relative_limit(rule: str) -> float | None:
    """The ratio that a rule such as `memory.*@kvm<=15% vs bare` allows; None for an absolute limit."""
    text = rule.rpartition("<=")[2].partition(" vs ")[0].strip()
    if not text.endswith("%"):
        return None
    try:
        return 1 + float(text[:-1]) / 100
    except ValueError:
        return None


def _group(
    view: View, workload: WorkloadView, axis: scales.Axis, limits: dict[tuple[str, str], float], texts: Texts
) -> Group:
    noise = view.comparisons.noise_floor.get(workload.key)
    band = None if noise is None else (axis.at(min(noise.low, 1.0)), axis.at(max(noise.high, 1.0)))
    href = f"#w{view.index}-{workload.index}"
    pairs = [(arm, view.rows.get((workload.key, arm.key))) for arm in view.measured_arms]
    marks = tuple(
        _mark(arm, row, f"{href}-{arm.index}", axis, limits.get((workload.key, arm.key)), texts)
        for arm, row in pairs
        if row is not None and row.ratio is not None and row.verdict is not None
    )
    return Group(workload, href, band, noise_words(noise), marks)


def _mark(arm: ArmView, row: Comparison, href: str, axis: scales.Axis, limit: float | None, texts: Texts) -> Mark:
    ratio = row.ratio or 1.0
    assert row.verdict is not None
    return Mark(
        arm=arm,
        href=href,
        tone=tone(ratio, row.verdict),
        glyph=GLYPHS[row.verdict],
        word=texts(f"word.{row.verdict}"),
        low=axis.at(row.low if row.low is not None else ratio),
        high=axis.at(row.high if row.high is not None else ratio),
        point=axis.at(ratio),
        beyond="high" if axis.share(ratio) > 1 else "low" if axis.share(ratio) < 0 else "",
        limit=None if limit is None else axis.at(limit),
        ratio=quantities.ratio(ratio) + "×",
        interval=quantities.ratio_range(row.low, row.high),
    )


SECTION = Section("forest", "forest.html", context)
