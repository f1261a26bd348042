"""A comparison as Markdown, for merge requests and job summaries."""

from __future__ import annotations

from collections.abc import Iterator

from vprobe.analysis import numbers
from vprobe.analysis.exporters import layout
from vprobe.analysis.exporters.escape import markdown
from vprobe.model import Comparison, Comparisons, Run, SuiteMean, Verdict


def markdown_text(comparisons: Comparisons, run: Run) -> str:
    """The whole comparison: one table of ratios by arm, one of what has no base, and the words around them."""
    return "\n".join(_lines(comparisons, run)) + "\n"


def _lines(comparisons: Comparisons, run: Run) -> Iterator[str]:
    for difference in comparisons.differences:
        yield f"> **The runs differ:** {markdown(difference)}\n"
    if layout.with_base(comparisons):
        yield f"{markdown(f'{layout.explanation(comparisons)} {layout.host(run)}'.rstrip(), 1000)}\n"
        yield from _ratios(comparisons)
        yield f"\n{layout.LEGEND}\n"
    if layout.without_base(comparisons):
        yield f"{layout.ESTIMATES}\n"
        yield "| workload | arm | estimate | 95 % interval | boots |\n| --- | --- | ---: | ---: | ---: |"
        yield from map(_estimate, layout.without_base(comparisons))
        yield ""
    if comparisons.noise_floor:
        yield f"{markdown(layout.floor_sentence(comparisons), 1000)}\n"
    yield from (f"- no verdict: {markdown(reason, 600)}" for reason in layout.reasons(comparisons))
    yield from (f"- not measured: {markdown(skip, 600)}" for skip in layout.skips(run))
    yield from (f"- **warning:** {markdown(warning, 600)}" for warning in comparisons.warnings)


def _ratios(comparisons: Comparisons) -> Iterator[str]:
    arms = layout.arms(layout.with_base(comparisons))
    yield f"| workload | {' | '.join(map(markdown, arms))} |"
    yield f"| --- |{' --- |' * len(arms)}"
    for group in layout.groups(comparisons):
        for workload in group.workloads:
            cells = (_cell(group.cells.get((workload, arm))) for arm in arms)
            yield f"| {markdown(workload)} | {' | '.join(cells)} |"
        if group.means:
            cells = (_mean(group.means.get(arm)) for arm in arms)
            yield f"| *{markdown(group.suite)}: geometric mean* | {' | '.join(cells)} |"


def _cell(row: Comparison | None) -> str:
    if row is None or row.ratio is None:
        return "" if row is None else layout.GLYPHS[Verdict.INCONCLUSIVE]
    verdict = row.verdict or Verdict.INCONCLUSIVE
    weight = "**" if verdict in (Verdict.SLOWER, Verdict.FASTER) else ""
    return f"{weight}{numbers.ratio(row.ratio)}{weight} {layout.interval(row)} {layout.GLYPHS[verdict]}"


def _mean(mean: SuiteMean | None) -> str:
    return f"{numbers.ratio(mean.ratio)} {layout.interval(mean)}" if mean else ""


def _estimate(row: Comparison) -> str:
    value = row.estimate or 0.0
    spread = ""
    if row.low is not None and row.high is not None:
        spread = numbers.quantity_interval(row.low, row.high, value, row.unit)
    shown = markdown(numbers.quantity(value, row.unit))
    return f"| {markdown(row.workload)} | {markdown(row.arm)} | {shown} | {spread} | {row.boots} |"
