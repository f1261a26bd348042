"""Pairs of measurements, ours and theirs, interleaved; and what they say together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from oracles.bench import Bench
from vprobe.analysis.signed_rank import hodges_lehmann, interval
from vprobe.oracles import Agreement

CONFIDENCE = 0.9
FEWEST = 15

Figure = Callable[[], float]


@dataclass(frozen=True)
class Pair:
    """One pair, in the unit of the row. `log_ratio`: ln(ours / theirs)."""

    ours: float
    theirs: float
    log_ratio: float


def alternate(ours: Figure, theirs: Figure, rounds: int = 20) -> Pair:
    """The two by turns, each first in every other round: medians, and the median over rounds of ln(ours / theirs)."""
    mine, other, logs = [], [], []
    for turn in range(rounds):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        values = {first: first(), second: second()}
        mine.append(values[ours])
        other.append(values[theirs])
        logs.append(math.log(values[ours] / values[theirs]))
    return Pair(statistics.median(mine), statistics.median(other), statistics.median(logs))


def over(ours: Figure, blocks: int) -> Figure:
    """The mean of so many of our blocks, to stand against a program's run that takes as long and tells its mean."""
    return lambda: statistics.fmean(ours() for _ in range(blocks))


def median_of(ours: Figure, blocks: int) -> Figure:
    """The median of so many of our blocks, to stand against a program that tells the median of values as long as they are."""
    return lambda: statistics.median(ours() for _ in range(blocks))


def around(ours: Figure, theirs: Figure, blocks: int = 10) -> Pair:
    """A run of a program that takes its time, with our blocks before and after it."""
    before = [ours() for _ in range(blocks)]
    other = theirs()
    mine = statistics.median([*before, *(ours() for _ in range(blocks))])
    return Pair(mine, other, math.log(mine / other))


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `bound`: what counts as agreement, as a share (vprobe.oracles.Agreement). `pairs` measures so many of them. `programs`
    are needed on the PATH, from the Debian `packages`. `environments` run the workload, beside bare. `stable`: also among the
    tests. `unit`, where it is not the workload's. `note`: where it disagrees, why it cannot hold. `fewest`: pairs, where its
    noise wants more of them. `beside` measures what is shown beside the row and not judged: another program's figure, or the
    evidence for the note.
    """

    workload: str
    oracle: str
    bound: float
    pairs: Callable[[Bench, int], Iterator[Pair]]
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    stable: bool = False
    unit: str = ""
    note: str = ""
    fewest: int = FEWEST
    beside: Callable[[Bench], str] | None = None


def agreement(row: Row, pairs: Sequence[Pair], unit: str) -> Agreement:
    """What the pairs of a row say: Hodges-Lehmann and the interval of the signed ranks."""
    logs = np.array([pair.log_ratio for pair in pairs])
    low, high = interval(logs, CONFIDENCE)
    found = Agreement(
        workload=row.workload,
        oracle=row.oracle,
        bound=row.bound,
        ratio=math.exp(hodges_lehmann(logs)),
        low=math.exp(low),
        high=math.exp(high),
        pairs=len(pairs),
        unit=unit,
        ours=statistics.median(pair.ours for pair in pairs),
        theirs=statistics.median(pair.theirs for pair in pairs),
    )
    return found if found.agrees else structs.replace(found, reason=row.note)
