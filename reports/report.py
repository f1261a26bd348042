"""What a report is made from, and what each section is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec

from vprobe.analysis import compare
from vprobe.measure.plan import BASE
from vprobe.model import Comparisons, GateReport, Run
from vprobe.oracles import OracleReport

from .texts import Texts
from .view import View


@dataclass(frozen=True)
class Measured:
    """A run with what the analysis says of it. `label` is what the reader knows it by: its file name."""

    label: str
    run: Run
    comparisons: Comparisons

    @classmethod
    def of(cls, label: str, run: Run) -> Measured:
        """The run compared within itself. Without the base there is nothing to compare, but still a run to show."""
        has_base = any(arm.environment == BASE or arm.variant is not None for arm in run.arms)
        return cls(label, run, compare(run) if has_base else Comparisons({}, ()))

    def only(self, wanted: Callable[[str], bool]) -> Measured:
        """The same, judged as before, but showing only the workloads whose names are wanted."""
        names = {workload.name for workload in self.run.workloads if wanted(workload.name)}
        replace = msgspec.structs.replace
        run = replace(
            self.run,
            workloads=tuple(one for one in self.run.workloads if one.name in names),
            visits=tuple(one for one in self.run.visits if one.workload in names),
            skipped=tuple(one for one in self.run.skipped if one.workload in names),
        )
        rows = tuple(row for row in self.comparisons.comparisons if row.workload in names)
        return Measured(self.label, run, replace(self.comparisons, comparisons=rows))


@dataclass(frozen=True)
class Report:
    """Everything that a report shows. `across[i]` compares run i + 1 with the first.

    `data_bytes`: how much compressed data the page may carry.
    """

    measured: tuple[Measured, ...]
    texts: Texts
    gate: GateReport | None = None
    across: tuple[Comparisons, ...] = ()
    oracles: OracleReport | None = None
    data_bytes: int = 1_000_000

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The runs, indexed."""
        return tuple(View(index, one.label, one.run, one.comparisons) for index, one in enumerate(self.measured))

    @property
    def first(self) -> View:
        """The run that a report of one run is about, and that others are compared with."""
        return self.views[0]


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, its template, and the function that prepares what the template shows.

    `context` returns None where there is nothing to show. The heading's text is `<key>.title`.
    """

    key: str
    template: str
    context: Callable[[Report], object | None]
