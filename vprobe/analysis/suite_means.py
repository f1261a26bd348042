"""One number for a suite: the geometric mean of its workloads' ratios, with an interval over whole boots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vprobe.analysis.bases import base_arm, is_control
from vprobe.analysis.estimate import estimate, share_at
from vprobe.analysis.exact import Floats
from vprobe.analysis.series import Samplings
from vprobe.model import Arm, Run, SuiteMean


def suite_means(run: Run, samplings: Samplings, base: str) -> tuple[SuiteMean, ...]:
    """Of every suite and arm with at least two workloads that have a base."""
    suites = dict.fromkeys(workload.name.partition(".")[0] for workload in run.workloads)
    found = []
    for suite in suites:
        names = [workload.name for workload in run.workloads if workload.name.partition(".")[0] == suite]
        for arm in run.arms:
            other = base_arm(run, arm, base)
            if other is not None and not is_control(arm):
                mean = _mean(suite, names, arm, other, samplings)
                found += [mean] if mean else []
    return tuple(found)


def _mean(suite: str, names: list[str], arm: Arm, base: Arm, samplings: Samplings) -> SuiteMean | None:
    columns = {}
    for name in names:
        series = samplings.ratio(name, arm.name, base.name)
        if len(series) and np.isfinite(series.values).all():
            columns[name] = dict(zip(samplings.boots(name, arm.name, base.name), series.values.tolist(), strict=True))
    if len(columns) < 2:
        return None
    share = 1.0
    if samplings.looks:  # later boots hold only the workloads that were still open, which are not the suite
        together = set.intersection(*(set(column) for column in columns.values()))
        columns = {name: {boot: column[boot] for boot in together} for name, column in columns.items()}
        share = share_at(samplings.looks, len(together))
        if not together:
            return None
    one = estimate(mean_by_boot(columns), share)
    return SuiteMean(
        suite=suite,
        environment=arm.environment,
        arm=arm.name,
        base=base.name,
        ratio=float(np.exp(one.centre)),
        low=float(np.exp(one.low)) if one.conclusive else None,
        high=float(np.exp(one.high)) if one.conclusive else None,
        boots=one.boots,
        workloads=len(columns),
    )


def mean_by_boot(columns: Mapping[str, Mapping[int, float]]) -> Floats:
    """Mean ln(ratio) of the workloads in each boot.

    `columns`: workload to boot to ln(ratio). What disturbs a boot disturbs all its workloads, which is why the boot stays
    whole. A workload that lacks a boot takes part there with its own mean, so that its absence does not move the boot.
    """
    boots = sorted({boot for column in columns.values() for boot in column})
    means = {name: float(np.mean(list(column.values()))) for name, column in columns.items()}
    rows = [[column.get(boot, means[name]) for name, column in columns.items()] for boot in boots]
    return np.asarray(np.mean(np.array(rows, dtype=np.float64), axis=1), dtype=np.float64)
