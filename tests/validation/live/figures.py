"""The figures of docs/statistics.md that come from sessions on a real machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from validation.figures import Figure
from validation.figures import write as write_figures

from vprobe.measure.plan import CONTROL

from . import peers
from .speed import ARM_MS

Row = dict[str, Any]
FAIL = "fail"
RIVALS = {peers.BLOCKS: [tool for tool in peers.TOOLS if tool != peers.BLOCKS], peers.COMMAND_RUNS: [peers.HYPERFINE]}
"""vprobe's ways, and whom each must not fall behind: hyperfine where the interpreter's start is part of what is measured."""


def share(found: Sequence[bool]) -> str:
    """12 of 12."""
    return f"{sum(found)} of {len(found)}"


def alarms(rows: Sequence[Row]) -> Figure:
    """A/A: sessions in which anything fails."""
    failed = [row["verdict"] == FAIL for row in rows]
    seconds = statistics.median(row["seconds"] for row in rows)
    single = sum(len(row["low_above_1"]) for row in rows)
    misses = [f"{sum(failed)} of {len(failed)} real sessions fail"] if sum(failed) > len(rows) / 6 else []
    return Figure(
        "False alarms in real sessions",
        "Quick sessions, of up to 40 rounds a visit, of two equal variants over twenty workloads on a shared two-CPU virtual "
        "machine, gated at "
        "`*@bare<=0% vs base`. At most 5 of 30 may fail. Beside it the single rows whose 95 % interval lies wholly above 1, of "
        "which chance alone makes one in forty.",
        ["sessions", "of them failed", "rows above 1", "seconds each"],
        [[str(len(rows)), str(sum(failed)), f"{single} of {20 * len(rows)}", f"{seconds:.0f}"]],
        misses,
    )


def power(preset: str, rows: Sequence[Row], required: Sequence[tuple[str, int]], among: Sequence[str]) -> Figure:
    """Detection by effect and boots. `required`: (effect, boots) that must be found in 95 % for the workloads `among`."""
    effects = list(rows[0]["found"])
    counts = list(rows[0]["found"][effects[0]])
    workloads = list(rows[0]["found"][effects[0]][counts[0]])
    lines, misses = [], []
    for workload in workloads:
        spent_s = statistics.median(row["own_s"][workload] for row in rows)
        for count in counts:
            cells = []
            for effect in effects:
                found = [row["found"][effect][count][workload] == FAIL for row in rows]
                cells.append(share(found))
                if (effect, int(count)) in required and workload in among and sum(found) < 0.95 * len(found):
                    misses.append(f"{preset}: {workload} + {effect} %: {share(found)} after {count} boots")
            own_s = f"{spent_s * int(count) / int(counts[-1]):.1f}"
            lines.append([f"`{workload}`", count, own_s, *cells])
    return Figure(
        f"Power in real sessions, {preset}",
        f"Sessions in which the gate at 0 % fails a head that does so much more work, judged as if the run had ended after so "
        f"many boots; {len(rows)} sessions. The seconds are those of the blocks of base, control and one head.",
        ["workload", "boots", "seconds in blocks", *(f"+{effect} %" for effect in effects)],
        lines,
        misses,
    )


def against(rows: Sequence[Row]) -> Figure:
    """The peers: false alarms and what was found. Missed where one that judges the same has fewer of either than vprobe."""
    lines = []
    wrong: dict[str, tuple[float, float]] = {}
    for tool in dict.fromkeys(row["tool"] for row in rows):
        mine = [row for row in rows if row["tool"] == tool]
        equal, slower = ([row["slower"] for row in mine if (row["factor"] > 1) == changed] for changed in (False, True))
        seconds = statistics.median(row["seconds"] for row in mine)
        lines.append([tool, share(equal), share(slower), f"{seconds:.1f}"])
        if equal and slower:  # not yet, in the first repetition
            wrong[tool] = statistics.fmean(equal), 1 - statistics.fmean(slower)
    misses = [
        f"{tool} has fewer {what} than {ours}"
        for ours, others in RIVALS.items()
        for tool in others
        if {ours, tool} <= wrong.keys()
        for place, what in enumerate(("false alarms", "misses"))
        if wrong[tool][place] < wrong[ours][place]
    ]
    return Figure(
        "Against other tools",
        "The same Python loop, base against head, each tool in turn, all pinned to one CPU: how often head is called slower "
        "when it does the same work (false alarms), and when it does 5 % more. vprobe is gated at 0 %.",
        ["tool", "false alarms", "5 % found", "seconds a verdict"],
        lines,
        misses,
    )


def speed(rows: Sequence[Row]) -> Figure:
    """The engine's own cost."""
    ours, plain = (statistics.median(row[key] for row in rows) for key in ("agent_us", "pipe_us"))
    overhead, run_s = (statistics.median(row["overhead"][key] for row in rows) for key in ("share", "run_s"))
    misses = [f"a round trip takes {ours:.0f} us"] if ours >= 60 else []
    misses += [f"{overhead:.0%} of a run is not spent in blocks"] if overhead > 0.25 else []
    return Figure(
        "What the engine costs",
        "Median round trip to an agent on bare, beside that over a plain pipe between two Python processes, in turn and all on "
        f"one CPU (must be below 60 us); what the visits of a default run of {len(rows[0]['overhead']['arms'])} arms "
        f"({', '.join(rows[0]['overhead']['arms'])}) do not spend in blocks, warm-ups counted as blocks (at most 25 %); and "
        "what such a run takes: 20 boots, of which the first calibrates and two more are measured.",
        ["round trip to an agent", "over a plain pipe", "not in blocks", "a default run"],
        [[f"{ours:.1f} us", f"{plain:.1f} us", f"{overhead:.0%}", f"{run_s / 60:.1f} min"]],
        misses,
    )


def cells_of(rows: Sequence[Row], key: str) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of a table of deviations: those of one length, or of one number of rounds, stand below each other."""
    columns: list[str] = []
    lines = []
    for workload in dict.fromkeys(name for row in rows for name in row[key]):
        for row in rows:
            for arm, cells in row[key].get(workload, {}).items():
                columns = columns or list(cells)
                name = f"{arm}, beside {row['environments'][0]}" if arm == CONTROL else arm
                lines.append([f"`{workload}`", name, *(f"{100 * cell:.2f} %" for cell in cells.values())])
    return columns, lines


def sweep(rows: Sequence[Row]) -> Iterator[Figure]:
    """Noise between boots by length of block, and by number of rounds."""
    columns, lines = cells_of(rows, "sigma")
    yield Figure(
        "The length of a block",
        "Standard deviation between boots of ln(arm / bare) by the length of a block in ms, the blocks of an arm adding up to "
        f"{ARM_MS:g} ms in each boot whatever their length (two blocks of 20 ms). "
        "An arm with a slow channel has longer blocks: at least five round trips.",
        ["workload", "arm", *columns],
        lines,
    )
    columns, lines = cells_of(rows, "rounds")
    yield Figure(
        "The number of rounds",
        "The same deviation by the number of rounds, of blocks of half a millisecond.",
        ["workload", "arm", *columns],
        lines,
    )


def figures(rows: dict[str, list[Row]]) -> Iterator[Figure]:
    """Those for which anything was measured."""
    if rows["aa"]:
        yield alarms(rows["aa"])
    kernels_and_python = ("cpu.integer_chain", "validation.loop")
    if rows["power-quick"]:
        yield power("quick", rows["power-quick"], [("5", 9)], kernels_and_python)
    if rows["power-default"]:
        yield power("default", rows["power-default"], [("2", 20)], kernels_and_python)
    if rows["commands"]:
        yield power("commands", rows["commands"], [("5", 9)], ("command.run",))
    if rows["peers"]:
        yield against(rows["peers"])


def engine_figures(rows: dict[str, list[Row]]) -> Iterator[Figure]:
    """Those of the engine itself."""
    if rows["speed"]:
        yield speed(rows["speed"])
    if rows["sweep"]:
        yield from sweep(rows["sweep"])


def show(rows: dict[str, list[Row]], *, write: bool) -> int:
    """Print the figures, and put them into the document; 1 where one misses. Of what was not measured the old ones stay."""
    sections = {"live figures": list(figures(rows)), "engine figures": list(engine_figures(rows))}
    found = [figure for section in sections.values() for figure in section]
    for figure in found:
        print(figure.markdown())
    for name, section in sections.items():
        if write and section:
            write_figures(name, section)
    misses = [miss for figure in found for miss in figure.misses]
    for miss in misses:
        print(f"MISSED: {miss}")
    return 1 if misses else 0
