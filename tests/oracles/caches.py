"""The knees of a pointer chase against the sizes of the caches that the CPU tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row
from vprobe import _native

PAGE, HUGE_PAGE, LINE = 4096, 2 << 20, 64
STEPS = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 3.0)
"""Working sets, in sizes of the cache."""
LOADS, REPEATS = 20_000, 5


def latency(size: int, seed: int) -> float:
    """Ticks of a load in a random cycle through so many bytes, the better of some runs, in huge pages where there are any."""
    page = HUGE_PAGE if size >= PAGE * 16 else PAGE
    with _native.KernelHost(-(-size // page) * page, page) as host:
        host.build_chase(0, size, LINE, seed)
        host.run("chase", 2 * (size // LINE), 1)
        return min(host.run("chase", 0, LOADS)[0] / LOADS for _ in range(REPEATS))


def knee(size: int, seed: int) -> float:
    """Where the latency leaves the plateau of a cache of that size for the next one: the working set at which it has gone
    half of the way, in ratios, from a quarter of the cache to three times of it."""
    sizes = [int(size * step) // LINE * LINE for step in STEPS]
    logs = [math.log(latency(one, seed)) for one in sizes]
    half = (logs[0] + logs[-1]) / 2
    for (small, low), (large, high) in zip(
        zip(sizes, logs, strict=True), zip(sizes[1:], logs[1:], strict=True), strict=False
    ):
        if low <= half < high:
            return math.exp(math.log(small) + (half - low) / (high - low) * math.log(large / small))
    raise LookupError("the latency does not rise around the size that the CPU tells")


def against_cpuid(level: int) -> Callable[[Bench, int], Iterator[Pair]]:
    """The knee of a level, each pair in fresh memory."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        size = bench.facts.cache_bytes.get(level)
        if not size:
            raise LookupError(f"the CPU tells no size of L{level}")
        for number in range(count):
            found = knee(size, number + 1)
            yield Pair(found, size, math.log(found / size))

    return pairs


ROWS = tuple(
    Row("memory.chase[l1]", f"L{level} by CPUID: knee of the chase", 1.0, against_cpuid(level), unit="bytes")
    for level in (1, 2, 3)
)
