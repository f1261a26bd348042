"""Bare figures against a stand-alone C program that shares no code with the package: interleaved pairs on one CPU."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats

from vprobe import _native

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compares TSC with the clock"),
]

ORACLE = Path(__file__).parents[1] / "unit" / "native" / "oracle.c"
# Each pair allocates anew: which physical pages a process gets moves a DRAM chase by up to 10 % here, so that many short
# pairs tell more than few long ones.
PAIRS = 30
ROUNDS_PER_PAIR = 20
L1_BYTES, DRAM_BYTES = 16 * 1024, 64 * 1024 * 1024


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("oracle") / "oracle"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", str(program), str(ORACLE)], check=True, timeout=60)
    return program


class Oracle:
    """The running program: one block for each call."""

    def __init__(self, program: Path, *words: object) -> None:
        command = [str(program), *map(str, words)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )

    def block_ns(self) -> float:
        """ns per iteration of one block."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        return float(self.process.stdout.readline())

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def pair(ours: Callable[[], float], theirs: Callable[[], float]) -> float:
    """ln(ours / theirs): the median over rounds in which the two alternate, each first in every other round."""
    logs = []
    for turn in range(ROUNDS_PER_PAIR):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        values = {first: first(), second: second()}
        logs.append(math.log(values[ours] / values[theirs]))
    return statistics.median(logs)


def interval_90(values: list[float]) -> tuple[float, float]:
    """Student's interval of the mean."""
    quantile = float(scipy.stats.t.ppf(0.95, len(values) - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half


@pytest.mark.parametrize(
    ("kernel", "size", "iterations", "bound"),
    [("integer_chain", 0, 100_000, 0.03), ("chase", L1_BYTES, 300_000, 0.08), ("chase", DRAM_BYTES, 5_000, 0.08)],
    ids=["integer_chain", "chase-l1", "chase-64MiB"],
)
def test_bare_agrees_with_the_oracle(kernel: str, size: int, iterations: int, bound: float, oracle: Path) -> None:
    """Over 30 pairs the 90 % interval of ln(vprobe / oracle) lies within the bound."""
    before = os.sched_getaffinity(0)
    cpu = max(before)
    words = ("chase", size, iterations, cpu) if size else ("chain", iterations, cpu)
    os.sched_setaffinity(0, {cpu})
    try:
        ns_per_tick = statistics.median(_native.calibrate_tsc() for _ in range(5))
        logs = []
        for number in range(PAIRS):
            with contextlib.ExitStack() as opened:
                # Whoever is opened second gets what memory the first left.
                theirs_first = opened.enter_context(Oracle(oracle, *words)) if number % 2 else None
                host = opened.enter_context(_native.KernelHost(size))
                theirs = theirs_first or opened.enter_context(Oracle(oracle, *words))
                if size:
                    host.build_chase(0, size, 64, number)

                def ours(host: _native.KernelHost = host) -> float:
                    return host.run(kernel, iterations // 4, iterations)[0] * ns_per_tick / iterations

                logs.append(pair(ours, theirs.block_ns))
    finally:
        os.sched_setaffinity(0, before)
    low, high = interval_90(logs)
    print(f"{kernel} {size}: ln ratio {low:+.4f} to {high:+.4f}")
    assert -bound < low <= high < bound
