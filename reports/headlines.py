"""The one sentence that matters about a run."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vprobe.analysis.estimate import minimum_boots
from vprobe.model import Comparison

from . import findings, quantities
from .texts import Texts
from .view import ArmView, Role, View

SLOWER_NAMED = 2
"""Workloads that a headline names."""
_SETTING_UP = frozenset(
    f"exits.{name}" for name in ("create_vm", "create_vcpu", "first_instruction", "memory_slot", "destroy")
)
QUIET_NAMED = 3
"""Suites that a headline names."""


def headline(view: View, costs: Sequence[findings.Cost], texts: Texts) -> Markup:
    """About the user's own variants, else the heaviest boundary; where nothing was compared, what was measured or why not."""
    if not view.workloads or not view.run.visits:
        return texts("verdict.nothing")
    if not costs:
        return _without_ratios(view, texts)
    if view.boots < minimum_boots():
        return texts.count("verdict.few", view.boots, least=minimum_boots())
    return sentence(costs[0], texts)


def sentence(one: findings.Cost, texts: Texts) -> Markup:
    """What an arm costs, and of a variant also what it saves."""
    slow = texts.joined([_slow(row, texts) for row in one.slower[:SLOWER_NAMED]])
    fast = texts.joined([_fast(row, texts) for row in one.faster[:SLOWER_NAMED]]) if one.arm.variant else Markup("")
    if fast:
        return texts("verdict.both" if slow else "verdict.saves", arm=one.arm.name, slow=slow, fast=fast)
    if slow and one.quiet_suites:
        return texts("verdict.mixed", arm=one.arm.name, quiet=_suites(one.quiet_suites, texts), slow=slow)
    if slow:
        return texts("verdict.slow", arm=one.arm.name, slow=slow)
    if one.quiet_suites and one.open_suites:
        quiet, rest = _suites(one.quiet_suites, texts), _suites(one.open_suites, texts)
        return texts("verdict.partly", arm=one.arm.name, quiet=quiet, rest=rest)
    return texts.count("verdict.open" if one.open_suites else "verdict.quiet", one.compared, arm=one.arm.name)


def _suites(suites: Sequence[str], texts: Texts) -> Markup:
    return texts.joined([findings.suite_words(suite, texts) for suite in suites[:QUIET_NAMED]])


def _slow(row: Comparison, texts: Texts) -> Markup:
    return texts("cost.for", cost=findings.cost_words(row.ratio or 1, texts), workload=_workload(row, texts))


def _fast(row: Comparison, texts: Texts) -> Markup:
    percent = texts("cost.percent", percent=quantities.percent(1 - (row.ratio or 1)))
    return texts("cost.for", cost=percent, workload=_workload(row, texts))


def _workload(row: Comparison, texts: Texts) -> Markup:
    return findings.workload_words(row.workload, texts)


def _without_ratios(view: View, texts: Texts) -> Markup:
    """Of exits what they cost; of an arm that could run nothing, why; else that there is nothing to compare with."""
    exits = _exits(view, texts)
    if exits:
        low, high = exits[0], exits[-1]
        return texts.count(
            "verdict.exits", len(exits), arm=low[1], low=low[2], high=high[2], first=low[0], last=high[0]
        )
    idle = [arm for arm in view.arms if arm.role is Role.MEASURED and not any(key == arm.key for _, key in view.series)]
    if idle:
        reason = next((reason for (_, key), reason in view.skipped.items() if key == idle[0].key), "")
        return texts(
            "verdict.idle",
            arm=idle[0].name,
            count=len(view.workloads),
            reason=texts.said(reason) if reason else texts("unknown"),
        )
    names = [texts("plain", text=arm.name) for arm in view.arms if arm.role is not Role.NOISE and _ran(view, arm)]
    return texts.count("verdict.alone", len(view.workloads), arms=texts.joined(names))


def _ran(view: View, arm: ArmView) -> bool:
    return any(key == arm.key for _, key in view.series)


def _exits(view: View, texts: Texts) -> list[tuple[Markup, str, str]]:
    """(operation, arm, time) of every exit, the cheapest first; not of what sets up a virtual machine or takes it down."""
    known = sorted(
        (series.center, workload.key, arm, workload.unit)
        for workload in view.workloads
        for (name, arm), series in view.series.items()
        if name == workload.key and workload.suite == "exits" and name not in _SETTING_UP and series.center
    )
    return [
        (texts("workload_name", name=name), arm, quantities.quantity(value, unit)) for value, name, arm, unit in known
    ]
