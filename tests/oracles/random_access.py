"""RandomAccess against HPC Challenge itself."""

from __future__ import annotations

import math
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row
from oracles.programs import ProgramError, pinned

LINPACK_SIZE = 2_900
"""Of the matrix: RandomAccess takes the largest power of two that fits into its bytes, which is 64 MiB."""
SETTINGS = f"""RandomAccess alone is wanted
of all that is measured
HPL.out      output file
8            device
1            problem sizes
{LINPACK_SIZE}         Ns
1            block sizes
80           NBs
0            PMAP
1            process grids
1            Ps
1            Qs
16.0         threshold
1            panel factorizations
2            PFACTs
1            recursive stopping criteria
4            NBMINs
1            panels in recursion
2            NDIVs
1            recursive panel factorizations
1            RFACTs
1            broadcasts
1            BCASTs
1            lookahead depths
1            DEPTHs
2            SWAP
64           swapping threshold
0            L1
0            U
1            equilibration
8            alignment
-----
0            further sizes for PTRANS
1200         values of N
0            further block sizes for PTRANS
40           values of NB
"""
BEGUN = "Begin of StarRandomAccess section"
TOLD = BEGUN + r".*?table size\s*=\s*2\^(\d+).*?CPU time used\s*=\s*([\d.]+)"
TABLE_BITS, UPDATES_PER_WORD = 23, 4
TIMEOUT_S = 60.0
SLICE_S, BLOCK_NS = 0.02, 20_000_000
"""Theirs runs for so long, is stopped, and one of our blocks takes as long: a neighbour's work falls on both, and each comes back
to a cache that the other had as long."""


class Hpcc:
    """One process of HPC Challenge, which is ended once it has told: Linpack would follow."""

    def __init__(self, cpu: int) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="vprobe-hpcc-")
        Path(self.directory.name, "hpccinf.txt").write_text(SETTINGS)
        self.output = Path(self.directory.name, "hpccoutf.txt")
        variables = {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "TMPDIR": self.directory.name,
        }
        self.process = subprocess.Popen(
            pinned(cpu, ["hpcc"]),
            cwd=self.directory.name,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its launcher's processes are ended with it
        )

    def __enter__(self) -> Hpcc:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.directory.cleanup()

    def wait_for(self, pattern: str, pause_s: float) -> Iterator[re.Match[str] | None]:
        """What it wrote that matches, None as long as there is nothing, every so often. ProgramError where it never does."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ProgramError(f"hpcc ended with {self.process.returncode} before it had told")
            found = re.search(pattern, self.output.read_text(), re.DOTALL) if self.output.exists() else None
            yield found
            if found:
                return
            time.sleep(pause_s)
        raise ProgramError(f"hpcc did not tell within {TIMEOUT_S:.0f} s")

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        os.killpg(self.process.pid, number)


def update_ns(found: re.Match[str]) -> float:
    """ns of an update, of its CPU time: it is stopped again and again."""
    if int(found[1]) != TABLE_BITS:
        raise ProgramError(f"hpcc took a table of 2^{found[1]} words, not of 2^{TABLE_BITS}")
    return float(found[2]) * 1e9 / (UPDATES_PER_WORD << TABLE_BITS)


def sliced(bench: Bench, theirs: Hpcc, seed: int) -> Pair:
    """Slices of hpcc's RandomAccess and our blocks by turns."""
    for _ in theirs.wait_for(BEGUN, 0.002):
        pass
    theirs.signal(signal.SIGSTOP)
    with bench.prepared("memory.random_access", BLOCK_NS, seed=seed) as ours:
        blocks = []
        for found in theirs.wait_for(TOLD, 0):
            if found:
                break
            theirs.signal(signal.SIGCONT)
            time.sleep(SLICE_S)
            theirs.signal(signal.SIGSTOP)
            blocks.append(ours())
    assert found
    figure = update_ns(found)
    if not blocks:
        raise ProgramError("hpcc had told before it was stopped")
    mine = statistics.median(blocks)
    return Pair(mine, figure, math.log(mine / figure))


def pairs(bench: Bench, count: int) -> Iterator[Pair]:
    """A process of hpcc for each."""
    for number in range(count):
        with Hpcc(bench.cpu) as theirs:
            yield sliced(bench, theirs, number + 1)


ROWS = (Row("memory.random_access", "HPC Challenge, 64 MiB", 0.15, pairs, programs=("hpcc",), packages=("hpcc",)),)
