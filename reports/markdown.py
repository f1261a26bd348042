"""A report as Markdown, for a pull request: the verdict in a sentence, the gate, and the tables of the analysis."""

from __future__ import annotations

from collections.abc import Iterator

from vprobe.analysis.exporters.escape import markdown as escape
from vprobe.analysis.exporters.markdown import markdown_text
from vprobe.model import GateVerdict

from . import findings, headlines
from .printable import NARROW_SPACE
from .report import Report
from .sections import verdict


def markdown(report: Report) -> str:
    """The report of every run, one after the other."""
    return "\n".join(_lines(report))


def literal(text: str) -> str:
    """Text without any meaning to Markdown."""
    return escape(text.replace(NARROW_SPACE, " "), 2000)


def _lines(report: Report) -> Iterator[str]:
    texts = report.texts
    for view in report.views:
        if len(report.views) > 1:
            yield f"## {literal(view.label)}\n"
        if report.gate is not None and view.index == 0:
            yield from _gate(report)
        yield f"**{literal(headlines.headline(view, findings.costs(view), texts).striptags())}**\n"
        yield f"{literal(verdict.floor_words(view, texts).striptags())}\n"
        yield f"<details><summary>{texts('heatmap.title')}</summary>\n"
        yield markdown_text(view.comparisons, view.run)
        yield "</details>\n"
        facts = "; ".join(f"{name}: {value}" for name, value in verdict.facts(view, texts))
        yield f"{literal(facts)}\n"
        yield f"{literal(verdict.shell_words(view.run.command))}\n"
    for across, view in zip(report.across, report.views[1:], strict=True):
        yield f"## {literal(str(texts('runs.pair', other=view.label, first=report.first.label).unescape()))}\n"
        yield markdown_text(across, view.run)


def _gate(report: Report) -> Iterator[str]:
    gate = report.gate
    assert gate is not None
    badge = verdict.badge(gate, report.texts)
    yield f"### {badge.glyph} {badge.word}: {literal(badge.summary.striptags())}\n"
    failed = [row for row in gate.rules if row.verdict is not GateVerdict.PASS]
    yield from (
        f"- {verdict.GLYPHS[row.verdict]} {literal(row.rule)}: {literal(row.workload)} @ {literal(row.arm)} {literal(row.reason)}"
        for row in failed[:50]
    )
    yield ""
