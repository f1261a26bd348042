"""Wake-up latency against cyclictest."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row
from oracles.programs import ProgramError, run

WAKE_UPS, PERIOD_US = 500, 1000


def cyclictest(cpu: int, share: float) -> float:
    """ns of that share of the latencies, from the histogram of one unprivileged thread that wakes every millisecond."""
    told = run(
        [
            *(
                "cyclictest",
                "--quiet",
                "--threads=1",
                "--policy=other",
                f"--interval={PERIOD_US}",
                f"--loops={WAKE_UPS}",
            ),
            *(f"--affinity={cpu}", "--histogram=20000"),
        ],
        cpu,
    )
    counts = [(int(us), int(count)) for us, count in re.findall(r"^(\d+)\s+(\d+)\s*$", told, re.MULTILINE)]
    total, seen = sum(count for _, count in counts), 0
    for us, count in counts:
        seen += count
        if total and seen >= share * total:
            return us * 1e3
    raise ProgramError("cyclictest tells no histogram")


def against_cyclictest(detail: str, share: float) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our blocks of 100 wake-ups before and after a run of cyclictest."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        with bench.prepared("timers.wake_up", iterations=1) as ours:
            for _ in range(count):
                before = [ours.detail(detail) for _ in range(2)]
                theirs = cyclictest(bench.cpu, share)
                mine = statistics.median([*before, *(ours.detail(detail) for _ in range(2))])
                yield Pair(mine, theirs, math.log(mine / theirs))

    return pairs


ROWS = (
    Row(
        "timers.wake_up", "cyclictest, p50", 0.25, against_cyclictest("p50_ns", 0.5),
        programs=("cyclictest",), packages=("rt-tests",),
    ),
    Row(
        "timers.wake_up", "cyclictest, p99", 1.0, against_cyclictest("p99_ns", 0.99),
        programs=("cyclictest",), packages=("rt-tests",),
    ),
)  # fmt: skip
