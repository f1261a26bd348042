"""May this change ship? Rules on a run, judged together, with a chance of a false alarm that holds over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import msgspec
import numpy as np

from vprobe.analysis import rank_sum, signed_rank
from vprobe.analysis.comparable import differences
from vprobe.analysis.comparison import CROSS_SESSION, ratio_of
from vprobe.analysis.estimate import Estimate, estimate, estimate_shift
from vprobe.analysis.gate_rows import Evidence, Row, rows_of
from vprobe.analysis.holm import holm
from vprobe.analysis.notes import notes
from vprobe.analysis.rules import Rule
from vprobe.analysis.stability import session_correlation, unstable
from vprobe.analysis.verdicts import too_few
from vprobe.errors import IncomparableError, UsageError
from vprobe.model import GateReport, GateVerdict, RuleResult, Run

ALPHA = 0.05

Confirm = Callable[[Sequence[RuleResult]], Run]
"""Measures the workloads and arms of these results again, with their bases, on fresh boots of the same machine."""

BEYOND = "beyond the limit"
NOT_PROVEN = "beyond the limit, but with so many rows these few boots do not prove it"
INSIDE = "the limit lies inside the interval"
ONE_SESSION = f"beyond the limit, {CROSS_SESSION}: another session alone fails nobody, --confirm measures again"

_WORST_FIRST = (GateVerdict.FAIL, GateVerdict.INCOMPARABLE, GateVerdict.INCONCLUSIVE, GateVerdict.PASS)


@dataclass(frozen=True)
class Policy:
    """What an inconclusive and a missing row count as in the verdict of the whole gate. `alpha`: over all rows together."""

    inconclusive: GateVerdict = GateVerdict.INCONCLUSIVE
    missing: GateVerdict = GateVerdict.INCOMPARABLE
    alpha: float = ALPHA


def gate(
    run: Run,
    rules: Sequence[Rule],
    *,
    baseline: Run | None = None,
    across: frozenset[str] = frozenset(),
    policy: Policy = Policy(),
    confirm: Confirm | None = None,
) -> GateReport:
    """Judge a run by rules.

    FAIL: Holm over all rows rejects "at most the limit"; with `confirm`, it does so again on fresh boots, Holm over the
    failed rows alone. PASS: the whole interval is under the limit. UsageError for a rule that matches nothing.
    """
    evidence = Evidence(run, baseline, across)
    rows: list[Row] = []
    passed_over: list[str] = []
    for rule in rules:
        found, passed = rows_of(rule, evidence)
        rows += found
        passed_over += [f"{rule.text} does not judge {_listed(passed)}"] if passed else []
    judged = _judge(rows, policy, final=False)
    results = [one.result for one in judged]
    rejected = [index for index, one in enumerate(judged) if one.rejected]
    if confirm is not None and rejected:
        fresh = confirm([results[index] for index in rejected])
        second = _confirm([rows[index] for index in rejected], fresh, evidence, policy)
        results = [second.pop(0) if one.rejected else one.result for one in judged]
    warnings = (*_too_few_boots(rows, policy.alpha), *notes(run, evidence.floors), *passed_over)
    return _report(results, policy, warnings)


def _listed(passed: Sequence[str]) -> str:
    more = f", and {len(passed) - 1} more" if len(passed) > 1 else ""
    return f"{passed[0]}{more}"


@dataclass(frozen=True)
class _Judged:
    """A result, and whether its row is beyond the limit by the test and stable."""

    result: RuleResult
    rejected: bool = False


def _judge(rows: Sequence[Row], policy: Policy, *, final: bool) -> list[_Judged]:
    """Judge rows together. `final`: these are confirming measurements, so that another session may fail them."""
    tested = [index for index, row in enumerate(rows) if row.verdict is None and not row.missing]
    adjusted = dict(zip(tested, holm([_p(rows[index]) for index in tested]), strict=True))
    session = session_correlation([rows[index].values for index in tested])
    return [
        _tested(row, adjusted[index], session, policy, final=final) if index in adjusted else _untested(row, policy)
        for index, row in enumerate(rows)
    ]


def _p(row: Row) -> float:
    """p of "at most the limit"; of an adaptive run's row in units of its look's share, which makes it hold over all looks."""
    if row.others is None:
        p = signed_rank.p_greater(row.values, row.bound)
    else:
        p = rank_sum.p_greater(row.values, row.others, row.bound)
    return min(1.0, p / row.share)


def _untested(row: Row, policy: Policy) -> _Judged:
    verdict = policy.missing if row.missing else row.verdict
    assert verdict is not None
    measured = len(row.values) and (row.others is None or len(row.others)) and _finite(row)
    return _Judged(_result(row, _estimated(row) if measured else None, None, verdict, row.reason))


def _finite(row: Row) -> bool:
    return bool(np.isfinite(row.values).all() and (row.others is None or np.isfinite(row.others).all()))


def _estimated(row: Row) -> Estimate:
    if row.others is None:
        return estimate(row.values, row.share)
    return estimate_shift(row.values, row.others, row.share)


def _tested(row: Row, p: float, session: float, policy: Policy, *, final: bool) -> _Judged:
    one = _estimated(row)
    if p <= policy.alpha:
        return _beyond(row, one, p, session, final=final)
    if one.conclusive and one.high <= row.bound:
        return _Judged(_result(row, one, p, GateVerdict.PASS, CROSS_SESSION if row.others is not None else ""))
    reason = too_few(one)
    if one.conclusive:
        reason = NOT_PROVEN if one.low > row.bound else INSIDE
    return _Judged(_result(row, one, p, GateVerdict.INCONCLUSIVE, reason))


def _beyond(row: Row, one: Estimate, p: float, session: float, *, final: bool) -> _Judged:
    """What becomes of a row that the test holds for beyond the limit."""
    doubt = unstable(row.values, one, row.bound, session)
    if doubt:
        return _Judged(_result(row, one, p, GateVerdict.INCONCLUSIVE, doubt))
    if row.others is not None and not final:
        return _Judged(_result(row, one, p, GateVerdict.INCONCLUSIVE, ONE_SESSION), rejected=True)
    return _Judged(_result(row, one, p, GateVerdict.FAIL, BEYOND), rejected=True)


def _result(row: Row, one: Estimate | None, p: float | None, verdict: GateVerdict, reason: str) -> RuleResult:
    absolute = row.rule.absolute is not None
    ends: Mapping[str, Any] = {"low": None, "high": None}
    if one and one.conclusive:
        ends = (
            {"low": one.low, "high": one.high} if absolute else {"low": ratio_of(one.low), "high": ratio_of(one.high)}
        )
    return RuleResult(
        rule=row.rule.text,
        workload=row.workload,
        environment=row.arm.environment,
        arm=row.arm.name,
        ratio=ratio_of(one.centre) if one and not absolute else None,
        **ends,
        p_adjusted=p,
        verdict=verdict,
        reason=reason,
        base=row.base,
        limit=None if row.missing or row.verdict else (row.bound if absolute else ratio_of(row.bound)),
        estimate=one.centre if one and absolute else None,
        unit=row.unit,
        boots=one.boots if one else 0,
    )


def _confirm(rows: Sequence[Row], fresh: Run, evidence: Evidence, policy: Policy) -> list[RuleResult]:
    """What fresh boots say of the rows that failed, judged by themselves.

    This second stage holds the rate of false alarms alone: what led to it does not matter.
    """
    unlike = differences(evidence.run.fingerprint, fresh.fingerprint)
    if unlike:
        raise IncomparableError(
            f"this machine did not measure the run: {unlike[0]}", "confirm where the run was measured"
        )
    again = Evidence(fresh, evidence.baseline, evidence.across)
    second = _judge([_again(row, again) for row in rows], policy, final=True)
    return [_with_confirmation(one.result) for one in second]


def _again(row: Row, evidence: Evidence) -> Row:
    """The same row of the confirming run."""
    rule = replace(row.rule, workloads=row.workload, environment=row.arm.name)
    try:
        found = rows_of(rule, evidence)[0]
    except UsageError:
        found = []
    same = (one for one in found if one.workload == row.workload and one.arm.name == row.arm.name)
    lost = replace(row, verdict=GateVerdict.INCONCLUSIVE, reason="it could not be measured again")
    return next(same, lost)


def _with_confirmation(result: RuleResult) -> RuleResult:
    confirmed = result.verdict == GateVerdict.FAIL
    said = "confirmed on fresh boots" if confirmed else "failed first, and not again on fresh boots"
    reason = f"{said}; {result.reason}" if result.reason else said
    return msgspec.structs.replace(result, confirmed=confirmed, reason=reason)


def _too_few_boots(rows: Sequence[Row], alpha: float) -> list[str]:
    """The one thing to know before anything else: whether the boots can fail a row at all."""
    tested = [row for row in rows if row.verdict is None and not row.missing and row.others is None]
    if not tested:
        return []
    fewest = min(tested, key=lambda row: len(row.values))
    boots, needed = len(fewest.values), ceil(log2(len(tested) / (alpha * fewest.share)))
    if boots >= needed:
        return []
    plural = "row" if len(tested) == 1 else "rows"
    return [
        f"{boots} boots cannot reach alpha = {alpha:g} over {len(tested)} {plural}: {needed} are needed "
        "before any row of so few can fail"
    ]


def _report(results: Sequence[RuleResult], policy: Policy, warnings: tuple[str, ...]) -> GateReport:
    counted = [policy.inconclusive if r.verdict == GateVerdict.INCONCLUSIVE else r.verdict for r in results]
    verdict = next(one for one in _WORST_FIRST if one in counted)
    return GateReport(verdict=verdict, rules=tuple(results), reason=_summary(results, verdict), warnings=warnings)


def _summary(results: Sequence[RuleResult], verdict: GateVerdict) -> str:
    counts = {one: sum(result.verdict == one for result in results) for one in _WORST_FIRST}
    said = ", ".join(f"{count} {one.value}" for one, count in counts.items() if count)
    policy = "" if counts[verdict] else f"; by policy the gate's verdict is {verdict.value}"
    return f"{len(results)} {'row' if len(results) == 1 else 'rows'}: {said}{policy}"
