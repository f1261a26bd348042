"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vprobe.analysis import numbers
from vprobe.analysis.exporters import layout
from vprobe.analysis.exporters.escape import printable
from vprobe.model import Comparison, Comparisons, Run, SuiteMean, Verdict

LEVELS = (1.02, 1.05, 1.1, 1.25, 2.0)
"""Ratios from which on a cell takes the next shade: those of the report."""
SHADES = {
    Verdict.SLOWER: (
        "#f2b07c",
        "black on #fce6d2",
        "black on #f9d2af",
        "black on #f2b07c",
        "white on #b8541a",
        "white on #7f3208",
    ),
    Verdict.FASTER: (
        "#8fc0e2",
        "black on #d9e9f6",
        "black on #bddaef",
        "black on #8fc0e2",
        "white on #2a6ca6",
        "white on #0f4576",
    ),
}
STYLES = {
    Verdict.SAME: "",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INCOMPARABLE: "magenta",
}
NAME_CHARACTERS = 30
MEAN = "geometric mean"
COMPACT_CHARACTERS = 17
FULL_CHARACTERS = 24


def print_table(comparisons: Comparisons, run: Run, console: Console) -> None:
    """Print everything that a comparison of `run` says, to fit the console's width."""
    console.print(Group(*_parts(comparisons, run, console.width)), highlight=False)


def _parts(comparisons: Comparisons, run: Run, width: int) -> Iterator[RenderableType]:
    for difference in comparisons.differences:
        yield _line("the runs differ", difference, "magenta")
    if layout.with_base(comparisons):
        yield from _ratio_tables(comparisons, run, width)
    if layout.without_base(comparisons):
        lead = "\n" if layout.with_base(comparisons) else ""
        yield Text(f"{lead}{layout.ESTIMATES}")
        yield _estimates(layout.without_base(comparisons), layout.ticks_per_ns(run))
    if not comparisons.comparisons:
        yield Text("Nothing to compare: no arm has samples of a workload that its base has, too.")
    if comparisons.noise_floor:
        yield Text("\n" + printable(layout.floor_sentence(comparisons), 1000))
    for reason in layout.reasons(comparisons):
        yield _line("no verdict", reason, "yellow")
    for skip in layout.skips(run):
        yield _line("not measured", skip, "dim")
    for warning in comparisons.warnings:
        yield _line("warning", warning, "yellow")


def _line(label: str, text: str, style: str) -> RenderableType:
    return Text.assemble((f"{label}: ", style), printable(text, 600))


def _ratio_tables(comparisons: Comparisons, run: Run, width: int) -> Iterator[RenderableType]:
    """One table where all arms fit beside each other, else several; full intervals where these fit."""
    arms = layout.arms(layout.with_base(comparisons))
    names = [len(row.workload) - row.workload.find(".") + 2 for row in layout.with_base(comparisons)]
    room = max(width - min(max([*names, len(MEAN) + 3]), NAME_CHARACTERS), COMPACT_CHARACTERS)
    compact = len(arms) * FULL_CHARACTERS > room
    each = max(1, room // (COMPACT_CHARACTERS if compact else FULL_CHARACTERS))
    yield Text(printable(f"{layout.explanation(comparisons, compact=compact)} {layout.host(run)}".rstrip(), 1000))
    yield Text(layout.LEGEND, style="dim")
    for start in range(0, len(arms), each):
        yield _ratios(layout.groups(comparisons), arms[start : start + each], compact)


def _ratios(groups: Sequence[layout.Group], arms: Sequence[str], compact: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True, max_width=NAME_CHARACTERS)
    for arm in arms:
        table.add_column(Text(printable(arm, 40)), no_wrap=True)
    for group in groups:
        table.add_row(Text(printable(group.suite), style="bold"))
        for workload in group.workloads:
            cells = [_cell(group.cells.get((workload, arm)), compact) for arm in arms]
            table.add_row(Text("  " + _short(printable(workload.partition(".")[2] or workload))), *cells)
        if group.means:
            table.add_row(Text(f"  {MEAN}", style="dim"), *(_mean(group.means.get(arm), compact) for arm in arms))
    return table


def _short(name: str) -> str:
    """The end of a name that is too long: in the benchmarks of one file it is the end that tells them apart."""
    room = NAME_CHARACTERS - 2
    return name if len(name) <= room else "…" + name[1 - room :]


def _cell(row: Comparison | None, compact: bool) -> Text:
    if row is None:
        return Text("·", style="dim")
    verdict = row.verdict or Verdict.INCONCLUSIVE
    return Text(f"{_numbers(row, compact)} {layout.GLYPHS[verdict]}", style=_style(row.ratio, verdict))


def _style(ratio: float | None, verdict: Verdict) -> str:
    """The shade of a cell: the farther from the base, the heavier; glyph and text say the same without colour."""
    if verdict not in SHADES:
        return STYLES[verdict]
    size = max(ratio, 1 / ratio) if ratio and ratio > 0 else 1.0
    return SHADES[verdict][sum(size >= level for level in LEVELS)]


def _mean(mean: SuiteMean | None, compact: bool) -> Text:
    return Text(_numbers(mean, compact) if mean else "·", style="dim")


def _numbers(row: Comparison | SuiteMean, compact: bool) -> str:
    if row.ratio is None:
        return "—"
    spread = layout.half_width(row) if compact else layout.interval(row)
    return f"{numbers.ratio(row.ratio)} {spread}".rstrip()


def _estimates(rows: Sequence[Comparison], ticks_per_ns: float | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("workload", "arm"):
        table.add_column(name, no_wrap=True, max_width=NAME_CHARACTERS)
    cycles = ("TSC cycles",) if ticks_per_ns else ()
    for name in ("estimate", *cycles, "95 % interval", "boots"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        value = row.estimate or 0.0
        spread = (
            "—"
            if row.low is None or row.high is None
            else numbers.quantity_interval(row.low, row.high, value, row.unit)
        )
        names = [Text(printable(row.workload)), Text(printable(row.arm))]
        counted = [f"{value * ticks_per_ns:,.0f}" if row.unit == "ns" else ""] if ticks_per_ns else []
        estimate = Text(numbers.quantity(value, printable(row.unit, 20)))
        table.add_row(*names, estimate, *counted, spread, str(row.boots))
    return table
