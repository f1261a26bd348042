"""What a reader must know before believing a run's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from vprobe.analysis.floor import Floor
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Run

EXCLUDED_LIMIT = 0.1
"""Share of visits that may be excluded before the exclusion itself is news."""


def notes(run: Run, floors: Mapping[str, Floor]) -> tuple[str, ...]:
    """One sentence for each."""
    return (*_control(run, floors), *_exclusions(run), *_looks(run))


def _control(run: Run, floors: Mapping[str, Floor]) -> Iterator[str]:
    if any(arm.environment == BASE for arm in run.arms) and not floors:
        yield f"{CONTROL} was not measured: what the machine alone can pretend is not known, and taken as nothing"


def _looks(run: Run) -> Iterator[str]:
    if run.looks:
        after = " and ".join(filter(None, (", ".join(map(str, run.looks[:-1])), str(run.looks[-1]))))
        yield (
            f"the number of boots was adaptive: after {after} boots a workload went on if it was open; intervals are "
            "wider to allow for that"
        )


def _exclusions(run: Run) -> Iterator[str]:
    reasons = Counter(visit.excluded for visit in run.visits if visit.excluded is not None)
    excluded = sum(reasons.values())
    if excluded:
        more = ", more than 10 %" if excluded > EXCLUDED_LIMIT * len(run.visits) else ""
        common = reasons.most_common(1)[0][0]
        yield f"{excluded} of {len(run.visits)} visits are excluded{more}; the most common reason: {common}"
