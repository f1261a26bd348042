"""What an environment costs before and after the work: start-up by phase, stopping, memory, density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .. import machine, quantities, scales
from ..report import Report, Section
from ..texts import Texts
from ..ticks import Tick, value_ticks
from ..view import ArmView, View

GIBIBYTE = 2.0**30
ORDER = ("engine_ns", "firmware_ns", "kernel_ns", "userspace_ns", "python_ns", "agent_ns")
"""Phases in the order in which they happen; what the list does not know comes after them."""
LIKE = 4.0
WHOLE = 0.8
"""Share of the start from which on the phases are all of it but for what medians do."""
_KNOWN = ("lifecycle.start", "lifecycle.stop", "lifecycle.memory")


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
    memory: str
    density: str
    words: Markup
    host: Markup | None


@dataclass(frozen=True)
class Group:
    """Arms whose starts are of like length, on one axis."""

    ticks: tuple[Tick, ...]
    starts: tuple[Start, ...]


@dataclass(frozen=True)
class Lifecycle:
    """The life cycle of the environments of one run."""

    view: View
    groups: tuple[Group, ...]
    has_memory: bool
    legend: tuple[tuple[int, Markup | str], ...]
    others: tuple[tuple[str, str], ...]


def context(report: Report) -> list[Lifecycle]:
    """The life cycle of every run that has one."""
    found = [lifecycle(view, report.texts) for view in report.views]
    return [one for one in found if one.groups]


def lifecycle(view: View, texts: Texts) -> Lifecycle:
    """The arms of a run that have any figure of the suite lifecycle."""
    arms = [arm for arm in view.arms if any((name, arm.key) in view.series for name in _KNOWN)]
    names = sorted({name: None for arm in arms for name in phase_medians(view, arm)}, key=_place)
    return Lifecycle(
        view=view,
        groups=tuple(_group(view, members, names, texts) for members in _alike(view, arms)),
        has_memory=any(("lifecycle.memory", arm.key) in view.series for arm in arms),
        legend=tuple((shade, _phase_words(name, texts)) for shade, name in enumerate(names)),
        others=tuple(
            (workload.name, f"w{view.index}-{workload.index}")
            for workload in view.workloads
            if workload.suite == "lifecycle" and workload.key not in _KNOWN
        ),
    )


def _alike(view: View, arms: list[ArmView]) -> list[list[ArmView]]:
    """The arms in groups: where the next start takes more than LIKE times as long, a group ends."""
    groups: list[list[ArmView]] = []
    longest = 0.0
    for arm in sorted(arms, key=lambda arm: _center(view, "lifecycle.start", arm) or 0.0):
        center = _center(view, "lifecycle.start", arm) or 0.0
        if groups and center <= longest * LIKE:
            groups[-1].append(arm)
        else:
            groups.append([arm])
        longest = center
    return [sorted(group, key=lambda arm: arm.index) for group in groups]


def _group(view: View, arms: list[ArmView], names: list[str], texts: Texts) -> Group:
    longest = max(_center(view, "lifecycle.start", arm) or 0.0 for arm in arms)
    axis = scales.Axis(0.0, longest * 1.02 or 1.0, False)
    return Group(value_ticks(axis, "ns"), tuple(_start(view, arm, axis, names, texts) for arm in arms))


def _center(view: View, workload: str, arm: ArmView) -> float | None:
    series = view.series.get((workload, arm.key))
    return None if series is None else series.center


def phase_medians(view: View, arm: ArmView) -> dict[str, float]:
    """The median of each phase of the start, in ns, in the order in which they happen."""
    found: dict[str, list[float]] = {}
    for visit in view.visits_of("lifecycle.start"):
        samples = visit.samples.get(arm.key)
        for name, values in samples.details.items() if samples is not None else ():
            found.setdefault(name, []).extend(values)
    return {name: float(np.median(found[name])) for name in sorted(found, key=_place) if found[name]}


def _place(phase: str) -> int:
    return ORDER.index(phase) if phase in ORDER else len(ORDER)


def _phase_words(name: str, texts: Texts) -> Markup | str:
    plain = name.removesuffix("_ns")
    return texts.get(f"phase.{plain}") or plain


def _start(view: View, arm: ArmView, axis: scales.Axis, names: list[str], texts: Texts) -> Start:
    center = _center(view, "lifecycle.start", arm)
    memory = _center(view, "lifecycle.memory", arm)
    series = view.series.get(("lifecycle.start", arm.key))
    spread = np.percentile(series.boot_medians, (25, 75)) if series is not None else None
    half = quantities.DASH if spread is None else quantities.quantity_range(float(spread[0]), float(spread[1]), "ns")
    workload = next((one for one in view.workloads if one.key == "lifecycle.start"), None)
    value = quantities.quantity(center, "ns")
    return Start(
        arm=arm,
        href=f"#w{view.index}-{workload.index}-{arm.index}" if workload is not None and series is not None else "",
        phases=_phases(phase_medians(view, arm), center, axis, names, texts),
        total=axis.at(center or 0.0),
        value=value,
        spread=half,
        stop=quantities.quantity(_center(view, "lifecycle.stop", arm), "ns"),
        memory=quantities.quantity(memory, "bytes"),
        density=quantities.significant(GIBIBYTE / memory) if memory else quantities.DASH,
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
