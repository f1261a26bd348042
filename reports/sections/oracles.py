"""Agreement with oracles: the workloads against programs that vprobe did not write, where that was measured."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vprobe.oracles import Agreement

from .. import quantities, scales
from ..embedded import packed
from ..report import Report, Section
from ..texts import Texts
from ..ticks import Tick, ratio_ticks

_STATES = {
    True: ("present", "✓", "oracles.agrees"),
    False: ("disabled", "✕", "oracles.disagrees"),
    None: ("absent", "–", "oracles.unmeasured"),
}
"""Whether a row agrees, to the tone, the glyph and the word for it."""


@dataclass(frozen=True)
class Row:
    """One workload against one oracle: places of the bound, the interval and the ratio on the axis, and all in numbers."""

    workload: str
    oracle: str
    state: str
    glyph: str
    word: Markup
    bound: tuple[int, int]
    interval: tuple[int, int] | None
    point: int
    ratio: str
    range: str
    limit: str
    ours: str
    theirs: str
    pairs: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What oracles.html shows."""

    summary: Markup
    machine: str
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    one: int
    data: Markup


def context(report: Report) -> Context | None:
    """None for a report without a table of oracles."""
    found = report.oracles
    if found is None:
        return None
    texts = report.texts
    ends = [value for row in found.rows for value in (row.low, row.high, 1 + row.bound, 1 / (1 + row.bound)) if value]
    axis = scales.ratio_axis(ends)
    agree = [row.agrees for row in found.rows]
    summary = texts("oracles.summary", agree=agree.count(True), measured=len(agree) - agree.count(None))
    return Context(
        summary=summary,
        machine=f"{found.cpu}, Linux {found.kernel}, {found.created.partition('T')[0]}, vprobe {found.vprobe_version}",
        rows=tuple(_row(row, axis, texts) for row in found.rows),
        ticks=ratio_ticks(axis),
        one=axis.at(1.0),
        data=Markup(packed(found)),
    )


def _row(row: Agreement, axis: scales.Axis, texts: Texts) -> Row:
    state, glyph, word = _STATES[row.agrees]
    factor = row.bound >= 1
    return Row(
        workload=row.workload,
        oracle=row.oracle,
        state=state,
        glyph=glyph,
        word=texts(word),
        bound=(axis.at(1 / (1 + row.bound)), axis.at(1 + row.bound)),
        interval=None if row.low is None or row.high is None else (axis.at(row.low), axis.at(row.high)),
        point=axis.at(row.ratio or 1.0),
        ratio=quantities.DASH if row.ratio is None else quantities.ratio(row.ratio) + "×",
        range=quantities.ratio_range(row.low, row.high),
        limit=f"{1 + row.bound:g}×" if factor else "±" + quantities.percent(row.bound),
        ours=quantities.quantity(row.ours, row.unit),
        theirs=quantities.quantity(row.theirs, row.unit),
        pairs=f"{row.pairs:,}" if row.pairs else quantities.DASH,
        reason=row.reason,
    )


SECTION = Section("oracles", "oracles.html", context)
