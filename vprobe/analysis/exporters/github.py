"""A gate's verdict inside GitHub Actions: annotations of the worst rows, and a summary of the step.

GitHub shows 10 errors and 10 warnings of a step, and takes 1 MiB of summary (docs.github.com, "Workflow commands").
"""

from __future__ import annotations

from collections.abc import Iterator

from vprobe.analysis.exporters.escape import github_data, github_property, markdown
from vprobe.analysis.exporters.gate_text import interval_text, judged_text, limit_text, value_text, worst_first
from vprobe.model import GateReport, GateVerdict, RuleResult

MAXIMUM_ANNOTATIONS = 10
MAXIMUM_SUMMARY_BYTES = 1 << 20
_LEVELS = {GateVerdict.FAIL: "error", GateVerdict.INCOMPARABLE: "error", GateVerdict.INCONCLUSIVE: "warning"}
_SIGNS = {
    GateVerdict.PASS: "✅",
    GateVerdict.FAIL: "❌",
    GateVerdict.INCONCLUSIVE: "❔",
    GateVerdict.INCOMPARABLE: "🚫",
}


def annotation_lines(report: GateReport) -> list[str]:
    """Workflow commands, worst first. Where rows are left out, the last one of its level says how many."""
    lines = []
    for level in ("error", "warning"):
        rows = [row for row in worst_first(report.rules) if _LEVELS.get(row.verdict) == level]
        room = MAXIMUM_ANNOTATIONS if len(rows) <= MAXIMUM_ANNOTATIONS else MAXIMUM_ANNOTATIONS - 1
        lines += [_annotation(level, row) for row in rows[:room]]
        if len(rows) > room:
            lines.append(f"::{level} title=vprobe gate::{len(rows) - room} more rows; the summary of the step has them")
    return lines


def _annotation(level: str, row: RuleResult) -> str:
    title = github_property(f"{row.workload} @ {row.arm}: {row.verdict.value}")
    said = github_data(f"{row.rule}: {judged_text(row)}", 600)
    return f"::{level} title={title}::{said}"


def step_summary(report: GateReport, room_bytes: int = MAXIMUM_SUMMARY_BYTES) -> str:
    """Markdown of the whole verdict, worst first, never more than `room_bytes` long: the best rows are left out."""
    head = "\n".join(_head(report)) + "\n"
    left_out = "\n{} more rows are left out: the summary would be larger than GitHub takes.\n"
    room = room_bytes - len(head.encode()) - len(left_out) - 20
    rows, lines = worst_first(report.rules), []
    for row in rows:
        line = _row(row)
        room -= len(line.encode())
        if room < 0:
            break
        lines.append(line)
    more = left_out.format(len(rows) - len(lines)) if len(lines) < len(rows) else ""
    return head + "".join(lines) + more


def _head(report: GateReport) -> Iterator[str]:
    yield f"### {_SIGNS[report.verdict]} vprobe gate: {report.verdict.value}\n"
    yield f"{markdown(report.reason, 600)}\n"
    yield from (f"- **warning:** {markdown(warning, 600)}" for warning in report.warnings[:20])
    yield "\n| | workload | arm | value | 95 % interval | limit | rule | |"
    yield "| --- | --- | --- | ---: | --- | --- | --- | --- |"


def _row(row: RuleResult) -> str:
    cells = [
        f"{_SIGNS[row.verdict]} {row.verdict.value}",
        markdown(row.workload),
        markdown(row.arm),
        markdown(value_text(row)),
        interval_text(row),
        limit_text(row),
        markdown(row.rule),
        markdown(row.reason, 600),
    ]
    return f"| {' | '.join(cells)} |\n"
