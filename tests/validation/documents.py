"""Tables of docs/ that are made from what was measured: replaced whole, between two markers.

`python tests/validation/documents.py --oracles oracles.json` puts what `make oracles` measured into docs/oracles.md, and with
`--study RUN` a run of the preset felter goes into docs/suites.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vprobe.reports.study import ROWS, study_text

from vprobe import oracles, runfile
from vprobe.analysis import numbers
from vprobe.analysis.comparison import compare
from vprobe.analysis.exporters import layout
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Comparison, Comparisons, Run
from vprobe.oracles import Agreement, OracleReport

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- {name}: begin -->", "<!-- {name}: end -->"
ANSWERS = {True: "yes", False: "**no**", None: "not measured"}
DASH = "—"


def put(document: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of that name. ValueError where the document lacks one."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    head, rest = document.read_text().split(begin)
    _, tail = rest.split(end)
    document.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}")


def bound(share: float) -> str:
    """3 %, factor 2."""
    return "factor 2" if share == 1.0 else f"{share * 100:.0f} %"


def line(row: Agreement) -> str:
    """A row of the table."""
    found = medians = DASH
    if row.ratio is not None and row.low is not None and row.high is not None:
        found = f"{row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}]"
    if row.ours is not None and row.theirs is not None:
        medians = ", ".join(numbers.quantity(value, row.unit) for value in (row.ours, row.theirs))
    cells = (row.workload, row.oracle, bound(row.bound), found, ANSWERS[row.agrees], medians, str(row.pairs))
    return f"| {' | '.join(cells)} |"


def agreements(report: OracleReport) -> Iterator[str]:
    """The table of oracles."""
    counted = Counter(row.agrees for row in report.rows)
    yield (
        f"{report.created}, {report.cpu}, Linux {report.kernel}: {counted[True]} rows agree, {counted[False]} do not"
        + (f", {counted[None]} were not measured." if counted[None] else ".")
    )
    yield ""
    yield "| workload | against | bound | ours / theirs | agrees | medians | pairs |"
    yield "| --- | --- | --- | --- | --- | --- | ---: |"
    yield from map(line, report.rows)
    yield ""
    yield from (f"- {row.workload}, {row.oracle}: {row.reason}" for row in report.rows if row.reason)


def cell(row: Comparison | None) -> str:
    """A workload in an arm: its ratio to bare's, or where bare has none what an operation takes."""
    if row is None:
        return DASH
    if row.ratio is not None:
        return " ".join(filter(None, (numbers.ratio(row.ratio), layout.interval(row))))
    return DASH if row.estimate is None else numbers.quantity(row.estimate, row.unit)


def mechanisms(run: Run, comparisons: Comparisons) -> Iterator[str]:
    """The workloads of the preset that explain the study's, arm by arm."""
    shown = {workload for _, _, workload in ROWS}
    arms = [arm.name for arm in run.arms if arm.environment not in (BASE, CONTROL)]
    found = {(row.workload, row.arm): row for row in comparisons.comparisons if row.workload not in shown}
    yield f"| mechanism | {' | '.join(arms)} |"
    yield f"| --- |{' --- |' * len(arms)}"
    for workload in dict.fromkeys(workload for workload, _ in found):
        yield f"| `{workload}` | {' | '.join(cell(found.get((workload, arm))) for arm in arms)} |"


def study(run: Run) -> Iterator[str]:
    """The study's table, how it was measured, and the mechanisms."""
    comparisons = compare(run)
    boots = len({visit.boot for visit in run.visits})
    yield f"{run.created}: {boots} boots of {', '.join(arm.name for arm in run.arms)}.\n"
    yield study_text(run, comparisons)
    yield from mechanisms(run, comparisons)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracles", type=Path, metavar="FILE")
    parser.add_argument("--study", type=Path, metavar="RUN")
    options = parser.parse_args()
    if options.oracles:
        put(DOCS / "oracles.md", "oracles", "\n".join(agreements(oracles.load(options.oracles))))
    if options.study:
        put(DOCS / "suites.md", "study", "\n".join(study(runfile.load(options.study))))


if __name__ == "__main__":
    main()
