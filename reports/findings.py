"""What the comparisons of a run add up to: the sentences and judgements that several sections share. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vprobe.model import Comparison, Verdict, VirtClass

from . import quantities
from .texts import Texts
from .view import ArmView, Role, View

QUIET_LIMIT = 1.03
"""An inconclusive row whose interval ends below this is no cost that a reader would act on."""

_INTEREST = (
    VirtClass.FULL_HARDWARE,
    VirtClass.PARAVIRTUAL,
    VirtClass.FULL_SOFTWARE,
    VirtClass.EMULATION,
    VirtClass.USER_SPACE_KERNEL,
    VirtClass.OS_LEVEL,
)


@dataclass(frozen=True)
class Cost:
    """An arm over all its workloads: suites that cost nothing measurable, all other suites, and what is slower and what faster,
    the farthest first.
    """

    arm: ArmView
    quiet_suites: tuple[str, ...]
    open_suites: tuple[str, ...]
    slower: tuple[Comparison, ...]
    faster: tuple[Comparison, ...]
    compared: int


def suite_of(workload: str) -> str:
    """The suite of a workload's name."""
    return workload.partition(".")[0] if "." in workload else ""


def is_quiet(row: Comparison) -> bool:
    """Whether a row shows that there is no cost worth a word."""
    if row.verdict in {Verdict.SAME, Verdict.FASTER}:
        return True
    return row.verdict is Verdict.INCONCLUSIVE and row.high is not None and row.high <= QUIET_LIMIT


def cost(view: View, arm: ArmView) -> Cost:
    """The cost of an arm."""
    rows = list(view.ratios(arm))
    suites = dict.fromkeys(suite_of(row.workload) for row in rows)
    quiet = [suite for suite in suites if all(is_quiet(row) for row in rows if suite_of(row.workload) == suite)]
    loud = [suite for suite in suites if suite not in quiet]
    slower = [row for row in rows if row.verdict is Verdict.SLOWER]
    slower.sort(key=lambda row: -(row.ratio or 0))
    faster = sorted((row for row in rows if row.verdict is Verdict.FASTER), key=lambda row: row.ratio or 0)
    return Cost(arm, tuple(quiet), tuple(loud), tuple(slower), tuple(faster), len(rows))


def costs(view: View) -> list[Cost]:
    """The cost of every measured arm, the most interesting first: user's variants, then the heavier boundary."""
    found = [cost(view, arm) for arm in view.measured_arms]
    return sorted((one for one in found if one.compared), key=lambda one: _rank(one.arm))


def _rank(arm: ArmView) -> tuple[int, int]:
    place = _INTEREST.index(arm.virt_class) if arm.virt_class in _INTEREST else len(_INTEREST)
    return (0 if arm.virt_class is VirtClass.NONE and arm.variant else 1, place)


def cost_words(ratio: float, texts: Texts) -> Markup:
    """A slow-down as people say it: 4.2 % more time, or 2.1 times the time."""
    if ratio < 1.2:
        return texts("cost.percent", percent=quantities.percent(ratio - 1))
    return texts("cost.times", ratio=f"{ratio:.2g}" if ratio < 99.5 else quantities.significant(ratio))


def workload_words(workload: str, texts: Texts) -> Markup:
    """What a workload does, in words; a user's own workload by its name."""
    base, bracket, parameters = workload.partition("[")
    words = texts.get(f"workload.{base}")
    if words is None:
        return texts("workload_name", name=workload)
    return texts("workload_parameters", words=words, parameters=parameters.rstrip("]")) if bracket else words


def suite_words(suite: str, texts: Texts) -> Markup:
    """The name of a suite in a sentence."""
    return texts.get(f"suite.{suite}.words") or texts("workload_name", name=suite or "*")


@dataclass(frozen=True)
class Floor:
    """How far bare was from itself, over the workloads: median and worst of |ratio - 1|."""

    median: float
    worst: float
    worst_workload: str
    rejected: int  # workloads whose interval excludes 1
    workloads: int


def floor(view: View) -> Floor | None:
    """The noise floor of a run, None where it has no control arm."""
    found = sorted((abs(entry.ratio - 1), name) for name, entry in view.comparisons.noise_floor.items())
    if not found:
        return None
    rejected = sum(not entry.low <= 1 <= entry.high for entry in view.comparisons.noise_floor.values())
    return Floor(_median([value for value, _ in found]), *found[-1], rejected, len(found))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def against_bare(view: View, arm: ArmView) -> list[Comparison]:
    """The rows that say what an arm's boundary costs: compared with bare, not with another variant in the same place."""
    bare = {one.key for one in view.arms if one.environment == "bare"}
    return [row for row in view.ratios(arm) if row.base in bare and arm.environment != "bare"]


def geometric_mean(rows: Iterable[Comparison]) -> float | None:
    """The geometric mean of the ratios, None without any."""
    logs = [math.log(row.ratio) for row in rows if row.ratio]
    return math.exp(sum(logs) / len(logs)) if logs else None


def suite_mean(view: View, suite: str, arm: ArmView, rows: Sequence[Comparison]) -> float | None:
    """The mean ratio of a suite as the analysis gives it; of a single workload, its ratio."""
    found = (mean.ratio for mean in view.comparisons.suites if mean.suite == suite and mean.arm == arm.key)
    return next(found, None) or geometric_mean(rows)


def arms_of(view: View, *classes: VirtClass) -> list[ArmView]:
    """The measured arms of some classes."""
    return [arm for arm in view.measured_arms if arm.virt_class in classes and arm.role is Role.MEASURED]
