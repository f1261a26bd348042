"""From a run's rounds to one number a boot, which is the unit of analysis.

Rounds of one boot share what the boot drew (page placement, process layout, host load), so they are not independent: they
are condensed into one median, or percentile, per boot before anything is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vprobe.analysis.estimate import share_at
from vprobe.analysis.exact import Floats
from vprobe.errors import UsageError
from vprobe.model import Run, Samples, Visit

MAXIMUM_BOOTS = 2_000
DECIMALS = 12
"""Logarithms are rounded to these: far below any clock, and equal ratios of unequal values become equal."""


@dataclass(frozen=True)
class Series:
    """One value a boot, in boot order. `rounds`: of all boots together. `share`: of alpha, see share_at()."""

    values: Floats
    rounds: int
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.values)


class Samplings:
    """The visits of a run that count, by workload, and the series that can be drawn from them."""

    def __init__(self, run: Run) -> None:
        self._higher = {workload.name for workload in run.workloads if workload.better == "higher"}
        self._visits: dict[str, list[Visit]] = {}
        self.looks = run.looks
        self._measured = Counter(visit.workload for visit in run.visits)  # a boot has one visit of a workload at most
        self._cache: dict[tuple[int, str, str], Floats] = {}
        self._ratios: dict[tuple[str, str, str], Series] = {}
        for visit in sorted(run.visits, key=lambda visit: visit.boot):
            if visit.excluded is None and visit.rows:
                self._visits.setdefault(visit.workload, []).append(visit)
        longest = max(map(len, self._visits.values()), default=0)
        if longest > MAXIMUM_BOOTS:
            raise UsageError(
                f"the run has {longest} boots of one workload, and {MAXIMUM_BOOTS} is the most that is analysed"
            )

    def arms(self, workload: str) -> frozenset[str]:
        """Arms that have samples of a workload in at least one boot."""
        return frozenset(arm for visit in self._visits.get(workload, ()) for arm in visit.samples)

    def share(self, workload: str) -> float:
        """Of alpha, that may be spent on a workload."""
        return share_at(self.looks, self._measured[workload])

    def boots(self, workload: str, *arms: str) -> tuple[int, ...]:
        """Numbers of the boots in which all these arms have samples of a workload."""
        return tuple(visit.boot for visit in self._with(workload, *arms))

    def ratio(self, workload: str, arm: str, base: str, percentile: float | None = None) -> Series:
        """ln(how many times slower `arm` is than `base`), one value a boot.

        The median over the rounds of the ratio of the two blocks of a round; or the ratio of the two percentiles of the
        boot's rounds. Not finite where a value is 0.
        """
        if percentile is not None:
            return self._ratio(
                workload, arm, base, lambda mine, theirs: _rows(mine, percentile) - _rows(theirs, percentile)
            )
        key = (workload, arm, base)
        if key not in self._ratios:
            self._ratios[key] = self._ratio(
                workload, arm, base, lambda mine, theirs: np.asarray(np.median(mine - theirs, axis=1))
            )
        return self._ratios[key]

    def _ratio(self, workload: str, arm: str, base: str, condense: Callable[[Floats, Floats], Floats]) -> Series:
        visits = list(self._with(workload, arm, base))
        pairs = ([self._slowness(visit, one) for visit in visits] for one in (arm, base))
        with np.errstate(invalid="ignore"):  # two zeros make a NaN, which is meant
            values = _by_boot(condense, *pairs)
        return Series(_rounded(values), sum(len(visit.rows) for visit in visits), self.share(workload))

    def level(self, workload: str, arm: str, percentile: float | None = None) -> Series:
        """Median or percentile of the rounds of each boot, in the workload's unit.

        The percentile counts from the good end: of a bandwidth, p95 is what 95 % of the rounds reach.
        """
        visits = list(self._with(workload, arm))
        q = 50.0 if percentile is None else percentile
        q = 100.0 - q if workload in self._higher else q
        samples = [np.array(visit.samples[arm].values, dtype=np.float64) for visit in visits]
        values = _by_boot(lambda rows: _rows(rows, q), samples)
        return Series(values, sum(len(visit.rows) for visit in visits), self.share(workload))

    def canary_level(self, workload: str, arm: str, percentile: float | None = None) -> Series:
        """ln(slowness in units of the canary around the visit), one value a boot, for comparing two sessions.

        Boots whose canary is not known are left out.
        """
        values, rounds = [], 0
        for visit in self._with(workload, arm):
            around = [c for c in (visit.noise.canary_before, visit.noise.canary_after) if c is not None and c > 0]
            if around:
                slowness = _percentile(self._slowness(visit, arm), 50.0 if percentile is None else percentile)
                values.append(slowness - float(np.mean(np.log(around))))
                rounds += len(visit.rows)
        return Series(_rounded(np.array(values, dtype=np.float64)), rounds, self.share(workload))

    def _with(self, workload: str, *arms: str) -> Iterator[Visit]:
        return (visit for visit in self._visits.get(workload, ()) if all(arm in visit.samples for arm in arms))

    def _slowness(self, visit: Visit, arm: str) -> Floats:
        """ln of each round's value, negated where more is better."""
        key = (visit.boot, visit.workload, arm)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = _log(visit.samples[arm], negate=visit.workload in self._higher)
        return found


def _log(samples: Samples, *, negate: bool) -> Floats:
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf, and the estimate says so
        logarithms = np.log(np.array(samples.values, dtype=np.float64))
    return -logarithms if negate else logarithms


def _by_boot(condense: Callable[..., Floats], *columns: Sequence[Floats]) -> Floats:
    """One value a boot; `columns` hold an array of rounds for each boot, `condense` takes them as matrices, a boot a row.

    Boots of equally many rounds, which is nearly always all of them, are condensed in one call: with a hundred rounds a
    call of numpy costs more than its arithmetic, and a run has ten thousands of boots by arms.
    """
    if not columns[0]:
        return np.zeros(0)
    if len({len(rows) for rows in columns[0]}) == 1:
        return condense(*(np.stack(rows) for rows in columns))
    each = [condense(*(rows[np.newaxis] for rows in boot)) for boot in zip(*columns, strict=True)]
    return np.concatenate(each)


def _rows(matrix: Floats, percentile: float) -> Floats:
    """A percentile of each row."""
    return np.asarray(np.percentile(matrix, percentile, axis=1), dtype=np.float64)


def _rounded(logarithms: Floats) -> Floats:
    return np.asarray(np.round(logarithms, DECIMALS), dtype=np.float64)


def _percentile(slowness: Floats, percentile: float) -> float:
    return float(np.percentile(slowness, percentile))
