"""One run, indexed the way that the sections look at it. Derived from the run and its comparisons, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vprobe.model import Arm, Comparison, Comparisons, EnvironmentRecord, Run, VirtClass, Visit, WorkloadRecord

from .printable import printable

Floats = NDArray[np.float64]
NAME_CHARACTERS = 60
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
NOISE_ENVIRONMENT = "bare-aa"


class Role(StrEnum):
    """What an arm is there for."""

    BASE = "base"  # what others are compared with
    NOISE = "noise"  # the base a second time
    MEASURED = "measured"


@dataclass(frozen=True)
class ArmView:
    """An arm with what the report says of it. `index` is its place in the run and part of the page's anchors."""

    index: int
    key: str
    environment: str
    variant: str | None
    virt_class: VirtClass | None
    role: Role

    @property
    def name(self) -> str:
        """The name, bounded, as it is shown."""
        return printable(self.key, NAME_CHARACTERS)


@dataclass(frozen=True)
class WorkloadView:
    """A workload with its suite. `index` is its place in the run and part of the page's anchors."""

    index: int
    key: str
    unit: str
    better: str
    kind: str

    @property
    def name(self) -> str:
        """The name, bounded, as it is shown."""
        return printable(self.key, NAME_CHARACTERS)

    @property
    def suite(self) -> str:
        """What stands before the dot; a user's own workload without one is its own suite's."""
        head, dot, _ = self.key.partition(".")
        return printable(head, 24) if dot else ""


@dataclass(frozen=True)
class Series:
    """All samples of an arm on a workload in run order, and the boot (0, 1, …) that each belongs to."""

    values: Floats
    boots: NDArray[np.intp]

    @cached_property
    def by_boot(self) -> tuple[Floats, ...]:
        """The samples of each boot."""
        edges = np.flatnonzero(np.diff(self.boots)) + 1
        return tuple(np.split(self.values, edges)) if len(self.values) else ()

    @cached_property
    def boot_medians(self) -> Floats:
        """The median of each boot, in order."""
        boots = len(self.by_boot)
        if boots and all(len(values) * boots == len(self.values) for values in self.by_boot):
            return np.asarray(np.median(self.values.reshape(boots, -1), axis=1))
        return np.array([float(np.median(values)) for values in self.by_boot])

    @cached_property
    def quantiles(self) -> Mapping[float, float]:
        """The percentiles in QUANTILES of all samples."""
        return dict(zip(QUANTILES, np.percentile(self.values, QUANTILES).tolist(), strict=True))

    @cached_property
    def center(self) -> float | None:
        """The median over boots of the boots' medians, in the workload's unit."""
        return float(np.median(self.boot_medians)) if len(self.values) else None


@dataclass(frozen=True)
class View:
    """A run as the sections see it. `index` tells the runs of one report apart in anchors."""

    index: int
    label: str
    run: Run
    comparisons: Comparisons

    @cached_property
    def rows(self) -> Mapping[tuple[str, str], Comparison]:
        """(workload, arm) to comparison."""
        return {(row.workload, row.arm): row for row in self.comparisons.comparisons}

    @cached_property
    def bases(self) -> frozenset[str]:
        """Arms that others are compared with."""
        named = {row.base for row in self.comparisons.comparisons if row.base is not None}
        return frozenset(arm.name for arm in self.run.arms if arm.name in named) or frozenset(
            arm.name for arm in self.run.arms if arm.environment == "bare"
        )

    @cached_property
    def _compared(self) -> frozenset[str]:
        return frozenset(row.arm for row in self.comparisons.comparisons if row.ratio is not None)

    @cached_property
    def environments(self) -> Mapping[str, EnvironmentRecord]:
        """The environments of the run by name."""
        return {record.name: record for record in self.run.environments}

    @cached_property
    def arms(self) -> tuple[ArmView, ...]:
        """Every arm, in the order of the run."""
        return tuple(self._arm(index, arm) for index, arm in enumerate(self.run.arms))

    def _arm(self, index: int, arm: Arm) -> ArmView:
        record = self.environments.get(arm.environment)
        role = Role.MEASURED
        if arm.environment == NOISE_ENVIRONMENT:
            role = Role.NOISE
        elif arm.name in self.bases and arm.name not in self._compared:
            role = Role.BASE
        return ArmView(
            index, arm.name, arm.environment, arm.variant, None if record is None else record.virt_class, role
        )

    @cached_property
    def measured_arms(self) -> tuple[ArmView, ...]:
        """The arms that are neither base nor noise control."""
        return tuple(arm for arm in self.arms if arm.role is Role.MEASURED)

    @cached_property
    def workloads(self) -> tuple[WorkloadView, ...]:
        """Every workload, in the order of the run."""
        return tuple(self._workload(index, record) for index, record in enumerate(self.run.workloads))

    @staticmethod
    def _workload(index: int, record: WorkloadRecord) -> WorkloadView:
        return WorkloadView(index, record.name, record.unit, record.better, record.kind)

    @cached_property
    def suites(self) -> tuple[tuple[str, tuple[WorkloadView, ...]], ...]:
        """The workloads by suite, suites in order of first appearance."""
        found: dict[str, list[WorkloadView]] = {}
        for workload in self.workloads:
            found.setdefault(workload.suite, []).append(workload)
        return tuple((suite, tuple(members)) for suite, members in found.items())

    @cached_property
    def skipped(self) -> Mapping[tuple[str, str], str]:
        """(workload, arm) to the reason why it was not measured."""
        return {(entry.workload, entry.arm): entry.reason for entry in self.run.skipped}

    @cached_property
    def _visits(self) -> Mapping[str, tuple[Visit, ...]]:
        found: dict[str, list[Visit]] = {}
        for visit in self.run.visits:
            if visit.excluded is None:
                found.setdefault(visit.workload, []).append(visit)
        return {workload: tuple(sorted(visits, key=lambda visit: visit.boot)) for workload, visits in found.items()}

    def visits_of(self, workload: str) -> tuple[Visit, ...]:
        """The visits of a workload in the order of boots, without the excluded ones."""
        return self._visits.get(workload, ())

    @cached_property
    def series(self) -> Mapping[tuple[str, str], Series]:
        """(workload, arm) to its samples; excluded visits are left out."""
        parts: dict[tuple[str, str], list[tuple[int, Floats]]] = {}
        for workload in self._visits:
            for visit in self.visits_of(workload):
                for arm, samples in visit.samples.items():
                    if samples.values:
                        values = np.asarray(samples.values, dtype=np.float64)
                        parts.setdefault((workload, arm), []).append((visit.boot, values))
        return {key: _series(found) for key, found in parts.items()}

    @cached_property
    def boots(self) -> int:
        """How many boots the run has."""
        return len({visit.boot for visit in self.run.visits})

    def ratios(self, arm: ArmView) -> Iterable[Comparison]:
        """The comparisons of an arm that have a ratio, in the order of the workloads."""
        for workload in self.workloads:
            row = self.rows.get((workload.key, arm.key))
            if row is not None and row.ratio is not None:
                yield row


def _series(parts: list[tuple[int, Floats]]) -> Series:
    return Series(
        np.concatenate([values for _, values in parts]),
        np.concatenate([np.full(len(values), boot, dtype=np.intp) for boot, values in parts]),
    )
