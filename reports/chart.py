"""A single chart as an SVG file of its own: for a page, a talk or a pull request."""

from __future__ import annotations

from collections.abc import Callable

from .page import asset, environment
from .report import Report
from .sections import forest

ROW, GROUP, SUITE, HEAD = 20, 24, 52, 60


def forest_svg(report: Report) -> str:
    """The forest plot of the first run."""
    plot = forest.forest(report.first, report.gate, report.texts)
    height = HEAD + sum(
        SUITE + sum(GROUP + ROW * len(group.marks) for group in suite.groups) for suite in plot.suites
    )  # fmt: skip
    return (
        environment()
        .get_template("forest.svg")
        .render(t=report.texts, forest=plot, height=height, row=ROW, group=GROUP, suite=SUITE, css=asset("chart.css"))
    )


CHARTS: dict[str, Callable[[Report], str]] = {"forest": forest_svg}
