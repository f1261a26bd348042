"""What leaving a guest costs: every exit in time and cycles, beside published figures of other machines."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from .. import machine, products, quantities, scales
from ..report import Report, Section
from ..texts import Texts
from ..ticks import Tick, value_ticks
from ..view import ArmView, View, WorkloadView

_PUBLISHED = {"exits.hypercall": "hypercall", "exits.cpuid": "cpuid", "exits.out": "pio", "exits.rdmsr": "msr"}
"""Workload to the row of reference_results.json that measures nearly the same."""


@dataclass(frozen=True)
class Exit:
    """One operation in one arm."""

    workload: WorkloadView
    words: Markup | None
    arm: ArmView
    href: str
    bar: int
    value: str
    interval: str
    cycles: str


@dataclass(frozen=True)
class Published:
    """A row of published figures, in microseconds, one for each column."""

    workload: str
    here: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Exits:
    """The exits of one run."""

    view: View
    rows: tuple[Exit, ...]
    ticks: tuple[Tick, ...]
    several_arms: bool
    clock: str
    columns: tuple[str, ...]
    published: tuple[Published, ...]
    source: str


def context(report: Report) -> list[Exits]:
    """The exits of every run that measured any."""
    found = [exits(view, report.texts) for view in report.views]
    return [one for one in found if one.rows]


def exits(view: View, texts: Texts) -> Exits:
    """What a run says of exits."""
    pairs = [
        (workload, arm)
        for workload in view.workloads
        for arm in view.arms
        if workload.suite == "exits" and (workload.key, arm.key) in view.series
    ]
    values = [view.series[workload.key, arm.key].center or 1.0 for workload, arm in pairs]
    axis = scales.Axis(min(values, default=1.0) / 2, max(values, default=10.0) * 1.2, True)
    hertz = machine.clock_hertz(view.run.probe)
    reference = products.reference_results()
    rows = tuple(_exit(view, workload, arm, axis, hertz, texts) for workload, arm in pairs)
    return Exits(
        view=view,
        rows=rows,
        ticks=value_ticks(axis, "ns"),
        several_arms=len({arm.key for _, arm in pairs}) > 1,
        clock="" if hertz is None else f"{hertz / 1e9:.3f}",
        columns=tuple(reference["pvm_us"]["columns"]),
        published=tuple(
            Published(
                name,
                ", ".join(dict.fromkeys(row.value for row in rows if row.workload.key == name)),
                tuple(quantities.quantity(value * 1e3, "ns") for value in reference["pvm_us"][_PUBLISHED[name]]),
            )
            for name in dict.fromkeys(workload.key for workload, _ in pairs)
            if name in _PUBLISHED
        ),
        source=reference["_sources"]["pvm"],
    )


def _exit(
    view: View, workload: WorkloadView, arm: ArmView, axis: scales.Axis, hertz: float | None, texts: Texts
) -> Exit:
    row = view.rows.get((workload.key, arm.key))
    level = row is not None and row.ratio is None and row.estimate is not None
    value = row.estimate if row is not None and level else view.series[workload.key, arm.key].center
    return Exit(
        workload=workload,
        words=texts.get(f"workload.{workload.key}"),
        arm=arm,
        href=f"#w{view.index}-{workload.index}-{arm.index}",
        bar=axis.at(value or 0.0),
        value=quantities.quantity(value, workload.unit),
        interval=quantities.quantity_range(row.low, row.high, workload.unit)
        if row is not None and level
        else quantities.DASH,
        cycles=quantities.cycles(value, hertz) if workload.unit == "ns" else quantities.DASH,
    )


SECTION = Section("exits", "exits.html", context)
