"""The table of Felter et al. (ISPASS 2015) with this machine's ratios beside the study's: the preset felter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vprobe.analysis import numbers
from vprobe.analysis.exporters import layout
from vprobe.analysis.exporters.escape import markdown
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Arm, Comparison, Comparisons, Run, VirtClass

from . import products

DASH = "—"
NOT_MEASURED = "was not measured in this run"
ROWS = (
    # what the study ran, its key in reference_results.json, what stands for it here
    ("pxz compression", "pxz compression", "cpu.xz"),
    ("Linpack", "Linpack", "cpu.dgemm[avx2]"),
    ("Linpack, without AVX", None, "cpu.dgemm[sse2]"),
    ("STREAM copy", "STREAM copy", "memory.copy"),
    ("STREAM scale", "STREAM scale", "memory.scale"),
    ("STREAM add", "STREAM add", "memory.add"),
    ("STREAM triad", "STREAM triad", "memory.triad"),
    ("RandomAccess", "RandomAccess", "memory.random_access"),
    ("network bulk transfer, out", "network bulk", "network.send"),
    ("network bulk transfer, in", "network bulk", "network.receive"),
    ("network round trip", "network round trip", "network.round_trip"),
    ("block I/O, sequential read", "block sequential", "storage.sequential_read[1MiB]"),
    ("block I/O, sequential write", "block sequential", "storage.sequential_write[1MiB]"),
    ("block I/O, random read", "block random", "storage.random_read[4KiB]"),
    ("block I/O, random write", "block random", "storage.random_write[4KiB]"),
    ("Redis GET", None, "applications.redis[get]"),
    ("Redis SET", None, "applications.redis[set]"),
    ("MySQL (here SQLite)", "MySQL", "applications.sqlite"),
)
STUDY_COLUMNS = {"docker": VirtClass.OS_LEVEL, "kvm_untuned": VirtClass.FULL_HARDWARE}


@dataclass(frozen=True)
class Cell:
    """One workload in one arm here: its comparison with bare, or else the reason why there is none."""

    found: Comparison | None
    reason: str


@dataclass(frozen=True)
class Row:
    """A line of the table: the study's ratios by its own columns, and ours by arm."""

    study: str
    workload: str
    published: tuple[float | None, ...]
    note: str
    ours: tuple[Cell, ...]


@dataclass(frozen=True)
class Study:
    """The table."""

    source: str
    arms: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """What the study says in words where it gives no figures, each once: what it ran, and the words."""
        notes = {row.note: row.study for row in reversed(self.rows) if row.note}
        return tuple((study, note) for note, study in reversed(notes.items()))

    @property
    def gaps(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Why cells are empty, each reason of an arm once: arm, reason, workloads."""
        gaps: dict[tuple[str, str], dict[str, None]] = {}
        for row in self.rows:
            for arm, cell in zip(self.arms, row.ours, strict=True):
                if cell.found is None:
                    gaps.setdefault((arm, cell.reason), {})[row.workload] = None
        return tuple((arm, reason, tuple(workloads)) for (arm, reason), workloads in gaps.items())


def study(run: Run, comparisons: Comparisons) -> Study:
    """The study's table for a run. Ratios above 1 are slower than bare, in the study's columns as in ours."""
    reference = products.reference_results()
    published = {row["workload"]: row for row in reference["felter"]}
    arms = tuple(arm for arm in run.arms if arm.environment not in (BASE, CONTROL))
    found = {(row.workload, row.arm): row for row in comparisons.comparisons}
    rows = []
    for label, key, workload in ROWS:
        one = published.get(key or "", {})
        ours = tuple(_cell(run, found.get((workload, arm.name)), arm, workload) for arm in arms)
        ratios = tuple(_published(one, column) for column in STUDY_COLUMNS)
        rows.append(Row(label, workload, ratios, str(one.get("note", "")), ours))
    return Study(reference["_sources"]["felter"], tuple(arm.name for arm in arms), tuple(rows))


def _published(row: Mapping[str, Any], column: str) -> float | None:
    native, value = row.get("native"), row.get(column)
    if not native or not value:
        return None
    return float(native / value if row.get("better") == "higher" else value / native)


def _cell(run: Run, row: Comparison | None, arm: Arm, workload: str) -> Cell:
    if row is not None and row.ratio is not None:
        return Cell(row, "")
    reasons = [skip.reason for skip in run.skipped if skip.workload == workload and skip.arm == arm.name]
    base = [skip.reason for skip in run.skipped if skip.workload == workload and skip.arm == BASE]
    return Cell(None, (reasons or base or [NOT_MEASURED])[0])


def study_text(run: Run, comparisons: Comparisons) -> str:
    """The table as Markdown, which is readable on a terminal, too."""
    return "\n".join(_lines(study(run, comparisons))) + "\n"


def _lines(table: Study) -> Iterator[str]:
    yield f"Beside {markdown(table.source, 400)}. Ratios to native and to bare; above 1 is slower.\n"
    yield f"| the study | its Docker | its KVM | here | {' | '.join(map(markdown, table.arms))} |"
    yield f"| --- | ---: | ---: | --- |{' --- |' * len(table.arms)}"
    for row in table.rows:
        published = (DASH if value is None else numbers.ratio(value) for value in row.published)
        cells = (markdown(row.study), *published, f"`{row.workload}`", *map(_text, row.ours))
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from (f"- the study on {study}: {markdown(note, 300)}" for study, note in table.notes)
    for arm, reason, workloads in table.gaps:
        names = ", ".join(f"`{workload}`" for workload in workloads)
        yield f"- {DASH} {markdown(f'{arm}: {reason}', 400)}: {names}"


def _text(cell: Cell) -> str:
    row = cell.found
    if row is None or row.ratio is None:
        return DASH
    glyph = layout.GLYPHS[row.verdict] if row.verdict else ""
    return " ".join(filter(None, (numbers.ratio(row.ratio), layout.interval(row), glyph)))
