"""Rows of Python workloads against pyperf, which times the same call in the same interpreter."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.bench import bench as fresh_bench
from oracles.pairs import Pair, Row, alternate, median_of
from oracles.programs import run

BLOCKS, BLOCK_NS, ROUNDS = 10, 5_000_000, 2

IMPORTS = "from vprobe.suites.cpu import generated_text, pieces_of_text"


def pyperf(setup: str, statement: str, cpu: int, loops: int) -> float:
    """ns of a statement: the median of as many values of one worker process as BLOCKS, each of so many loops."""
    with tempfile.TemporaryDirectory(prefix="vprobe-pyperf-") as directory:
        output = Path(directory) / "values.json"
        extent = ["--processes=1", "--warmups=1", f"--values={BLOCKS}", f"--loops={loops}"]
        options = [*extent, f"--affinity={cpu}", "--quiet"]
        run([sys.executable, "-m", "pyperf", "timeit", *options, "-o", output, "-s", setup, statement], cpu)
        runs = json.loads(output.read_text())["benchmarks"][0]["runs"]
    return 1e9 * statistics.median(value for one in runs for value in one.get("values", ()))


def against_pyperf(name: str, setup: str, statement: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our blocks and runs of pyperf by turns, with equally many loops: short ones, since the CPU's speed changes in seconds.

    An agent of its own for each pair, as pyperf has processes of its own: where a process has its memory is worth some per cent.
    """

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for number in range(count):
            with fresh_bench(bench.cpu) as fresh, fresh.prepared(name, BLOCK_NS, seed=number + 1) as ours:
                theirs = functools.partial(pyperf, f"{IMPORTS}; {setup}", statement, bench.cpu, ours.size.timed)
                yield alternate(median_of(ours, BLOCKS), theirs, ROUNDS)

    return pairs


SHA256 = ("import hashlib; data = generated_text(16384); digest = hashlib.sha256", "digest(data).digest()")
ZLIB = (
    "import zlib; pieces = pieces_of_text(4096); z = zlib.compressobj(6); deflate, flush = z.compress, z.flush",
    "deflate(next(pieces)); flush(zlib.Z_FULL_FLUSH)",
)

ROWS = (
    Row("cpu.sha256", "pyperf, the same call", 0.05, against_pyperf("cpu.sha256", *SHA256), fewest=25),
    Row("cpu.zlib", "pyperf, the same calls", 0.05, against_pyperf("cpu.zlib", *ZLIB), fewest=35),
)
