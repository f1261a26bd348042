"""Which workloads and arms does each rule judge, and against what? What cannot be judged says why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log1p

import numpy as np

from vprobe.analysis.bases import BASELINE, base_arm, check_base, is_control
from vprobe.analysis.comparable import differences, workload_differences
from vprobe.analysis.comparison import NO_CANARY, ZERO, wider
from vprobe.analysis.exact import Floats
from vprobe.analysis.floor import NO_FLOOR, Floor, noise_floor
from vprobe.analysis.rules import Rule
from vprobe.analysis.series import Samplings, Series
from vprobe.errors import UsageError
from vprobe.model import Arm, GateVerdict, Run, WorkloadRecord

INCOMPARABLE_SKIP = "incomparable: "
"""How the engine begins the reason for a skip where an arm is too unlike the base to be measured."""

IS_BASE = "it is the base"


@dataclass(frozen=True)
class Row:
    """One rule on one workload and arm: what is to be tested, or the verdict where nothing can be.

    `values`: ln(ratio) a boot, or ln(slowness / canary) with the baseline's in `others`, or levels in `unit` for an
    absolute limit. `bound`: the limit on the same scale, the noise floor included. `share`: of alpha, see share_at().
    `missing`: the policy decides.
    """

    rule: Rule
    workload: str
    arm: Arm
    unit: str
    base: str | None
    bound: float
    values: Floats = field(default_factory=lambda: np.zeros(0))
    others: Floats | None = None
    share: float = 1.0
    verdict: GateVerdict | None = None
    missing: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """The run that is judged, and the baseline if there is one."""

    run: Run
    baseline: Run | None = None
    across: frozenset[str] = frozenset()

    @cached_property
    def samplings(self) -> Samplings:
        """The run's series."""
        return Samplings(self.run)

    @cached_property
    def floors(self) -> dict[str, Floor]:
        """The run's noise floor."""
        return noise_floor(self.run, self.samplings)

    @cached_property
    def unlike(self) -> tuple[str, ...]:
        """In what the baseline's machine or software differs."""
        return differences(self.run.fingerprint, self.baseline.fingerprint, self.across) if self.baseline else ()

    @cached_property
    def baseline_samplings(self) -> Samplings:
        """The baseline's series. Only where there is a baseline."""
        assert self.baseline is not None
        return Samplings(self.baseline)

    @cached_property
    def baseline_floors(self) -> dict[str, Floor]:
        """The baseline's noise floor. Only where there is a baseline."""
        assert self.baseline is not None
        return noise_floor(self.baseline, self.baseline_samplings)

    def skip_reason(self, workload: str, arm: str) -> str | None:
        """Why the run did not measure a workload in an arm; None where it does not say."""
        found = (skip.reason for skip in self.run.skipped if skip.workload == workload and skip.arm == arm)
        return next(found, None)


def rows_of(rule: Rule, evidence: Evidence) -> tuple[list[Row], list[str]]:
    """The rows that a rule judges, and what it passes over and why ("exits.out @ kvm: …").

    UsageError for a rule that judges nothing, or whose base is not there.
    """
    run = evidence.run
    if rule.base == BASELINE and rule.share is not None:
        if evidence.baseline is None:
            raise UsageError(f"{rule.text!r} needs a stored run", "name it with --baseline")
    elif rule.share is not None:
        check_base(run.arms, rule.base)
    workloads = [workload for workload in run.workloads if rule.takes_workload(workload.name)]
    arms = [arm for arm in run.arms if rule.takes_arm(arm) and (not is_control(arm) or rule.names(arm))]
    rows, passed = [], []
    for workload in workloads:
        for arm in arms:
            found = _row(rule, workload, arm, evidence)
            if isinstance(found, str):
                passed.append((f"{workload.name} @ {arm.name}", found))
            else:
                rows.append(found)
    rows += _only_in_baseline(rule, evidence)
    told = [f"{where}: {why}" for where, why in passed if why != IS_BASE]
    if not rows:
        raise UsageError(f"{rule.text!r} matches nothing", _why_nothing(rule, run, workloads, arms, told))
    return rows, told


def _why_nothing(
    rule: Rule, run: Run, workloads: Sequence[WorkloadRecord], arms: Sequence[Arm], passed: Sequence[str]
) -> str:
    if not workloads:
        names = ", ".join(workload.name for workload in run.workloads[:8])
        return f"no workload of the run is called {rule.workloads!r}; it has {names}"
    if not arms:
        names = ", ".join(dict.fromkeys(arm.environment for arm in run.arms))
        return f"no environment of the run is called {rule.environment!r}; it has {names}"
    return passed[0] if passed else f"{arms[0].name} is what it compares with, and nothing is compared with itself"


def _row(rule: Rule, workload: WorkloadRecord, arm: Arm, evidence: Evidence) -> Row | str:
    """A row, or why the rule passes over this pair."""
    if arm.name not in evidence.samplings.arms(workload.name):
        return _unmeasured(rule, workload, arm, evidence)
    if rule.absolute is not None:
        return _absolute(rule, workload, arm, evidence)
    if rule.base == BASELINE:
        return _stored(rule, workload, arm, evidence)
    base = base_arm(evidence.run, arm, rule.base)
    if base is None:
        is_base = rule.base in (arm.name, arm.environment, arm.variant)
        return IS_BASE if is_base else f"nothing in the run is its {rule.base}"
    if base.name not in evidence.samplings.arms(workload.name):
        return f"{base.name} does not have it, so that only an absolute limit can judge it"
    series = evidence.samplings.ratio(workload.name, arm.name, base.name, rule.percentile)
    floor = NO_FLOOR if is_control(arm) else evidence.floors.get(workload.name, NO_FLOOR)
    return _relative(rule, workload, arm, base.name, floor, series)


def _unmeasured(rule: Rule, workload: WorkloadRecord, arm: Arm, evidence: Evidence) -> Row | str:
    reason = evidence.skip_reason(workload.name, arm.name)
    if reason is None:
        excluded = any(visit.workload == workload.name and visit.excluded for visit in evidence.run.visits)
        return _missing(rule, workload, arm, "all its visits are excluded" if excluded else "it was not measured")
    if reason.startswith(INCOMPARABLE_SKIP):
        told = reason.removeprefix(INCOMPARABLE_SKIP)
        return Row(rule, workload.name, arm, workload.unit, None, 0.0, verdict=GateVerdict.INCOMPARABLE, reason=told)
    return f"skipped, {reason}"


def _missing(rule: Rule, workload: WorkloadRecord, arm: Arm, reason: str) -> Row:
    base = BASELINE if rule.base == BASELINE else None
    return Row(rule, workload.name, arm, workload.unit, base, 0.0, missing=True, reason=reason)


def _absolute(rule: Rule, workload: WorkloadRecord, arm: Arm, evidence: Evidence) -> Row:
    unit = "bytes" if workload.unit == "B" else workload.unit
    if unit != rule.unit:
        raise UsageError(
            f"{rule.text!r} limits {rule.unit}, and {workload.name} is measured in {workload.unit}",
            "give each unit its own rule, or a percentage",
        )
    assert rule.absolute is not None
    series = evidence.samplings.level(workload.name, arm.name, rule.percentile)
    return Row(rule, workload.name, arm, workload.unit, None, rule.absolute, series.values, share=series.share)


def _relative(
    rule: Rule,
    workload: WorkloadRecord,
    arm: Arm,
    base: str,
    floor: Floor,
    series: Series,
    others: Floats | None = None,
) -> Row:
    """A row of logarithms. The limit is widened by what the machine alone pretends."""
    assert rule.share is not None
    values = series.values
    bound = log1p(rule.share) + floor.size
    verdict, reason = None, ""
    if floor.rejected:
        verdict, reason = GateVerdict.INCONCLUSIVE, floor.reason
    elif not (np.isfinite(values).all() and (others is None or np.isfinite(others).all())):
        verdict, reason = GateVerdict.INCONCLUSIVE, ZERO
    elif not len(values) or (others is not None and not len(others)):
        verdict, reason = GateVerdict.INCONCLUSIVE, "no boot has both" if others is None else NO_CANARY
    unit = workload.unit
    return Row(rule, workload.name, arm, unit, base, bound, values, others, series.share, verdict, reason=reason)


def _stored(rule: Rule, workload: WorkloadRecord, arm: Arm, evidence: Evidence) -> Row:
    assert evidence.baseline is not None
    theirs = next((other for other in evidence.baseline.workloads if other.name == workload.name), None)
    if theirs is None:
        return _missing(rule, workload, arm, f"the baseline has no workload {workload.name}")
    if arm.name not in evidence.baseline_samplings.arms(workload.name):
        return _missing(rule, workload, arm, f"the baseline did not measure it in {arm.name}")
    unlike = workload_differences(workload, theirs) or "; ".join(evidence.unlike)
    if unlike:
        verdict = GateVerdict.INCOMPARABLE
        return Row(rule, workload.name, arm, workload.unit, BASELINE, 0.0, verdict=verdict, reason=unlike)
    mine: Series = evidence.samplings.canary_level(workload.name, arm.name, rule.percentile)
    other = evidence.baseline_samplings.canary_level(workload.name, arm.name, rule.percentile)
    floor = wider(evidence.floors.get(workload.name, NO_FLOOR), evidence.baseline_floors.get(workload.name, NO_FLOOR))
    return _relative(rule, workload, arm, BASELINE, floor, mine, other.values)


def _only_in_baseline(rule: Rule, evidence: Evidence) -> Iterator[Row]:
    """What the baseline has and the run has not: a workload that was renamed, an arm that was left out."""
    if rule.base != BASELINE or rule.absolute is not None or evidence.baseline is None:
        return
    here = {workload.name for workload in evidence.run.workloads}
    arms_here = {arm.name for arm in evidence.run.arms}
    for workload in evidence.baseline.workloads:
        for arm in evidence.baseline.arms:
            taken = rule.takes_workload(workload.name) and rule.takes_arm(arm) and not is_control(arm)
            if not taken or arm.name not in evidence.baseline_samplings.arms(workload.name):
                continue
            if workload.name not in here:
                yield _missing(rule, workload, arm, f"only the baseline has the workload {workload.name}")
            elif arm.name not in arms_here:
                yield _missing(rule, workload, arm, f"only the baseline has the arm {arm.name}")
