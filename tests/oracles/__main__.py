"""Run the table: `python -m oracles [-o FILE] [--row GLOB]… [--pairs N]`. Exit 1 where a row disagrees."""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from oracles.bench import bench
from oracles.pairs import FEWEST, Row, agreement
from oracles.programs import ProgramError
from oracles.table import ROWS
from vprobe import __version__
from vprobe.errors import VprobeError
from vprobe.oracles import Agreement, OracleReport, save
from vprobe.probe import probe_host


def missing(row: Row) -> str:
    """Why a row cannot be measured here, "" for nothing."""
    absent = [program for program in row.programs if shutil.which(program) is None]
    return f"{', '.join(absent)} not installed: apt-get install {' '.join(row.packages)}" if absent else ""


def unmeasured(row: Row, reason: str) -> Agreement:
    """A row without figures, and why."""
    return Agreement(row.workload, row.oracle, row.bound, reason=reason)


def measure(row: Row, cpu: int, count: int) -> Agreement:
    """Measure one row, in a fresh agent."""
    reason = missing(row)
    if reason:
        return unmeasured(row, reason)
    try:
        with bench(cpu, *row.environments) as this:
            unit = row.unit or this.task(row.workload).record.unit
            found = agreement(row, list(row.pairs(this, max(count, row.fewest))), unit)
            if row.beside is None:
                return found
            return structs.replace(found, reason="; ".join(filter(None, (found.reason, row.beside(this)))))
    except (ProgramError, LookupError, VprobeError, subprocess.SubprocessError) as error:
        return unmeasured(row, f"{type(error).__name__}: {error}"[:300])


def shown(one: Agreement, seconds: float) -> str:
    """One line."""
    name = f"{one.workload:<28} {one.oracle:<44}"
    if one.ratio is None:
        return f"{name} not measured: {one.reason}"
    verdict = "agrees" if one.agrees else "DISAGREES"
    span = f"{one.ratio:.3f} [{one.low:.3f}, {one.high:.3f}] within {one.bound:.0%}"
    figures = f"({one.ours:.4g} against {one.theirs:.4g} {one.unit}, {one.pairs} pairs, {seconds:.0f} s)"
    return f"{name} {span}: {verdict}  {figures}" + (f"\n    {one.reason}" if one.reason else "")


def main(words: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="oracles", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("oracles.json"))
    parser.add_argument("--row", action="append", default=[], metavar="GLOB", help="only rows of these workloads")
    parser.add_argument("--pairs", type=int, default=FEWEST, metavar="N", help=f"pairs a row (default {FEWEST})")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args(words)
    patterns = [re.sub(r"\[", "[[]", glob) for glob in options.row] or ["*"]
    rows = [row for row in ROWS if any(fnmatch.fnmatchcase(row.workload, glob) for glob in patterns)]
    report = OracleReport(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        vprobe_version=__version__,
        cpu=probe_host().document()["cpu"]["brand"] or "",
        kernel=os.uname().release,
        rows=(),
    )
    for row in rows:
        began = time.monotonic()
        found = measure(row, options.cpu, options.pairs)
        print(shown(found, time.monotonic() - began), flush=True)
        report = structs.replace(report, rows=(*report.rows, found))
        save(report, options.output)  # what was measured is kept when the rest is interrupted
    print(f"wrote {options.output}; vprobe report RUN --oracles {options.output} shows it")
    return 1 if any(one.agrees is False for one in report.rows) else 0


if __name__ == "__main__":
    # Unwind, so that what was started ends and what was made is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
