"""The knees of a pointer chase against the sizes of the caches that the CPU tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from oracles.bench import Bench
from oracles.pairs import Pair, Row
from oracles.programs import Blocks, compiled
from vprobe import _native

PAGE, HUGE_PAGE, LINE = 4096, 2 << 20, 64
STEP, LARGEST = math.sqrt(2), 3
"""From one working set to the next, and the last one in sizes of the cache."""
LOADS, REPEATS = 20_000, 5


def latency(size: int, seed: int) -> float:
    """Ticks of a load in a random cycle through so many bytes, the better of some runs, in huge pages where there are any."""
    page = HUGE_PAGE if size >= PAGE * 16 else PAGE
    with _native.KernelHost(-(-size // page) * page, page) as host:
        host.build_chase(0, size, LINE, seed)
        host.run("chase", 2 * (size // LINE), 1)
        return min(host.run("chase", 0, LOADS)[0] / LOADS for _ in range(REPEATS))


def working_sets(size: int, smaller: int) -> list[int]:
    """Bytes, from what lies in that cache and not in the next smaller one to what lies in neither."""
    first = min(size // 4, 2 * smaller) if smaller else size // 4
    steps = math.ceil(math.log(LARGEST * size / first, STEP))
    return [int(first * STEP**step) // LINE * LINE for step in range(steps + 1)]


def knee(size: int, smaller: int, seed: int) -> float:
    """Where the latency leaves the plateau of a cache of that size for the next one: the working set at which it has gone
    half of the way, in ratios. `smaller`: bytes of the next smaller cache, 0 for none."""
    sizes = working_sets(size, smaller)
    logs = [math.log(latency(one, seed)) for one in sizes]
    half = (logs[0] + logs[-1]) / 2
    for (small, low), (large, high) in pairwise(zip(sizes, logs, strict=True)):
        if low <= half < high:
            return math.exp(math.log(small) + (half - low) / (high - low) * math.log(large / small))
    raise LookupError("the latency does not rise up to three times the size that the CPU tells")


def against_cpuid(level: int) -> Callable[[Bench, int], Iterator[Pair]]:
    """The knee of a level, each pair in fresh memory."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        size = bench.facts.cache_bytes.get(level)
        if not size:
            raise LookupError(f"the CPU tells no size of L{level}")
        for number in range(count):
            found = knee(size, bench.facts.cache_bytes.get(level - 1, 0), number + 1)
            yield Pair(found, size, math.log(found / size))

    return pairs


def c_latencies(bench: Bench) -> str:
    """The rise by a stand-alone C program, which knows nothing of what the CPU tells."""
    figures = []
    for size_mib in (1, 2, 4, 8, 16, 32, 64):
        with Blocks(compiled("oracle.c"), bench.cpu, "chase", size_mib << 20, 4 * (size_mib << 20) // LINE) as load_ns:
            figures.append(f"{size_mib} MiB {min(load_ns() for _ in range(2)):.0f}")
    return f"ns a load by stand-alone C in 4 KiB pages: {', '.join(figures)}"


L3_NOTE = "the CPU tells the L3 of a socket; what a guest finds of it depends on who else is on that socket"

ROWS = tuple(
    Row(
        "memory.chase[l1]", f"L{level} by CPUID: knee of the chase", 1.0, against_cpuid(level), unit="bytes",
        note=L3_NOTE if level == 3 else "", beside=c_latencies if level == 3 else None,
    )
    for level in (1, 2, 3)
)  # fmt: skip
