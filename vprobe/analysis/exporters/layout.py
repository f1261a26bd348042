"""The shape that tables of a comparison share: workloads by suite, arms in columns, and the words around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vprobe.analysis.bases import BASELINE
from vprobe.analysis.numbers import ratio, share
from vprobe.measure.plan import CONTROL
from vprobe.model import Comparison, Comparisons, Run, SuiteMean, Verdict

GLYPHS = {
    Verdict.SLOWER: "▲",
    Verdict.FASTER: "▼",
    Verdict.SAME: "=",
    Verdict.INCONCLUSIVE: "?",
    Verdict.INCOMPARABLE: "≠",
}
ESTIMATES = "With nothing to compare with: the median of one operation, and its 95 % interval over boots."
PERCENTAGE = re.compile(r"\d+(?:\.\d+)?(?= %)")
LEGEND = "▲ slower   ▼ faster   = same, inside margin or noise floor   ? inconclusive   ≠ incomparable"


@dataclass(frozen=True)
class Group:
    """A suite: its workloads' rows by (workload, arm), and its means by arm."""

    suite: str
    workloads: tuple[str, ...]
    cells: dict[tuple[str, str], Comparison]
    means: dict[str, SuiteMean]


def ticks_per_ns(run: Run) -> float | None:
    """Ticks of the time-stamp counter in a nanosecond, as the run measured it; None where it did not."""
    hertz = run.probe.get("cpu", {}).get("tsc_hz") if isinstance(run.probe.get("cpu"), dict) else None
    return hertz / 1e9 if isinstance(hertz, (int, float)) and hertz > 0 else None


def with_base(comparisons: Comparisons) -> list[Comparison]:
    """Rows that are compared with something."""
    return [row for row in comparisons.comparisons if row.base is not None]


def without_base(comparisons: Comparisons) -> list[Comparison]:
    """Rows that have only an estimate."""
    return [row for row in comparisons.comparisons if row.base is None]


def arms(rows: Sequence[Comparison]) -> list[str]:
    """Arms in their order of appearance."""
    return list(dict.fromkeys(row.arm for row in rows))


def groups(comparisons: Comparisons) -> list[Group]:
    """The rows with a base, suite by suite, in the run's order."""
    rows = with_base(comparisons)
    found = []
    for suite in dict.fromkeys(row.workload.partition(".")[0] for row in rows):
        mine = [row for row in rows if row.workload.partition(".")[0] == suite]
        found.append(
            Group(
                suite=suite,
                workloads=tuple(dict.fromkeys(row.workload for row in mine)),
                cells={(row.workload, row.arm): row for row in mine},
                means={mean.arm: mean for mean in comparisons.suites if mean.suite == suite},
            )
        )
    return found


def interval(row: Comparison | SuiteMean) -> str:
    """[1.041, 1.063], or "" where there is none."""
    return "" if row.low is None or row.high is None else f"[{ratio(row.low)}, {ratio(row.high)}]"


def half_width(row: Comparison | SuiteMean) -> str:
    """±1.1 %: half of the interval, as a share of the ratio; or "" where there is none."""
    if row.low is None or row.high is None or not row.ratio:
        return ""
    return f"±{share((row.high - row.low) / 2 / row.ratio)}"


def explanation(comparisons: Comparisons, *, compact: bool = False) -> str:
    """What the base is, what a ratio means, and what stands behind it."""
    boots = sorted({row.boots for row in with_base(comparisons)})
    span = f"{boots[0]}" if boots[0] == boots[-1] else f"{boots[0]} to {boots[-1]}"
    plural = "boot" if span == "1" else "boots"
    spread = "± is half of the 95 % interval" if compact else "[low, high] is the 95 % interval"
    return f"Ratio to {_base(comparisons)}; above 1 is slower, whichever way the unit points. {spread} over {span} {plural}."


def _base(comparisons: Comparisons) -> str:
    """The base in words: one arm, the same variant's arm elsewhere, or the same environment's other variant."""
    bases = list(dict.fromkeys(row.base for row in with_base(comparisons) if row.base is not None))
    if bases == [BASELINE]:
        return "the same arm in the other run, each in units of its own session's canary"
    environments = {base.partition("/")[0] for base in bases}
    variants = {base.partition("/")[2] for base in bases}
    if len(bases) > 1 and len(variants) == 1:
        return f"variant {variants.pop()} in the same environment"
    if len(bases) > 1 and len(environments) == 1:
        return f"{environments.pop()} with the same variant"
    return " or ".join(bases)


def floor_sentence(comparisons: Comparisons) -> str:
    """How much two equal arms differed: the median and the worst workload."""
    floors = comparisons.noise_floor
    if not floors:
        return ""
    sizes = {name: max(floor.ratio, 1 / floor.ratio) - 1 for name, floor in floors.items()}
    worst = max(sizes, key=lambda name: sizes[name])
    shown = floors[worst]
    most = f"{ratio(shown.ratio)} [{ratio(shown.low)}, {ratio(shown.high)}] in {worst}"
    if len(floors) > 1:
        most = f"{share(sorted(sizes.values())[len(sizes) // 2])} in the median workload, at most {most}"
    return f"Noise floor (bare-aa, which is bare again, against bare): {most}."


def reasons(comparisons: Comparisons) -> list[str]:
    """Why rows say nothing; reasons that differ in a percentage alone are one, with what it spans."""
    found: dict[tuple[str, ...], list[Comparison]] = {}
    for row in comparisons.comparisons:
        if row.reason and row.verdict in (None, Verdict.INCONCLUSIVE, Verdict.INCOMPARABLE):
            found.setdefault(tuple(PERCENTAGE.split(row.reason)), []).append(row)
    return [
        f"{_rows([(row.workload, row.arm) for row in rows])}: {_spanned([row.reason for row in rows])}"
        for rows in found.values()
    ]


def _spanned(texts: Sequence[str]) -> str:
    """The one text of several that differ in percentages alone: 2.2 % and 45 % become 2.2 to 45 %."""
    columns = zip(*(PERCENTAGE.findall(text) for text in texts), strict=True)
    ends = [(min(column, key=float), max(column, key=float)) for column in columns]
    spans = iter(low if float(low) == float(high) else f"{low} to {high}" for low, high in ends)
    return PERCENTAGE.sub(lambda _: next(spans), texts[0])


def skips(run: Run) -> list[str]:
    """What was not measured and why, equal reasons together; the control, which is bare again, is passed over."""
    found: dict[str, list[tuple[str, str]]] = {}
    for skip in run.skipped:
        if skip.arm != CONTROL:
            found.setdefault(skip.reason, []).append((skip.workload, skip.arm))
    return [f"{_rows(rows)}: {reason}" for reason, rows in found.items()]


def host(run: Run) -> str:
    """What "bare" is on this machine, where it is not the hardware itself; "" where it is or is not known."""
    hypervisor = _mapping(run.probe, "hypervisor")
    if hypervisor.get("state") == "present":
        monitor = hypervisor.get("monitor")
        under = f" under {monitor}" if isinstance(monitor, str) else ""
        return f"bare is the host as it is, here a {hypervisor.get('kind') or 'virtual'} guest{under}."
    container = _mapping(run.probe, "container")
    if container.get("state") == "present":
        return f"bare is the host as it is, here a {container.get('kind')} container."
    return ""


def _mapping(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    """Pairs of workload and arm; where it is every workload in every arm, each of them once."""
    workloads, arms = (list(dict.fromkeys(names)) for names in zip(*rows, strict=True))
    if len(rows) == len(workloads) * len(arms):
        return f"{_listed(workloads)} @ {_listed(arms)}"
    return _listed([f"{workload} @ {arm}" for workload, arm in rows])


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
