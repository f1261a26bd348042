"""The table that answers most questions: workload by arm, ratio and interval as text, colour and glyph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from vprobe.analysis.exporters.layout import GLYPHS
from vprobe.model import Comparison, NoiseFloor, Verdict, VirtClass

from .. import machine, products, quantities
from ..report import Report, Section
from ..texts import Texts
from ..view import ArmView, Role, View, WorkloadView

_ELSEWHERE = ("exits", "lifecycle")
"""Suites with a section of their own, where values without a ratio are shown."""
_LEVELS = (1.02, 1.05, 1.1, 1.25, 2.0)


@dataclass(frozen=True)
class Cell:
    """One workload in one arm. `tone` is its class in the style sheet; `order` sorts it, None to the end."""

    tone: str
    href: str
    order: float | None
    glyph: str
    word: Markup | str
    main: str
    small: Markup | str


@dataclass(frozen=True)
class Row:
    """A workload: its anchor in the details, what it does, and a cell for each column."""

    workload: WorkloadView
    href: str
    words: Markup | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """The head of a column. `anchor` is the popover that explains it.

    `hypervisor`: type of the hypervisor that the arm runs under; of bare, what the host itself is.
    """

    arm: ArmView
    anchor: str
    class_words: Markup
    hypervisor: Markup | None
    explanation: Markup
    class_explanation: Markup


@dataclass(frozen=True)
class Table:
    """The heat map of one run."""

    view: View
    columns: tuple[Column, ...]
    groups: tuple[tuple[Markup | str, tuple[Row, ...]], ...]
    without_ratio: tuple[WorkloadView, ...]
    verdicts: tuple[tuple[str, str, int], ...]


def context(report: Report) -> list[Table]:
    """A heat map for each run."""
    return [table(view, report.texts) for view in report.views]


def table(view: View, texts: Texts) -> Table:
    """The heat map of a run: bare first, with the noise floor; the control arm is not a column of its own."""
    shown = [arm for arm in view.arms if arm.role is not Role.NOISE]
    if (
        sum(arm.role is Role.BASE for arm in shown) == 1
    ):  # of several, each stands before the arms that it is the base of
        shown.sort(key=lambda arm: arm.role is not Role.BASE)
    compared = {row.workload for row in view.comparisons.comparisons if row.ratio is not None}
    groups = []
    for suite, members in view.suites:
        rows = tuple(
            _row(view, workload, shown, texts)
            for workload in members
            if workload.key in compared or suite not in _ELSEWHERE
        )
        if rows:
            groups.append((texts.get(f"suite.{suite}.name") or suite or texts("suite.none"), rows))
    counts = Counter(row.verdict for row in view.comparisons.comparisons if row.ratio is not None and row.verdict)
    return Table(
        view=view,
        columns=tuple(_column(view, arm, texts) for arm in shown),
        groups=tuple(groups),
        without_ratio=tuple(one for one in view.workloads if one.key not in compared and one.suite in _ELSEWHERE),
        verdicts=tuple((verdict.value, GLYPHS[verdict], counts[verdict]) for verdict in Verdict if counts[verdict]),
    )


def _column(view: View, arm: ArmView, texts: Texts) -> Column:
    kind = texts(f"class.{arm.virt_class or 'unknown'}.name")
    return Column(
        arm=arm,
        anchor=f"about-{view.index}-{arm.index}",
        class_words=kind,
        hypervisor=machine.host_note(view.run.probe, texts)
        if arm.role is Role.BASE and arm.virt_class is VirtClass.NONE
        else products.hypervisor_type(arm.environment, texts),
        explanation=texts.get(f"environment.{arm.environment}")
        or texts.get(f"environment.{arm.environment.partition(':')[0]}")
        or texts("environment_other", name=arm.environment),
        class_explanation=texts(f"class.{arm.virt_class or 'unknown'}.words"),
    )


def _row(view: View, workload: WorkloadView, arms: list[ArmView], texts: Texts) -> Row:
    href = f"#w{view.index}-{workload.index}"
    return Row(
        workload,
        href,
        texts.get(f"workload.{workload.key}") or texts.get(f"workload.{workload.key.partition('[')[0]}"),
        tuple(_cell(view, workload, arm, f"{href}-{arm.index}", texts) for arm in arms),
    )


def _cell(view: View, workload: WorkloadView, arm: ArmView, href: str, texts: Texts) -> Cell:
    if arm.role is Role.BASE:
        return _base_cell(view, workload, arm, href, texts)
    row = view.rows.get((workload.key, arm.key))
    if row is not None and row.ratio is not None:
        return ratio_cell(row, href, texts)
    if row is not None and row.estimate is not None:
        value = quantities.quantity(row.estimate, workload.unit)
        return Cell("n", href, None, "", "", value, quantities.quantity_range(row.low, row.high, workload.unit))
    reason = view.skipped.get((workload.key, arm.key)) or (row.reason if row is not None else "")
    return _gap(href, reason, texts)


def _gap(href: str, reason: str, texts: Texts) -> Cell:
    """The cell of what was not measured, with the reason."""
    said = texts.said(reason) if reason else texts("heatmap.not_measured")
    return Cell("k", href, None, "", texts("skipped"), "", said)


def _base_cell(view: View, workload: WorkloadView, arm: ArmView, href: str, texts: Texts) -> Cell:
    series = view.series.get((workload.key, arm.key))
    if series is None or series.center is None:
        return _gap(href, view.skipped.get((workload.key, arm.key), ""), texts)
    noise = view.comparisons.noise_floor.get(workload.key) if arm.environment == "bare" else None
    return Cell("b", href, series.center, "", "", quantities.quantity(series.center, workload.unit), noise_words(noise))


def noise_words(noise: NoiseFloor | None) -> str:
    """The noise floor of a workload: how far bare was from itself."""
    if noise is None:
        return ""
    size = abs(noise.ratio - 1)
    return "±" + quantities.percent(size) if size >= 0.0005 else "< ±" + quantities.percent(0.001)


def ratio_cell(row: Comparison, href: str, texts: Texts) -> Cell:
    """The cell of a comparison."""
    verdict = row.verdict or Verdict.INCONCLUSIVE
    return Cell(
        tone=tone(row.ratio or 1.0, verdict) + _tint(row, verdict),
        href=href,
        order=row.ratio,
        glyph=GLYPHS[verdict],
        word=texts(f"word.{verdict}"),
        main=quantities.ratio(row.ratio) + "×",
        small=quantities.ratio_range(row.low, row.high) if row.low is not None else "",
    )


def _tint(row: Comparison, verdict: Verdict) -> str:
    """An incomparable row is hatched, and tinted where its whole interval lies on one side of 1."""
    if verdict is not Verdict.INCOMPARABLE or not row.ratio or row.low is None or row.high is None:
        return ""
    level = min(4, 1 + sum(max(row.ratio, 1 / row.ratio) >= limit for limit in _LEVELS))
    return f" s{level}" if row.low > 1 else f" f{level}" if row.high < 1 else ""


def tone(ratio: float, verdict: Verdict) -> str:
    """The class of a cell: s1 to s6 slower, f1 to f6 faster, e same, q inconclusive, x incomparable."""
    if verdict is Verdict.SAME:
        return "e"
    if verdict is Verdict.INCONCLUSIVE:
        return "q"
    if verdict is Verdict.INCOMPARABLE:
        return "x"
    size = max(ratio, 1 / ratio) if ratio > 0 else 1.0
    level = 1 + sum(size >= limit for limit in _LEVELS)
    return f"{'s' if verdict is Verdict.SLOWER else 'f'}{level}"


SECTION = Section("heatmap", "heatmap.html", context)
