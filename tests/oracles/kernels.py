"""Rows of native kernels against stand-alone C (oracle.c)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import Blocks, compiled, run

PROGRAM = "oracle.c"


def against_c(name: str, iterations: int, *words: object, rounds: int = 20) -> Callable[[Bench, int], Iterator[Pair]]:
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
                yield alternate(ours, theirs, rounds)

    return pairs


SIZE = object()
"""Stands for the bytes of memory that our workload uses."""

STREAM_LINES, STREAM_ROUNDS, STREAM_PAIRS = 32_768, 6, 45
"""Of a block: a sixteenth of the arrays. Which pages the arrays got is worth more here than anything else, 12 % between two
instances of the same program where memory is contended, so that many pairs are better than long ones."""


def stream(loop: str) -> Row:
    """One loop of STREAM over arrays of the same size."""
    measure = against_c(f"memory.{loop}", STREAM_LINES, loop, SIZE, rounds=STREAM_ROUNDS)
    beside = stress_stream if loop == "triad" else None
    return Row(f"memory.{loop}", f"STREAM {loop} in C", 0.08, measure, fewest=STREAM_PAIRS, beside=beside)


def stress_stream(bench: Bench) -> str:
    """What stress-ng tells of its own STREAM, all four loops together: it sizes its arrays itself, and is shown only."""
    told = run(["stress-ng", "--stream", "1", "--timeout", "8", "--log-file", "/dev/stdout"], bench.cpu)
    found = re.search(r"memory rate: ([\d.]+) MB read/sec, ([\d.]+) MB write/sec", told)
    return (
        f"stress-ng --stream 1: {found[1]} MB/s read and {found[2]} MB/s written" if found else "stress-ng told nothing"
    )


ROWS = (
    Row("cpu.integer_chain", "stand-alone C", 0.03, against_c("cpu.integer_chain", 100_000, "chain"), stable=True),
    Row("memory.chase[l1]", "stand-alone C", 0.08, against_c("memory.chase[l1]", 300_000, "chase", SIZE), stable=True),
    Row("memory.chase[64MiB]", "stand-alone C", 0.08, against_c("memory.chase[64MiB]", 5_000, "chase", SIZE)),
    *map(stream, ("copy", "scale", "add", "triad")),
)
