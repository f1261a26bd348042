"""The noise floor: what two arms that are the same pretend to differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1, log1p

import numpy as np

from vprobe.analysis import numbers
from vprobe.analysis.bases import base_arm, is_control
from vprobe.analysis.estimate import Estimate, estimate
from vprobe.analysis.holm import holm
from vprobe.analysis.series import Samplings
from vprobe.measure.plan import BASE
from vprobe.model import Run

ALPHA = 0.01
"""Chance of calling a control failed that holds. What a control that holds differs by widens the limits in any case; at 0.05
one run of a single workload in twenty would be silenced, and as many true failures missed, and no fewer false ones made."""
MATERIAL = 0.005
"""Share below which a difference of the control is no failure, however sure it is: it widens the limits, as chance does.

Many boots on a quiet machine make any bias significant, also one of 0.02 % in the layout of memory. Silencing a workload
for it would leave a change of 10 % unseen, and the more often the longer one measures.
"""


@dataclass(frozen=True)
class Floor:
    """bare-aa against bare, of one workload.

    `rejected`: they differ by more than chance over all workloads, and by enough to matter.
    """

    estimate: Estimate
    rejected: bool = False

    @property
    def size(self) -> float:
        """ln of the ratio that the machine pretends: limits are widened by it."""
        return abs(self.estimate.centre)

    @property
    def reason(self) -> str:
        """Why nothing can be said of the workload; "" where the control holds."""
        if not self.rejected:
            return ""
        share = numbers.share(expm1(min(self.size, 700.0)))
        return f"the control failed: bare-aa, which is bare again, differs from it by {share}"


NO_FLOOR = Floor(Estimate(0.0, 0.0, 0.0, 1.0, 0))
"""Of a workload without a control."""


def noise_floor(run: Run, samplings: Samplings) -> dict[str, Floor]:
    """Floor of each workload that bare-aa and bare both have. Holm over the workloads decides what is rejected."""
    found: dict[str, Estimate] = {}
    for arm in filter(is_control, run.arms):
        base = base_arm(run, arm, BASE)
        for workload in run.workloads if base else ():
            series = samplings.ratio(workload.name, arm.name, base.name) if base else None
            if series and np.isfinite(series.values).all():
                found[workload.name] = estimate(series.values)
    return judged(found)


def judged(estimates: Mapping[str, Estimate]) -> dict[str, Floor]:
    """Holm over the workloads."""
    adjusted = holm([one.p for one in estimates.values()])
    return {
        name: Floor(one, p <= ALPHA and abs(one.centre) > log1p(MATERIAL))
        for (name, one), p in zip(estimates.items(), adjusted, strict=True)
    }
