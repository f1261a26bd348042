"""Rows of the kernel's services against `perf bench` and stand-alone C, and of RandomAccess against HPC Challenge."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate, around
from oracles.programs import Blocks, compiled, run

FORKS, SYSTEM_CALLS = 20, 10_000


def perf(cpu: int, loops: int, *words: str) -> float:
    """ns of a loop of `perf bench`, which prints seconds for all of them."""
    return float(run(["perf", "bench", "--format=simple", *words, f"--loop={loops}"], cpu)) * 1e9 / loops


def against_perf(name: str, loops: int, *words: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our blocks before and after a run of `perf bench`."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for number in range(count):
            with bench.prepared(name, seed=number + 1) as ours:
                yield around(ours, lambda: perf(bench.cpu, loops, *words))

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


def getpid(bench: Bench, count: int) -> Iterator[Pair]:
    """The system call itself, in a loop in C."""
    for number in range(count):
        with (
            bench.prepared("system.getpid", seed=number + 1, iterations=SYSTEM_CALLS) as ours,
            Blocks(compiled("oracle.c"), bench.cpu, "getpid", SYSTEM_CALLS) as theirs,
        ):
            yield alternate(ours, theirs)


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


PIPE = Row(
    "system.pipe_round_trip",
    "perf bench sched pipe, both on one CPU",
    0.20,
    against_perf("system.pipe_round_trip", 20_000, "sched", "pipe"),
    programs=("perf",),
    packages=("linux-perf",),
)
GETPID = Row(
    "system.getpid",
    "perf bench syscall basic",
    0.10,
    against_perf("system.getpid", 500_000, "syscall", "basic"),
    programs=("perf",),
    packages=("linux-perf",),
    note="perf calls getppid(), which does more: see docs/oracles.md",
)
FORK = Row("system.fork_wait", "a C program with as much private memory", 0.20, fork_wait)

FORK_EXEC = Row(
    "system.fork_exec",
    "hyperfine -N true",
    0.20,
    fork_exec,
    programs=("hyperfine",),
    packages=("hyperfine",),
)
GETPID_C = Row("system.getpid", "stand-alone C", 0.10, getpid)

ROWS = (GETPID_C, GETPID, PIPE, FORK, FORK_EXEC)
