"""The table of Felter et al. beside this run, for runs that hold enough of what the study measured."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from .. import quantities
from .. import study as published
from ..report import Report, Section
from ..texts import Texts
from ..view import ArmView, View
from .heatmap import Cell, ratio_cell

LEAST_ROWS = 6
"""Rows of the study that a run must have measured before its table is worth a reader's time."""


@dataclass(frozen=True)
class Row:
    """What the study ran and its ratios, or `words` where there are none; what stands for it here and its cells."""

    study: Markup
    published: tuple[str, ...]
    words: Markup
    workload: str
    href: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Gap:
    """Why cells are empty: the number that stands in them, arms, the reason, and the workloads."""

    mark: str
    arms: str
    reason: Markup
    workloads: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The study's table for one run."""

    view: View
    arms: tuple[ArmView, ...]
    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]
    source: str


def context(report: Report) -> list[Table]:
    """A table for each run that holds enough of the study."""
    found = [table(view, report.texts) for view in report.views]
    return [one for one in found if one is not None]


def table(view: View, texts: Texts) -> Table | None:
    """None for a run with few of the study's workloads."""
    made = published.study(view.run, view.comparisons)
    if sum(any(cell.found is not None for cell in row.ours) for row in made.rows) < LEAST_ROWS:
        return None
    arms = tuple(arm for key in made.arms for arm in view.arms if arm.key == key)
    gaps = _gaps(made, texts)
    marks = {(arm, workload): gap.mark for gap, cells in gaps for arm, workload in cells}
    anchors = {workload.key: f"#w{view.index}-{workload.index}" for workload in view.workloads}
    rows = []
    for row in made.rows:
        href = anchors.get(row.workload, "")
        cells = tuple(
            _gap(marks[arm.key, row.workload], view, texts)
            if cell.found is None
            else ratio_cell(cell.found, f"{href}-{arm.index}", texts)
            for arm, cell in zip(arms, row.ours, strict=True)
        )
        shown = tuple(quantities.DASH if value is None else quantities.ratio(value) + "×" for value in row.published)
        words = texts.said(row.note) if row.note else texts("study.none")
        rows.append(
            Row(texts.said(row.study), shown, Markup("") if any(row.published) else words, row.workload, href, cells)
        )
    return Table(
        view=view,
        arms=arms,
        rows=tuple(rows),
        gaps=tuple(gap for gap, _ in gaps),
        source=made.source,
    )


def _gaps(made: published.Study, texts: Texts) -> list[tuple[Gap, list[tuple[str, str]]]]:
    """Each reason once, with the arms and workloads of its cells; arms that lack the same for the same reason share one."""
    shared: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for arm, reason, workloads in made.gaps:
        shared.setdefault((reason, workloads), []).append(arm)
    found = []
    for number, ((reason, workloads), arms) in enumerate(shared.items(), 1):
        gap = Gap(str(number), texts("list.comma").join(arms), texts.said(reason), workloads)
        found.append((gap, [(arm, workload) for arm in arms for workload in workloads]))
    return found


def _gap(mark: str, view: View, texts: Texts) -> Cell:
    return Cell("k", f"#study-{view.index}-{mark}", None, "", texts("study.gap", mark=mark), "", "")


SECTION = Section("study", "study.html", context)
