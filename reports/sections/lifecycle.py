"""What an environment costs before and after the work: start-up by phase, stopping, memory, density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vprobe.measure.plan import BASE, CONTROL

from .. import machine, quantities, scales
from ..report import Report, Section
from ..texts import Texts
from ..ticks import Tick, value_ticks
from ..view import ArmView, Role, View, WorkloadView

GIBIBYTE = 2.0**30
ORDER = ("engine_ns", "firmware_ns", "kernel_ns", "userspace_ns", "python_ns", "agent_ns")
"""Phases in the order in which they happen; what the list does not know comes after them."""
LIKE = 4.0
WHOLE = 0.8
"""Share of the start from which on the phases are all of it but for what medians do."""
START, STOP, MEMORY = "lifecycle.start", "lifecycle.stop", "lifecycle.memory"
DENSITY, RATE_ONE, RATE_PARALLEL = "lifecycle.density", "lifecycle.start_rate[1]", "lifecycle.start_rate[parallel]"
_WEIGHED = (MEMORY, DENSITY, RATE_ONE, RATE_PARALLEL)
_KNOWN = (START, STOP, *_WEIGHED)


@dataclass(frozen=True)
class Phase:
    """A phase of an arm's start: where it begins and ends on the plot, and how long it took."""

    name: str
    words: Markup | str
    shade: int
    start: int
    end: int
    value: str


@dataclass(frozen=True)
class Start:
    """The start of one arm: bar, phases, and the same in numbers."""

    arm: ArmView
    href: str
    phases: tuple[Phase, ...]
    total: int
    value: str
    spread: str
    stop: str
    words: Markup
    host: Markup | None


@dataclass(frozen=True)
class Group:
    """Arms whose starts are of like length, on one axis."""

    ticks: tuple[Tick, ...]
    starts: tuple[Start, ...]


@dataclass(frozen=True)
class Weight:
    """What sessions of one arm take, and how many there can be.

    `own`, `whole`: where the part of the bar that bare has, too, ends, and where all of it does.
    """

    arm: ArmView
    href: str
    own: int
    whole: int
    words: Markup
    memory: str
    on_top: str
    cgroup: str
    per_gib: str
    fit: str
    rate: str
    parallel_rate: str


@dataclass(frozen=True)
class Weights:
    """The second table: memory, density and start rates. `available`: the memory that sessions would have to fit into."""

    ticks: tuple[Tick, ...]
    rows: tuple[Weight, ...]
    has_cgroup: bool
    has_fit: bool
    has_rate: bool
    available: str


@dataclass(frozen=True)
class Other:
    """A workload of the suite that no table shows: its anchor and its value by arm."""

    name: str
    anchor: str
    values: str


@dataclass(frozen=True)
class Lifecycle:
    """The life cycle of the environments of one run."""

    view: View
    groups: tuple[Group, ...]
    weights: Weights | None
    legend: tuple[tuple[int, Markup | str], ...]
    others: tuple[Other, ...]


def context(report: Report) -> list[Lifecycle]:
    """The life cycle of every run that has one."""
    found = [lifecycle(view, report.texts) for view in report.views]
    return [one for one in found if one.groups or one.weights]


def lifecycle(view: View, texts: Texts) -> Lifecycle:
    """The arms of a run that have any figure of the suite lifecycle."""
    arms = [arm for arm in view.arms if any((name, arm.key) in view.series for name in (START, STOP))]
    names = sorted({name: None for arm in arms for name in phase_medians(view, arm)}, key=_place)
    return Lifecycle(
        view=view,
        groups=tuple(_group(view, members, names, texts) for members in _alike(view, arms)),
        weights=_weights(view, texts),
        legend=tuple((shade, _phase_words(name, texts)) for shade, name in enumerate(names)),
        others=tuple(
            Other(workload.name, f"w{view.index}-{workload.index}", _values(view, workload, texts))
            for workload in view.workloads
            if workload.suite == "lifecycle" and workload.key not in _KNOWN
        ),
    )


def _values(view: View, workload: WorkloadView, texts: Texts) -> str:
    """The median of every arm that has one, by name, without the control's."""
    found = [(arm, _center(view, workload.key, arm)) for arm in view.arms if arm.role is not Role.NOISE]
    said = [f"{arm.name} {quantities.quantity(value, workload.unit)}" for arm, value in found if value is not None]
    return texts("list.comma").join(said)


def _weights(view: View, texts: Texts) -> Weights | None:
    """None where nothing of it was measured."""
    arms = [arm for arm in view.arms if any((name, arm.key) in view.series for name in _WEIGHED)]
    if not arms:
        return None
    takes = {arm.key: _center(view, MEMORY, arm) or _detail(view, DENSITY, arm, "session_bytes") for arm in arms}
    axis = scales.Axis(0.0, max((value or 0.0 for value in takes.values()), default=0.0) * 1.02 or 1.0, False)
    free = [value for arm in arms if (value := _detail(view, DENSITY, arm, "available_bytes"))]
    measured = {name for name, _ in view.series}
    rows = tuple(_weight(view, arm, takes[arm.key], axis, texts) for arm in arms)
    return Weights(
        ticks=value_ticks(axis, "bytes"),
        rows=rows,
        has_cgroup=any(row.cgroup != quantities.DASH for row in rows),
        has_fit=DENSITY in measured,
        has_rate=bool({RATE_ONE, RATE_PARALLEL} & measured),
        available=quantities.quantity(float(np.median(free)), "bytes") if free else "",
    )


def _weight(view: View, arm: ArmView, memory: float | None, axis: scales.Axis, texts: Texts) -> Weight:
    on_top = _detail(view, MEMORY, arm, "on_top_of_bare_bytes")
    base = arm.environment in (BASE, CONTROL)
    own = memory if base or memory is None or on_top is None else memory - max(on_top, 0.0)
    each = _detail(view, DENSITY, arm, "session_bytes") or memory
    workload = next((one for one in view.workloads if (one.key, arm.key) in view.series and one.key in _WEIGHED), None)
    value = quantities.quantity(memory, "bytes")
    return Weight(
        arm=arm,
        href=f"#w{view.index}-{workload.index}-{arm.index}" if workload is not None else "",
        own=axis.at(max(own or 0.0, 0.0)),
        whole=axis.at(memory or 0.0),
        words=texts("lifecycle.weighs", arm=arm.name, value=value),
        memory=value,
        on_top=quantities.DASH if base else quantities.quantity(on_top, "bytes"),
        cgroup=quantities.quantity(_detail(view, MEMORY, arm, "cgroup_bytes"), "bytes"),
        per_gib=quantities.significant(GIBIBYTE / each) if each else quantities.DASH,
        fit=_number(_center(view, DENSITY, arm)),
        rate=_number(_center(view, RATE_ONE, arm)),
        parallel_rate=_number(_center(view, RATE_PARALLEL, arm)),
    )


def _number(value: float | None) -> str:
    return quantities.DASH if value is None else quantities.significant(value)


def _alike(view: View, arms: list[ArmView]) -> list[list[ArmView]]:
    """The arms in groups: where the next start takes more than LIKE times as long, a group ends."""
    groups: list[list[ArmView]] = []
    longest = 0.0
    for arm in sorted(arms, key=lambda arm: _center(view, START, arm) or 0.0):
        center = _center(view, START, arm) or 0.0
        if groups and center <= longest * LIKE:
            groups[-1].append(arm)
        else:
            groups.append([arm])
        longest = center
    return [sorted(group, key=lambda arm: arm.index) for group in groups]


def _group(view: View, arms: list[ArmView], names: list[str], texts: Texts) -> Group:
    longest = max(_center(view, START, arm) or 0.0 for arm in arms)
    axis = scales.Axis(0.0, longest * 1.02 or 1.0, False)
    return Group(value_ticks(axis, "ns"), tuple(_start(view, arm, axis, names, texts) for arm in arms))


def _center(view: View, workload: str, arm: ArmView) -> float | None:
    series = view.series.get((workload, arm.key))
    return None if series is None else series.center


def detail_medians(view: View, workload: str, arm: ArmView) -> dict[str, float]:
    """The median of every detail that the samples of an arm have."""
    found: dict[str, list[float]] = {}
    for visit in view.visits_of(workload):
        samples = visit.samples.get(arm.key)
        for name, values in samples.details.items() if samples is not None else ():
            found.setdefault(name, []).extend(values)
    return {name: float(np.median(values)) for name, values in found.items() if values}


def _detail(view: View, workload: str, arm: ArmView, name: str) -> float | None:
    value = detail_medians(view, workload, arm).get(name)
    return value if value is not None and np.isfinite(value) else None


def phase_medians(view: View, arm: ArmView) -> dict[str, float]:
    """The median of each phase of the start, in ns, in the order in which they happen."""
    found = detail_medians(view, START, arm)
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(phase: str) -> int:
    return ORDER.index(phase) if phase in ORDER else len(ORDER)


def _phase_words(name: str, texts: Texts) -> Markup | str:
    plain = name.removesuffix("_ns")
    return texts.get(f"phase.{plain}") or plain


def _start(view: View, arm: ArmView, axis: scales.Axis, names: list[str], texts: Texts) -> Start:
    center = _center(view, START, arm)
    series = view.series.get((START, arm.key))
    spread = np.percentile(series.boot_medians, (25, 75)) if series is not None else None
    half = quantities.DASH if spread is None else quantities.quantity_range(float(spread[0]), float(spread[1]), "ns")
    workload = next((one for one in view.workloads if one.key == START), None)
    value = quantities.quantity(center, "ns")
    return Start(
        arm=arm,
        href=f"#w{view.index}-{workload.index}-{arm.index}" if workload is not None and series is not None else "",
        phases=_phases(phase_medians(view, arm), center, axis, names, texts),
        total=axis.at(center or 0.0),
        value=value,
        spread=half,
        stop=quantities.quantity(_center(view, STOP, arm), "ns"),
        words=texts("lifecycle.words", arm=arm.name, value=value),
        host=machine.host_note(view.run.probe, texts) if arm.environment == "bare" else None,
    )


def _phases(
    medians: dict[str, float], total: float | None, axis: scales.Axis, names: list[str], texts: Texts
) -> tuple[Phase, ...]:
    """The phases one after the other. Medians of parts do not add up to the median of the whole: the bar is drawn to the whole,
    where the parts are nearly all of it; the figures are the medians.
    """
    found, begin = [], 0.0
    parts = sum(medians.values())
    stretch = total / parts if total and parts and WHOLE <= parts / total <= 1 / WHOLE else 1.0
    for name, value in medians.items():
        found.append(
            Phase(
                name,
                _phase_words(name, texts),
                names.index(name) % 6,
                axis.at(begin),
                max(axis.at(begin + value * stretch), axis.at(begin) + 1),
                quantities.quantity(value, "ns"),
            )
        )
        begin += value * stretch
    return tuple(found)


SECTION = Section("lifecycle", "lifecycle.html", context)
