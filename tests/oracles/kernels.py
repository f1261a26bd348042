"""Rows of native kernels against stand-alone C (oracle.c)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import Blocks, compiled

PROGRAM = "oracle.c"


def against_c(name: str, iterations: int, *words: object) -> Callable[[Bench, int], Iterator[Pair]]:
    """Blocks of equally many iterations. Each pair allocates anew, since which pages a process gets decides a DRAM chase by
    up to 10 %, and whoever allocates second gets what memory the first left."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        call = bench.task(name).call
        assert call is not None
        filled = [call.memory_bytes if word is SIZE else word for word in words]
        for number in range(count):
            with contextlib.ExitStack() as opened:
                first = (
                    opened.enter_context(Blocks(compiled(PROGRAM), bench.cpu, *filled, iterations))
                    if number % 2
                    else None
                )
                ours = opened.enter_context(bench.prepared(name, seed=number + 1, iterations=iterations))
                theirs = first or opened.enter_context(Blocks(compiled(PROGRAM), bench.cpu, *filled, iterations))
                yield alternate(ours, theirs)

    return pairs


SIZE = object()
"""Stands for the bytes of memory that our workload uses."""

STREAM_LINES = 262_144
"""Of a block: half of the arrays."""


def stream(loop: str) -> Row:
    """One loop of STREAM over arrays of the same size."""
    measure = against_c(f"memory.{loop}", STREAM_LINES, loop, SIZE)
    return Row(f"memory.{loop}", f"STREAM {loop} in C", 0.08, measure)


ROWS = (
    Row("cpu.integer_chain", "stand-alone C", 0.03, against_c("cpu.integer_chain", 100_000, "chain"), stable=True),
    Row("memory.chase[l1]", "stand-alone C", 0.08, against_c("memory.chase[l1]", 300_000, "chase", SIZE), stable=True),
    Row(
        "memory.chase[64MiB]",
        "stand-alone C",
        0.08,
        against_c("memory.chase[64MiB]", 5_000, "chase", SIZE),
        stable=True,
    ),
    *map(stream, ("copy", "scale", "add", "triad")),
)
