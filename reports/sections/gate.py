"""The rules of a gate, row by row, what failed first."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vprobe.model import GateVerdict, RuleResult

from .. import quantities
from ..report import Report, Section
from ..texts import Texts
from .verdict import GLYPHS

_ORDER = (GateVerdict.FAIL, GateVerdict.INCOMPARABLE, GateVerdict.INCONCLUSIVE, GateVerdict.PASS)


@dataclass(frozen=True)
class Row:
    """One rule on one workload and arm. `href`: its detail, "" where the run does not have it."""

    rule: str
    workload: str
    arm: str
    href: str
    verdict: str
    glyph: str
    word: Markup
    ratio: str
    interval: str
    p: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What gate.html shows: what did not pass, and what did."""

    open: tuple[Row, ...]
    passed: tuple[Row, ...]
    reason: str


def context(report: Report) -> Context | None:
    """None for a report without a gate."""
    if report.gate is None:
        return None
    anchors = {
        (workload.key, arm.key): f"#w0-{workload.index}-{arm.index}"
        for workload in report.first.workloads
        for arm in report.first.arms
        if (workload.key, arm.key) in report.first.series
    }
    rows = sorted(report.gate.rules, key=lambda row: _ORDER.index(row.verdict))
    shown = [_row(row, anchors.get((row.workload, row.arm), ""), report.texts) for row in rows]
    return Context(
        tuple(row for row in shown if row.verdict != GateVerdict.PASS),
        tuple(row for row in shown if row.verdict == GateVerdict.PASS),
        report.gate.reason,
    )


def _row(row: RuleResult, href: str, texts: Texts) -> Row:
    return Row(
        rule=row.rule,
        workload=row.workload,
        arm=row.arm,
        href=href,
        verdict=row.verdict.value,
        glyph=GLYPHS[row.verdict],
        word=texts(f"gate.{row.verdict}"),
        ratio=quantities.DASH if row.ratio is None else quantities.ratio(row.ratio) + "×",
        interval=quantities.ratio_range(row.low, row.high),
        p=quantities.p_value(row.p_adjusted),
        reason=row.reason,
    )


SECTION = Section("gate", "gate.html", context)
