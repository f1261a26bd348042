"""RandomAccess against HPC Challenge itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row, around
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
SECTION = re.compile(
    r"Begin of StarRandomAccess section.*?table size\s*=\s*2\^(\d+).*?CPU time used\s*=\s*([\d.]+)", re.S
)
TABLE_BITS, UPDATES_PER_WORD = 23, 4
TIMEOUT_S = 60.0


def random_access_ns(cpu: int) -> float:
    """ns of an update by one process of HPC Challenge, which is ended once it has told: Linpack would follow.

    Of its CPU time: its run takes a quarter of a second, of which others may get a share that our short blocks do not see.
    """
    with tempfile.TemporaryDirectory(prefix="vprobe-hpcc-") as directory:
        Path(directory, "hpccinf.txt").write_text(SETTINGS)
        output = Path(directory, "hpccoutf.txt")
        variables = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TMPDIR": directory}
        process = subprocess.Popen(
            pinned(cpu, ["hpcc"]),
            cwd=directory,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its launcher's processes are ended with it
        )
        try:
            return _told(process, output)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _told(process: subprocess.Popen[bytes], output: Path) -> float:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = SECTION.search(output.read_text()) if output.exists() else None
        if found:
            if int(found[1]) != TABLE_BITS:
                raise ProgramError(f"hpcc took a table of 2^{found[1]} words, not of 2^{TABLE_BITS}")
            return float(found[2]) * 1e9 / (UPDATES_PER_WORD << TABLE_BITS)
        if process.poll() is not None:
            raise ProgramError(f"hpcc ended with {process.returncode} before it had told")
        time.sleep(0.05)
    raise ProgramError(f"hpcc did not tell within {TIMEOUT_S:.0f} s")


def pairs(bench: Bench, count: int) -> Iterator[Pair]:
    """Our blocks before and after a run of hpcc."""
    for number in range(count):
        with bench.prepared("memory.random_access", seed=number + 1) as ours:
            yield around(ours, lambda: random_access_ns(bench.cpu))


ROWS = (Row("memory.random_access", "HPC Challenge, 64 MiB", 0.15, pairs, programs=("hpcc",), packages=("hpcc",)),)
