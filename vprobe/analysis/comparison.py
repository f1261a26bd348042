"""Every workload in every arm against its base: `vprobe compare`, and what reports are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, expm1

import numpy as np

from vprobe.analysis.bases import BASELINE, base_arm, check_base, default_base, is_control
from vprobe.analysis.comparable import differences, workload_differences
from vprobe.analysis.estimate import CONFIDENCE, Estimate, estimate, estimate_shift
from vprobe.analysis.floor import NO_FLOOR, Floor, noise_floor
from vprobe.analysis.notes import notes
from vprobe.analysis.series import Samplings, Series
from vprobe.analysis.stability import dependence
from vprobe.analysis.suite_means import suite_means
from vprobe.analysis.verdicts import judge, too_few
from vprobe.model import Arm, Comparison, Comparisons, NoiseFloor, Run, Verdict, WorkloadRecord

MARGIN = 0.02
CROSS_SESSION = "cross-session"
NO_CANARY = "a session without a canary cannot be compared with another one"
ZERO = "a value is 0, which has no ratio"


def compare(run: Run, other: Run | None = None, *, base: str | None = None, margin: float = MARGIN) -> Comparisons:
    """Compare the arms of a run; or, with `other`, each arm with itself in that other run, which is then the base.

    `base`: an arm, an environment or a variant; by default the first variant, or bare where there are no variants.
    `margin`: what counts as the same, a share. UsageError for a base that the run does not have.
    """
    if other is not None:
        return _across(run, other, margin)
    base = default_base(run) if base is None else base
    check_base(run.arms, base)
    samplings = Samplings(run)
    floors = noise_floor(run, samplings)
    rows = _Within(run, samplings, floors, base, margin)
    compared = tuple(row for workload in run.workloads for row in rows.of(workload))
    return Comparisons(
        noise_floor=_shown(floors),
        comparisons=compared,
        suites=suite_means(run, samplings, base),
        warnings=(*notes(run, floors), *_dependent(compared)),
    )


def _dependent(rows: Sequence[Comparison]) -> Iterator[str]:
    """Changes that are claimed of boots that are not independent: less sure than their intervals say."""
    found = [row for row in rows if row.reason and row.verdict in (Verdict.SLOWER, Verdict.FASTER)]
    if found:
        more = f" and {len(found) - 1} more rows" if len(found) > 1 else ""
        yield f"{found[0].workload} @ {found[0].arm}{more} are less sure than their intervals say: {found[0].reason}"


def _shown(floors: dict[str, Floor]) -> dict[str, NoiseFloor]:
    return {
        name: NoiseFloor(ratio_of(floor.estimate.centre), ratio_of(floor.estimate.low), ratio_of(floor.estimate.high))
        for name, floor in floors.items()
    }


def ratio_of(logarithm: float) -> float:
    """exp(), kept finite: a hostile file may hold ratios beyond what a float holds."""
    return exp(min(max(logarithm, -700.0), 700.0))


@dataclass(frozen=True)
class _Within:
    """The rows of one run."""

    run: Run
    samplings: Samplings
    floors: dict[str, Floor]
    base: str
    margin: float

    def of(self, workload: WorkloadRecord) -> Iterator[Comparison]:
        """A row for each arm that is compared, and for each whose base lacks the workload."""
        present = self.samplings.arms(workload.name)
        arms = [arm for arm in self.run.arms if arm.name in present and not is_control(arm)]
        bases = {arm.name: base_arm(self.run, arm, self.base) for arm in arms}
        wanted = {other.name for other in bases.values() if other}
        compared = any(other and other.name in present for other in bases.values())
        for arm in arms:
            other = bases[arm.name]
            if other and other.name in present:
                yield self._ratio(workload, arm, other)
            elif not compared or arm.name not in wanted:
                yield self._level(workload, arm)

    def _ratio(self, workload: WorkloadRecord, arm: Arm, base: Arm) -> Comparison:
        series = self.samplings.ratio(workload.name, arm.name, base.name)
        level = self.samplings.level(workload.name, arm.name)
        floor = self.floors.get(workload.name, NO_FLOOR)
        return ratio_row(workload, arm, base.name, series, level, floor, self.margin)

    def _level(self, workload: WorkloadRecord, arm: Arm) -> Comparison:
        series = self.samplings.level(workload.name, arm.name)
        one = estimate(series.values, series.share)
        return Comparison(
            workload=workload.name,
            environment=arm.environment,
            arm=arm.name,
            base=None,
            ratio=None,
            low=one.low if one.conclusive else None,
            high=one.high if one.conclusive else None,
            estimate=one.centre,
            unit=workload.unit,
            confidence=one.confidence,
            p=None,
            boots=one.boots,
            rounds=series.rounds,
            minimum_detectable=None,
            verdict=None,
            reason="" if one.conclusive else too_few(one),
        )


def ratio_row(
    workload: WorkloadRecord, arm: Arm, base: str, series: Series, level: Series, floor: Floor, margin: float
) -> Comparison:
    """The row of a series of ln(ratio). `level`: of the arm alone, in the unit."""
    one, reason = _estimated(series)
    verdict = Verdict.INCONCLUSIVE
    if one:
        verdict, reason = judge(one, floor, margin)
        reason = "; ".join(filter(None, (reason, dependence(series.values))))
    return _row(workload, arm, base, one, level, series.rounds, verdict, reason)


def _estimated(series: Series) -> tuple[Estimate | None, str]:
    if len(series) == 0:
        return None, "no boot has both"
    if not np.isfinite(series.values).all():
        return None, ZERO
    return estimate(series.values, series.share), ""


def _row(
    workload: WorkloadRecord,
    arm: Arm,
    base: str,
    one: Estimate | None,
    level: Series,
    rounds: int,
    verdict: Verdict,
    reason: str,
) -> Comparison:
    detectable = one.minimum_detectable if one else None
    return Comparison(
        workload=workload.name,
        environment=arm.environment,
        arm=arm.name,
        base=base,
        ratio=ratio_of(one.centre) if one else None,
        low=ratio_of(one.low) if one and one.conclusive else None,
        high=ratio_of(one.high) if one and one.conclusive else None,
        estimate=estimate(level.values).centre if len(level) else None,
        unit=workload.unit,
        confidence=one.confidence if one else CONFIDENCE,
        p=one.p if one else None,
        boots=one.boots if one else 0,
        rounds=rounds,
        minimum_detectable=None if detectable is None else expm1(min(detectable, 700.0)),
        verdict=verdict,
        reason=reason,
    )


def _across(run: Run, other: Run, margin: float) -> Comparisons:
    """Each arm of `run` against itself in `other`, by values in units of the canary of their own session."""
    found = differences(run.fingerprint, other.fingerprint)
    here, there = Samplings(run), Samplings(other)
    floors, other_floors = noise_floor(run, here), noise_floor(other, there)
    theirs = {workload.name: workload for workload in other.workloads}
    rows = []
    for workload in run.workloads:
        for arm in run.arms:
            both = arm.name in here.arms(workload.name) and arm.name in there.arms(workload.name)
            if is_control(arm) or workload.name not in theirs or not both:
                continue
            floor = wider(floors.get(workload.name, NO_FLOOR), other_floors.get(workload.name, NO_FLOOR))
            unlike = workload_differences(workload, theirs[workload.name]) or "; ".join(found)
            rows.append(_cross_row(workload, arm, here, there, floor, margin, unlike))
    return Comparisons(
        noise_floor=_shown(floors),
        comparisons=tuple(rows),
        differences=found,
        warnings=(*notes(run, floors), *only_in_one(run, other)),
    )


def wider(one: Floor, other: Floor) -> Floor:
    """The floor of a comparison between two sessions: the worse of the two."""
    return max(one, other, key=lambda floor: (floor.rejected, floor.size))


def _cross_row(
    workload: WorkloadRecord, arm: Arm, here: Samplings, there: Samplings, floor: Floor, margin: float, unlike: str
) -> Comparison:
    mine, theirs = here.canary_level(workload.name, arm.name), there.canary_level(workload.name, arm.name)
    one, reason = shifted(mine, theirs)
    verdict = Verdict.INCONCLUSIVE
    if one:
        verdict, reason = judge(one, floor, margin)
    if unlike:
        verdict, reason = Verdict.INCOMPARABLE, unlike
    level = here.level(workload.name, arm.name)
    said = f"{CROSS_SESSION}; {reason}" if reason else CROSS_SESSION
    return _row(workload, arm, BASELINE, one, level, mine.rounds + theirs.rounds, verdict, said)


def shifted(mine: Series, theirs: Series) -> tuple[Estimate | None, str]:
    """Estimate of the shift between two sessions, or why there is none."""
    if not len(mine) or not len(theirs):
        return None, NO_CANARY
    if not (np.isfinite(mine.values).all() and np.isfinite(theirs.values).all()):
        return None, ZERO
    return estimate_shift(mine.values, theirs.values, mine.share), ""


def only_in_one(run: Run, other: Run) -> Iterator[str]:
    """What cannot be compared because only one of two runs has it."""
    for what, mine, theirs in (
        ("workload", [w.name for w in run.workloads], [w.name for w in other.workloads]),
        ("arm", [arm.name for arm in run.arms], [arm.name for arm in other.arms]),
    ):
        yield from (f"{what} {name} is only in the run" for name in mine if name not in theirs)
        yield from (f"{what} {name} is only in the baseline" for name in theirs if name not in mine)
