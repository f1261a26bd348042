"""Storage against fio, on the same file."""

from __future__ import annotations

import functools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vprobe.suites.storage import FIO_ACCESSES

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate, median_of
from oracles.programs import ProgramError, run
from vprobe.measure.calibration import BlockSize

BLOCKS, BLOCK_MS, ROUNDS = 10, 50, 2
"""Of ours, and windows of as many milliseconds of fio's, of which medians are held against each other: a shared disk lets an
access wait a hundred times as long as usual, and a mean over all says how many of those it met."""

ENGINE_ROUNDS = 10


def command(file: Path, direct: str, mode: str, sync: bool) -> list[str | Path]:
    """fio with accesses of 4 KiB, one at a time."""
    return [
        *("fio", "--name=oracle", f"--filename={file}", f"--rw={mode}", "--bs=4k", "--size=64m", "--ioengine=psync"),
        *("--iodepth=1", f"--direct={int(direct != 'none')}", f"--fsync={int(sync)}"),
        *("--randrepeat=0", "--norandommap", "--thread", "--output-format=json"),
    ]


def fio_mean(file: Path, direct: str, cpu: int, mode: str, sync: bool) -> float:
    """ns of an access, with the fsync behind it where there is one: the means that fio tells of as many accesses as our
    workload has it make. The mean of few accesses has met fewer stalls than that of many."""
    job = json.loads(run([*command(file, direct, mode, sync), f"--number_ios={FIO_ACCESSES}"], cpu))["jobs"][0]
    parts = [job["write" if "write" in mode else "read"], *([job["sync"]] if sync else [])]
    return float(sum(part["lat_ns"]["mean"] for part in parts))


def fio_windows(file: Path, direct: str, cpu: int, mode: str, sync: bool) -> float:
    """ns of an access, with the fsync behind it where there is one: the median of the rates in fio's windows of time."""
    with tempfile.TemporaryDirectory(prefix="vprobe-fio-") as directory:
        log = Path(directory, "rates")
        timed = ("--time_based", f"--runtime={BLOCKS * BLOCK_MS}ms")
        run([*command(file, direct, mode, sync), *timed, f"--write_iops_log={log}", f"--log_avg_msec={BLOCK_MS}"], cpu)
        lines = Path(f"{log}_iops.1.log").read_text().splitlines()
    rates = [rate for rate in (float(line.split(",")[1]) for line in lines) if rate]
    if not rates:
        raise ProgramError("fio wrote no rates")
    return 1e9 / statistics.median(rates)


def against_fio(name: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our own accesses and runs of fio, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, BLOCK_MS * 1_000_000) as ours:
                theirs = functools.partial(fio_windows, bench.scratch / "storage-0", direct, bench.cpu, mode, sync)
                yield alternate(median_of(ours, BLOCKS), theirs, ROUNDS)

    return pairs


def engine_against_fio(label: str, mode: str, sync: bool = False) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our workload that has fio measure, and fio as it is called by hand, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        name = f"storage.fio[{label}]"
        direct = bench.task(name).record.parameters["direct"]
        for _ in range(count):
            with bench.prepared(name, iterations=1) as ours:
                ours.size = BlockSize(1, 0)
                theirs = functools.partial(fio_mean, bench.scratch / "storage-0", direct, bench.cpu, mode, sync)
                yield alternate(ours, theirs, ENGINE_ROUNDS)

    return pairs


FIO = {"programs": ("fio",), "packages": ("fio",)}

ROWS = (
    Row("storage.fio[random_read]", "fio called by hand", 0.10, engine_against_fio("random_read", "randread"), **FIO),
    Row("storage.fio[fsync]", "fio called by hand", 0.10, engine_against_fio("fsync", "randwrite", sync=True), **FIO),
    Row("storage.random_read[4KiB]", "fio psync randread", 0.25, against_fio("storage.random_read[4KiB]", "randread"), **FIO),
    Row(
        "storage.fsync", "fio psync randwrite fsync=1", 0.25,
        against_fio("storage.fsync", "randwrite", sync=True), **FIO,
    ),
)  # fmt: skip
