"""Single charts as SVG files of their own: for a page, a talk or a pull request. They show the first run of a report."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from vprobe.errors import UsageError

from .page import asset, environment
from .report import Report
from .sections import detail, exits, forest, heatmap, lifecycle

WIDTH = 880
HEAD = 60
_LEGEND = (
    ("s3", "▲", "heatmap.slower_scale"),
    ("f3", "▼", "heatmap.faster_scale"),
    ("e", "=", "heatmap.same"),
    ("q", "?", "heatmap.inconclusive"),
    ("k", "", "heatmap.not_measured"),
)


def forest_svg(report: Report) -> str:
    """Every ratio with its interval."""
    plot = forest.forest(report.first, report.gate, report.texts)
    _check(plot.suites, "no workload has a ratio")
    rows = [(len(suite.groups), sum(len(group.marks) for group in suite.groups)) for suite in plot.suites]
    return _chart("forest", report, HEAD + sum(52 + 24 * groups + 20 * marks for groups, marks in rows), s=plot)


def heatmap_svg(report: Report) -> str:
    """Workload by arm."""
    table = heatmap.table(report.first, report.texts)
    _check(table.groups, "no workload has a ratio")
    height = HEAD + 110 + sum(30 + 36 * len(rows) for _, rows in table.groups)
    legend = [(tone, f"{glyph} {report.texts(key)}".strip()) for tone, glyph, key in _LEGEND]
    width = max(WIDTH, 278 + 118 * len(table.columns))
    return _chart("heatmap", report, height, width, s=table, legend=legend)


def lifecycle_svg(report: Report) -> str:
    """The start of every arm, phase by phase."""
    found = lifecycle.lifecycle(report.first, report.texts)
    _check(found.groups, "lifecycle was not measured")
    height = HEAD + sum(34 + 26 * len(group.starts) for group in found.groups) + 22 * (len(found.legend) // 5 + 1)
    return _chart("lifecycle", report, height, s=found)


def exits_svg(report: Report) -> str:
    """What every exit costs."""
    found = exits.exits(report.first, report.texts)
    _check(found.rows, "exits were not measured")
    return _chart("exits", report, HEAD + 30 + 26 * len(found.rows), s=found)


def strips_svg(report: Report) -> str:
    """Distribution and samples in run order of every arm, workload by workload."""
    found = detail.context(report)
    workloads = [one for one in found.runs[0].details if one.groups]
    _check(workloads, "no workload has samples")
    arms = [(len(one.groups), sum(len(group.strips) for group in one.groups)) for one in workloads]
    height = HEAD + sum(40 + 22 * groups + 52 * strips for groups, strips in arms)
    return _chart("strips", report, height, s=workloads, grids=found.grids)


def _check(found: object, why: str) -> None:
    if not found:
        raise UsageError(f"there is nothing for this chart: {why}", "choose another --chart, or other runs or --select")


def _chart(name: str, report: Report, height: int, width: int = WIDTH, **values: object) -> str:
    title = report.texts("chart.title", chart=report.texts(f"chart.{name}"), label=report.first.label)
    css = asset("tokens.css") + Markup("\n") + asset("chart.css")
    template = environment().get_template(f"{name}.svg")
    return template.render(t=report.texts, title=title, width=width, height=height, css=css, **values)


CHARTS: dict[str, Callable[[Report], str]] = {
    "forest": forest_svg,
    "heatmap": heatmap_svg,
    "lifecycle": lifecycle_svg,
    "exits": exits_svg,
    "strips": strips_svg,
}
