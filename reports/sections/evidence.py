"""Why the figures can be trusted: proof of where each session ran, what disturbed the run, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vprobe.model import EnvironmentRecord, Visit

from .. import paths, quantities, scales
from ..report import Report, Section
from ..texts import Texts
from ..view import NOISE_ENVIRONMENT, View

NOT_PROOF = frozenset({"pid", "hostname", "devices.cpus", "devices.storage", "devices.network"})
"""Differ between any two processes, or may, or are only told by guests: shown, but they prove nothing."""
PLOT_HEIGHT = 100
MOST_DOTS = 3000


@dataclass(frozen=True)
class Item:
    """One thing that a session saw from inside; `differs` from what bare saw."""

    key: str
    value: str
    differs: bool


@dataclass(frozen=True)
class Place:
    """An environment: what it is, and what shows that it was elsewhere than bare."""

    name: str
    class_words: Markup
    version: str
    proof: Markup
    proven: bool
    control: bool
    items: tuple[Item, ...]


@dataclass(frozen=True)
class BootNoise:
    """What disturbed the visits of one boot, at worst."""

    boot: int
    visits: int
    excluded: int
    canary: str
    steal: str
    pressure: str
    switches: str


@dataclass(frozen=True)
class NoiseLog:
    """The noise signals of a run in order: the canary as a plot, the rest as a table."""

    canary_dots: Markup
    canary_limit: str
    steal_dots: Markup
    steal_limit: str
    words: Markup
    boots: tuple[BootNoise, ...]


@dataclass(frozen=True)
class Evidence:
    """The evidence of one run."""

    view: View
    places: tuple[Place, ...]
    noise: NoiseLog | None
    excluded: tuple[Visit, ...]
    skipped: tuple[tuple[str, str, tuple[str, ...]], ...]
    floors: tuple[tuple[str, str, str, bool], ...]


def context(report: Report) -> list[Evidence]:
    """The evidence of every run."""
    return [_evidence(view, report.texts) for view in report.views]


def _evidence(view: View, texts: Texts) -> Evidence:
    return Evidence(
        view=view,
        places=places(view, texts),
        noise=_noise(view, texts),
        excluded=tuple(visit for visit in view.run.visits if visit.excluded is not None),
        skipped=_skipped(view),
        floors=tuple(
            (name, quantities.ratio(entry.ratio), quantities.ratio_range(entry.low, entry.high),
             entry.low <= 1 <= entry.high)
            for name, entry in view.comparisons.noise_floor.items()
        ),
    )  # fmt: skip


def places(view: View, texts: Texts) -> tuple[Place, ...]:
    """Every environment of a run with what shows where it was."""
    return tuple(_place(record, view, texts) for record in view.run.environments)


def flat(evidence: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Evidence as one line a fact, nested keys joined by dots."""
    found: dict[str, str] = {}
    for key, value in evidence.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = "" if value is None else str(value)
    return found


def _place(record: EnvironmentRecord, view: View, texts: Texts) -> Place:
    bare = view.environments.get("bare")
    reference = flat(bare.evidence) if bare is not None else {}
    seen = flat(record.evidence)
    items = tuple(
        Item(key, value, bool(value) and value != reference.get(key)) if reference else Item(key, value, False)
        for key, value in seen.items()
    )
    proof = [item.key for item in items if item.differs and item.key not in NOT_PROOF]
    control = record.name in {"bare", NOISE_ENVIRONMENT}
    return Place(
        name=record.name,
        class_words=texts(f"class.{record.virt_class}.name"),
        version=record.version,
        proof=_control_proof(record.name, proof, texts) if control else _proof(proof, bool(reference), texts),
        proven=bool(proof) or control,
        control=control,
        items=items,
    )


def grouped(keys: Sequence[str]) -> str:
    """Keys with those of one group together: namespaces (mnt, pid), cgroup."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        group, _, name = key.partition(".")
        groups.setdefault(group, []).extend([name] if name else [])
    return ", ".join(f"{group} ({', '.join(names)})" if names else group for group, names in groups.items())


def _control_proof(name: str, keys: Sequence[str], texts: Texts) -> Markup:
    if keys:
        return texts("evidence.bare_differs", keys=grouped(keys))
    return texts("evidence.control" if name == NOISE_ENVIRONMENT else "evidence.bare")


def _proof(keys: Sequence[str], known: bool, texts: Texts) -> Markup:
    if keys:
        return texts("evidence.differs", keys=grouped(keys))
    return texts("evidence.same" if known else "evidence.no_bare")


def _skipped(view: View) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(arm, reason, workloads): the skips of an arm for one reason are one line."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in view.run.skipped:
        found.setdefault((entry.arm, entry.reason), []).append(entry.workload)
    return tuple((arm, reason, tuple(workloads)) for (arm, reason), workloads in found.items())


def _noise(view: View, texts: Texts) -> NoiseLog | None:
    visits = view.run.visits
    if not visits:
        return None
    canary = np.array([_canary(visit) for visit in visits], dtype=np.float64)
    steal = np.array([np.nan if visit.noise.steal is None else visit.noise.steal for visit in visits])
    known = canary[np.isfinite(canary)]
    away = canary / np.median(known) - 1 if len(known) else canary
    canary_limit = scales.nice_limit(_largest(np.abs(away), 0.01))
    steal_limit = scales.nice_limit(_largest(steal, 0.01))
    return NoiseLog(
        canary_dots=_dots((away / canary_limit + 1) / 2),
        canary_limit="±" + quantities.percent(canary_limit),
        steal_dots=_dots(steal / steal_limit),
        steal_limit=quantities.percent(steal_limit),
        words=texts(
            "noise.words",
            canary=quantities.percent(_largest(np.abs(away), None)),
            steal=quantities.percent(_largest(steal, None)),
        ),
        boots=_boots(view, away),
    )


def _canary(visit: Visit) -> float:
    """The canary around a visit: the slower of the two readings, ns an iteration; nan where there is none."""
    known = [value for value in (visit.noise.canary_before, visit.noise.canary_after) if value is not None]
    return max(known) if known else float("nan")


def _largest(values: np.ndarray, at_least: float | None) -> float:
    known = values[np.isfinite(values)]
    largest = float(known.max()) if len(known) else float("nan")
    if at_least is None:
        return largest
    return max(largest, at_least) if len(known) else at_least


def _dots(shares: np.ndarray) -> Markup:
    """A dot for each visit in order; shares run from 0 (bottom) to 1 (top), unknown ones are left out."""
    chosen = paths.thinned(len(shares), MOST_DOTS)
    kept = chosen[np.isfinite(shares[chosen])]
    xs = np.rint((kept + 0.5) / max(len(shares), 1) * scales.WIDTH).astype(int)
    ys = np.rint((1 - np.clip(shares[kept], 0, 1)) * (PLOT_HEIGHT - 8) + 4).astype(int)
    return paths.dots(xs.tolist(), ys.tolist())


def _boots(view: View, away: np.ndarray) -> tuple[BootNoise, ...]:
    found: dict[int, list[tuple[Visit, float]]] = {}
    for visit, canary in zip(view.run.visits, away.tolist(), strict=True):
        found.setdefault(visit.boot, []).append((visit, canary))
    return tuple(_boot(boot, pairs) for boot, pairs in sorted(found.items()))


def _boot(boot: int, pairs: Sequence[tuple[Visit, float]]) -> BootNoise:
    noises = [visit.noise for visit, _ in pairs]
    canary = [value for _, value in pairs if np.isfinite(value)]
    steal = [noise.steal for noise in noises if noise.steal is not None]
    pressure = [noise.psi_cpu for noise in noises if noise.psi_cpu is not None]
    switches = [noise.involuntary_switches for noise in noises if noise.involuntary_switches is not None]
    return BootNoise(
        boot=boot + 1,
        visits=len(pairs),
        excluded=sum(visit.excluded is not None for visit, _ in pairs),
        canary=quantities.percent(max(canary, key=abs), signed=True) if canary else quantities.DASH,
        steal=quantities.percent(max(steal)) if steal else quantities.DASH,
        pressure=quantities.percent(max(pressure)) if pressure else quantities.DASH,
        switches=f"{sum(switches):,}" if switches else quantities.DASH,
    )


SECTION = Section("evidence", "evidence.html", context)
