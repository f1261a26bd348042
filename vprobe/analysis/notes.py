"""What a reader must know before believing a run's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median

from vprobe.analysis import numbers
from vprobe.analysis.floor import Floor
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Run

CLOCK_LIMIT = 0.01
"""Share by which a clock may be off before the arm's times are worth nothing. Clocks of one machine agree within 0.001."""

EXCLUDED_LIMIT = 0.1
"""Share of visits that may be excluded before the exclusion itself is news."""


def notes(run: Run, floors: Mapping[str, Floor]) -> tuple[str, ...]:
    """One sentence for each."""
    return (*_control(run, floors), *_exclusions(run), *_clocks(run), *_looks(run))


def _control(run: Run, floors: Mapping[str, Floor]) -> Iterator[str]:
    if any(arm.environment == BASE for arm in run.arms) and not floors:
        yield f"{CONTROL} was not measured: what the machine alone can pretend is not known, and taken as nothing"


def _clocks(run: Run) -> Iterator[str]:
    """An arm whose clock runs at another rate than the controller's: all its times are wrong by as much."""
    rates: dict[str, list[float]] = {}
    for visit in run.visits:
        for arm, rate in visit.noise.clocks.items():
            rates.setdefault(arm, []).append(rate)
    for arm, found in rates.items():
        off = median(found) - 1  # of many visits: a single one is a few scheduler's delays long
        if abs(off) > CLOCK_LIMIT:
            way = "fast" if off > 0 else "slow"
            yield f"the clock inside {arm} is {numbers.share(off)} {way}, and so are its times: believe none of its rows"


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
