"""Wake-up latency against cyclictest."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator

from vprobe.suites.timers import WAKE_UPS as BLOCK_WAKE_UPS

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import ProgramError, run
from vprobe.measure.calibration import BlockSize

WAKE_UPS, PERIOD_US, ROUNDS = 500, 1000, 2


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
    """As many wake-ups of ours as of cyclictest, by turns: a high percentile rises with their number."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        with bench.prepared("timers.wake_up", iterations=1) as ours:
            ours.size = BlockSize(WAKE_UPS // BLOCK_WAKE_UPS, 0)
            for _ in range(count):
                yield alternate(
                    functools.partial(ours.detail, detail), functools.partial(cyclictest, bench.cpu, share), ROUNDS
                )

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
