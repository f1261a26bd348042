"""Storage against fio, on the same file."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vprobe.suites.storage import FIO_ACCESSES

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate, around
from oracles.programs import run
from vprobe.measure.calibration import BlockSize

BLOCKS, BLOCK_NS = 10, 50_000_000
AS_LONG = ("--time_based", "--runtime=1")
"""Of fio, as long as so many of our blocks before and after it: a disk's pace changes by the second."""
AS_MANY = (f"--number_ios={FIO_ACCESSES}",)
"""Of fio, as many accesses as our workload has it make: the mean of few accesses has met fewer stalls than that of many."""

ROUNDS = 6


def fio(file: Path, direct: str, cpu: int, mode: str, sync: bool, extent: Sequence[str]) -> float:
    """ns of an access of 4 KiB, one at a time: the mean that fio tells, and that of the fsync behind it where there is one."""
    command = [
        *("fio", "--name=oracle", f"--filename={file}", f"--rw={mode}", "--bs=4k", "--size=64m", "--ioengine=psync"),
        *("--iodepth=1", f"--direct={int(direct != 'none')}", *extent),
        *("--randrepeat=0", "--norandommap", f"--fsync={int(sync)}", "--thread", "--output-format=json"),
    ]
    job = json.loads(run(command, cpu))["jobs"][0]
    parts = [job["write" if "write" in mode else "read"], *([job["sync"]] if sync else [])]
    return float(sum(part["lat_ns"]["mean"] for part in parts))


def against_fio(name: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our own accesses before and after a run of fio."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, BLOCK_NS) as ours:
                theirs = functools.partial(fio, bench.scratch / "storage-0", direct, bench.cpu, mode, sync, AS_LONG)
                yield around(ours, theirs, BLOCKS)

    return pairs


def engine_against_fio(label: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our workload that has fio measure, and fio as it is called by hand, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        name = f"storage.fio[{label}]"
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, iterations=1) as ours:
                ours.size = BlockSize(1, 0)
                theirs = functools.partial(fio, bench.scratch / "storage-0", direct, bench.cpu, mode, sync, AS_MANY)
                yield alternate(ours, theirs, ROUNDS)

    return pairs


ROWS = (
    Row(
        "storage.fio[random_read]", "fio called by hand", 0.10, engine_against_fio("random_read", "randread"),
        programs=("fio",), packages=("fio",),
    ),
    Row(
        "storage.fio[fsync]", "fio called by hand", 0.10, engine_against_fio("fsync", "randwrite", sync=True),
        programs=("fio",), packages=("fio",),
    ),
    Row(
        "storage.random_read[4KiB]", "fio psync randread", 0.25, against_fio("storage.random_read[4KiB]", "randread"),
        programs=("fio",), packages=("fio",),
    ),
    Row(
        "storage.fsync", "fio psync randwrite fsync=1", 0.25, against_fio("storage.fsync", "randwrite", sync=True),
        programs=("fio",), packages=("fio",),
    ),
)  # fmt: skip
