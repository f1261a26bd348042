"""Storage against fio, on the same file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row, around
from oracles.programs import run
from vprobe.measure.calibration import BlockSize

SECONDS = 1


def fio(file: Path, direct: str, cpu: int, mode: str, sync: bool) -> float:
    """ns of an access of 4 KiB, one at a time, by what fio counted."""
    command = [
        *("fio", "--name=oracle", f"--filename={file}", f"--rw={mode}", "--bs=4k", "--size=64m", "--ioengine=psync"),
        *(
            "--iodepth=1",
            f"--direct={int(direct != 'none')}",
            f"--runtime={SECONDS}",
            "--time_based",
            "--output-format=json",
        ),
        *("--randrepeat=0", "--norandommap", f"--fsync={int(sync)}", "--thread"),
    ]
    side = json.loads(run(command, cpu))["jobs"][0]["write" if "write" in mode else "read"]
    return float(side["runtime"] * 1e6 / side["total_ios"])


def against_fio(name: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our blocks before and after a run of fio."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, 50_000_000) as ours:
                yield around(ours, lambda: fio(bench.scratch / "storage-0", direct, bench.cpu, mode, sync), BLOCKS)

    return pairs


BLOCKS = 100
"""Before and after: as long as fio's run, since a disk's pace changes by the second."""

FIO_RUNS = 4
"""Of ours before and after one of theirs."""


def engine_against_fio(label: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our workload that has fio measure, before and after fio as it is called by hand."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        name = f"storage.fio[{label}]"
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, iterations=1) as ours:
                ours.size = BlockSize(1, 0)
                yield around(ours, lambda: fio(bench.scratch / "storage-0", direct, bench.cpu, mode, sync), FIO_RUNS)

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
