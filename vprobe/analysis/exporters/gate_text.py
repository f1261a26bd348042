"""A gate's verdict on a terminal: one screen, what matters first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vprobe.analysis import numbers
from vprobe.analysis.exporters.escape import printable
from vprobe.model import GateReport, GateVerdict, RuleResult

STYLES = {
    GateVerdict.PASS: "green",
    GateVerdict.FAIL: "bold red",
    GateVerdict.INCONCLUSIVE: "yellow",
    GateVerdict.INCOMPARABLE: "magenta",
}
WORST_FIRST = (GateVerdict.FAIL, GateVerdict.INCOMPARABLE, GateVerdict.INCONCLUSIVE, GateVerdict.PASS)
SHOWN_ROWS = 24
SHOWN_REASONS = 8
NAME_CHARACTERS = 44


def worst_first(results: Sequence[RuleResult]) -> list[RuleResult]:
    """Failures before what is not known before what passes; within each, the largest excess over the limit first."""
    return sorted(results, key=lambda result: (WORST_FIRST.index(result.verdict), -excess(result)))


def excess(result: RuleResult) -> float:
    """How many times the limit the estimate is; 0 where either is not known."""
    value = result.estimate if result.ratio is None else result.ratio
    return value / result.limit if value is not None and result.limit else 0.0


def value_text(result: RuleResult) -> str:
    """The ratio or the estimate."""
    if result.ratio is not None:
        return numbers.ratio(result.ratio)
    return "—" if result.estimate is None else numbers.quantity(result.estimate, result.unit)


def interval_text(result: RuleResult) -> str:
    """The interval, "" for none."""
    if result.low is None or result.high is None:
        return ""
    if result.ratio is not None:
        return f"[{numbers.ratio(result.low)}, {numbers.ratio(result.high)}]"
    return numbers.quantity_interval(result.low, result.high, result.estimate or result.high, result.unit)


def limit_text(result: RuleResult) -> str:
    """The limit as it was judged, "" where it was not."""
    if result.limit is None:
        return ""
    if result.ratio is not None:
        return f"≤ {numbers.ratio(result.limit)}"
    return f"≤ {numbers.quantity(result.limit, result.unit)}"


def p_text(result: RuleResult) -> str:
    """The adjusted p: 0.059, <0.001, "" for none."""
    if result.p_adjusted is None:
        return ""
    return "<0.001" if result.p_adjusted < 0.001 else f"{result.p_adjusted:.3f}"


def judged_text(result: RuleResult) -> str:
    """Everything about a row but its name: 1.057 [1.048, 1.063] ≤ 1.020 (p <0.001): beyond the limit."""
    p = p_text(result)
    parts = (value_text(result), interval_text(result), limit_text(result), f"(p {p})" if p else "")
    return f"{' '.join(part for part in parts if part)}: {result.reason or result.verdict.value}"


def print_gate(report: GateReport, console: Console) -> None:
    """Print the verdict, the warnings, and the rows that one screen holds."""
    console.print(Group(*_parts(report)), highlight=False)


def _parts(report: GateReport) -> Iterator[RenderableType]:
    for warning in report.warnings:
        yield Text.assemble(("warning: ", "yellow"), printable(warning, 600))
    rows = worst_first(report.rules)
    yield from _tables(rows[:SHOWN_ROWS])
    if len(rows) > SHOWN_ROWS:
        rest = rows[SHOWN_ROWS:]
        counts = {one: sum(row.verdict == one for row in rest) for one in WORST_FIRST}
        said = ", ".join(f"{count} {one.value}" for one, count in counts.items() if count)
        yield Text(f"… and {len(rest)} more rows: {said} (--json has all)", style="dim")
    yield from _reasons(rows)
    yield Text.assemble((report.verdict.value.upper(), STYLES[report.verdict]), "  ", printable(report.reason, 600))


def _tables(rows: Sequence[RuleResult]) -> Iterator[RenderableType]:
    """One table a rule, in the order of their worst rows."""
    for rule in dict.fromkeys(row.rule for row in rows):
        yield Text(printable(rule, 200), style="bold")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for name in ("verdict", "workload and arm", "value", "interval", "limit", "p"):
            table.add_column(name, no_wrap=True, justify="right" if name == "value" else "left")
        for row in rows:
            if row.rule == rule:
                table.add_row(*_cells(row))
        yield table


def _cells(row: RuleResult) -> list[Text]:
    p = p_text(row)
    return [
        Text(f"  {row.verdict.value}", STYLES[row.verdict]),
        Text(printable(f"{row.workload} @ {row.arm}", NAME_CHARACTERS)),
        Text(value_text(row)),
        Text(interval_text(row)),
        Text(limit_text(row)),
        Text(f"p {p}" if p else "", "dim"),
    ]


def _reasons(rows: Sequence[RuleResult]) -> Iterator[Text]:
    """Why rows do not pass, equal reasons together; that a failed row is beyond its limit is plain to see."""
    found: dict[tuple[GateVerdict, str], list[str]] = {}
    for row in rows:
        plain = row.verdict in (GateVerdict.PASS, GateVerdict.FAIL) and row.confirmed is None
        if row.reason and not plain:
            found.setdefault((row.verdict, row.reason), []).append(f"{row.workload} @ {row.arm}")
    for (verdict, reason), names in list(found.items())[:SHOWN_REASONS]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        told = printable(f"{names[0]}{more}: {reason}", 600)
        yield Text.assemble((f"{verdict.value}: ", STYLES[verdict]), told)
