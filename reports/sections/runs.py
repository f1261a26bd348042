"""Several runs: what differs between them, and every arm against itself in the first run."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vprobe.model import Comparison, Comparisons

from .. import quantities
from ..report import Report, Section
from ..texts import Texts
from ..view import View, WorkloadView
from .heatmap import Cell, ratio_cell


@dataclass(frozen=True)
class Row:
    """A workload with a cell for each arm that both runs have; None where one lacks it."""

    workload: WorkloadView
    href: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Pair:
    """One run against the first."""

    view: View
    differences: tuple[str, ...]
    warnings: tuple[str, ...]
    arms: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Beside:
    """An arm on a workload: its ratio to the base in each run."""

    workload: str
    arm: str
    ratios: tuple[str, ...]


@dataclass(frozen=True)
class Context:
    """What runs.html shows."""

    labels: tuple[str, ...]
    dates: tuple[str, ...]
    pairs: tuple[Pair, ...]
    beside: tuple[Beside, ...]


def context(report: Report) -> Context | None:
    """None for a report of one run."""
    if len(report.views) < 2:
        return None
    return Context(
        labels=tuple(view.label for view in report.views),
        dates=tuple(view.run.created for view in report.views),
        pairs=tuple(
            _pair(view, across, report.texts) for view, across in zip(report.views[1:], report.across, strict=True)
        ),
        beside=_beside(report),
    )


def _pair(view: View, across: Comparisons, texts: Texts) -> Pair:
    found = {(row.workload, row.arm): row for row in across.comparisons if row.ratio is not None}
    arms = [arm for arm in view.arms if any(arm.key == key for _, key in found)]
    rows = [
        Row(
            workload,
            f"#w{view.index}-{workload.index}",
            tuple(
                _cell(found.get((workload.key, arm.key)), f"#w{view.index}-{workload.index}-{arm.index}", texts)
                for arm in arms
            ),
        )
        for workload in view.workloads
        if any((workload.key, arm.key) in found for arm in arms)
    ]
    return Pair(view, across.differences, across.warnings, tuple(arm.name for arm in arms), tuple(rows))


def _cell(row: Comparison | None, href: str, texts: Texts) -> Cell | None:
    return None if row is None else ratio_cell(row, href, texts)


def _beside(report: Report) -> tuple[Beside, ...]:
    """The ratios within each run, in the order of the first run that has them."""
    keys: dict[tuple[str, str], Markup | None] = {}
    for view in report.views:
        for arm in view.measured_arms:
            keys.update({(row.workload, arm.key): None for row in view.ratios(arm)})
    order = {name: index for index, name in enumerate(w.key for view in report.views for w in view.workloads)}
    found = []
    for workload, name in sorted(keys, key=lambda key: order.get(key[0], 0)):
        rows = [view.rows.get((workload, name)) for view in report.views]
        found.append(Beside(workload, name, tuple(_ratio(row) for row in rows)))
    return tuple(found)


def _ratio(row: Comparison | None) -> str:
    if row is None or row.ratio is None:
        return quantities.DASH
    return f"{quantities.ratio(row.ratio)}× ({quantities.ratio_range(row.low, row.high)})"


SECTION = Section("runs", "runs.html", context)
