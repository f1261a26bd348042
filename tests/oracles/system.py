"""Rows of the kernel's services against `perf bench` and stand-alone C, and of RandomAccess against HPC Challenge."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate, around, over
from oracles.programs import Blocks, compiled, run

FORKS, SYSTEM_CALLS = 20, 10_000
BLOCKS, PERF_ROUNDS = 10, 2


def perf(cpu: int, loops: int, *words: str) -> float:
    """ns of a loop of `perf bench`, which prints seconds for all of them."""
    return float(run(["perf", "bench", "--format=simple", *words, f"--loop={loops}"], cpu)) * 1e9 / loops


def against_perf(name: str, loops: int, *words: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """As many operations by our blocks and by a run of `perf bench`, by turns. `loops`: enough that what perf times beside its
    loop (`sched pipe`: the end of two processes) is small."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for number in range(count):
            with bench.prepared(name, seed=number + 1, iterations=loops // BLOCKS) as ours:
                yield alternate(over(ours, BLOCKS), lambda: perf(bench.cpu, loops, *words), PERF_ROUNDS)

    return pairs


def private_bytes(pid: int) -> int:
    """Private memory of a process that is there: what fork(2) copies the page tables of (proc_pid_status(5), RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise LookupError("this kernel does not tell RssAnon")


def fork_wait(bench: Bench, count: int) -> Iterator[Pair]:
    """A C program that touches as much private memory as the agent has."""
    for number in range(count):
        with bench.prepared("system.fork_wait", seed=number + 1, iterations=FORKS) as ours:
            words = ("fork", private_bytes(bench.pid), FORKS)
            with Blocks(compiled("oracle.c"), bench.cpu, *words) as theirs:
                yield alternate(ours, theirs, 10)


def against_c(name: str, measure: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """The system call itself, in a loop in C."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for number in range(count):
            with (
                bench.prepared(name, seed=number + 1, iterations=SYSTEM_CALLS) as ours,
                Blocks(compiled("oracle.c"), bench.cpu, measure, SYSTEM_CALLS) as theirs,
            ):
                yield alternate(ours, theirs, 40)

    return pairs


def what_perf_calls(bench: Bench) -> str:
    """Three loops in C by turns, from our system call to perf's."""
    with contextlib.ExitStack() as opened:
        loops = [
            opened.enter_context(Blocks(compiled("oracle.c"), bench.cpu, measure, SYSTEM_CALLS))
            for measure in ("getpid", "getppid", "getppid-function")
        ]
        rounds = [[loop() for loop in loops] for _ in range(30)]
    getpid, getppid, function = (statistics.median(column) for column in zip(*rounds, strict=True))
    return (
        f"loops in C: getpid {getpid:.0f} ns, getppid {getppid:.0f} ns, by the C library's function, which perf calls, "
        f"{function:.0f} ns"
    )


def stress_fork(bench: Bench) -> str:
    """What stress-ng tells of forks: it counts more than a fork, and is shown only."""
    options = ["--fork", "1", "--fork-max", "1", "--fork-ops", "1000", "--metrics-brief", "--log-file", "/dev/stdout"]
    told = run(["stress-ng", *options], bench.cpu)
    found = re.search(r"\] fork +\d+ +([\d.]+)", told)
    return f"stress-ng --fork 1: {float(found[1]) * 1e6:,.0f} ns a fork" if found else "stress-ng told nothing"


def hyperfine(cpu: int) -> float:
    """ns of starting true and waiting for it: the median of a hundred."""
    with tempfile.TemporaryDirectory(prefix="vprobe-hyperfine-") as directory:
        output = Path(directory, "times.json")
        run(["hyperfine", "-N", "--warmup=5", "--runs=100", "--style=none", "--export-json", output, "/bin/true"], cpu)
        return float(json.loads(output.read_text())["results"][0]["median"]) * 1e9


def fork_exec(bench: Bench, count: int) -> Iterator[Pair]:
    """Our blocks of one process each before and after a run of hyperfine."""
    for number in range(count):
        with bench.prepared("system.fork_exec", seed=number + 1, iterations=1) as ours:
            yield around(ours, lambda: hyperfine(bench.cpu), 50)


PERF = {"programs": ("perf",), "packages": ("linux-perf",)}

ROWS = (
    Row("system.getpid", "stand-alone C", 0.10, against_c("system.getpid", "getpid"), fewest=25),
    Row(
        "system.getpid", "perf bench syscall basic", 0.10, against_perf("system.getpid", 100_000, "syscall", "basic"), **PERF,
        note="perf calls getppid() of the C library: the row system.getppid does, too", beside=what_perf_calls,
    ),
    Row("system.getppid", "perf bench syscall basic", 0.10, against_perf("system.getppid", 100_000, "syscall", "basic"), **PERF),
    Row(
        "system.pipe_round_trip", "perf bench sched pipe, both on one CPU", 0.20,
        against_perf("system.pipe_round_trip", 50_000, "sched", "pipe"), **PERF,
    ),
    Row("system.fork_wait", "a C program with as much private memory", 0.20, fork_wait, beside=stress_fork),
    Row(
        "system.fork_exec", "hyperfine -N true", 0.20, fork_exec,
        programs=("hyperfine",), packages=("hyperfine",),
    ),
)  # fmt: skip
