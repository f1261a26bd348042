"""Runs virtual test benches.

    PYTHONPATH=tests python -m lab [--list] [--ci] [--record] [SUBJECT or BENCH…]

Exit code 1 where a bench does not answer as expected, 2 where one is named that does not exist.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from vprobe.environments.guest_kernel import Kernel

from . import document
from .bench import Bench, Result, perform
from .benches import comparisons, load
from .comparison import NOTE, Comparison
from .guest import Answer, distribution_kernel
from .packages import LabError


def main() -> int:
    """Run the benches that were named, all without a name."""
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name the benches and what they are")
    parser.add_argument("--ci", action="store_true", help="only those that CI runs")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep what is read as the record in tests/data/lab, and write docs/labs.md",
    )
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep everything that guests send back in DIR/BENCH")
    parser.add_argument("names", nargs="*", metavar="SUBJECT or BENCH")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    subjects = load()
    everything = [bench for benches in subjects.values() for bench in benches]
    unknown = set(options.names) - set(subjects) - {bench.name for bench in everything}
    if unknown:
        parser.error(f"no such bench: {' '.join(sorted(unknown))}; --list names them")
    chosen = [
        bench
        for subject, benches in subjects.items()
        for bench in benches
        if (not options.names or {subject, bench.name} & set(options.names)) and (bench.in_ci or not options.ci)
    ]
    if options.list:
        for bench in chosen:
            print(f"{bench.name:24} {bench.about}")
        return 0
    kernel = distribution_kernel()
    results = [_announced(bench, kernel, record=options.record, keep=options.keep) for bench in chosen]
    answers = {result.bench.name: result.answer for result in results if result.answer}
    wrong = [result.bench.name for result in results if result.problems]
    for comparison in comparisons():
        if {comparison.plain, comparison.layered} <= set(answers):
            wrong += _compared(comparison, answers, options.keep or Path("build/labs"), record=options.record)
    if options.record:
        document.write(everything)
    print(
        f"{len(results)} benches, {sum(result.wall_s for result in results):.0f} s"
        + (f"; wrong: {' '.join(wrong)}" if wrong else ", all as expected")
    )
    return 1 if wrong else 0


def _announced(bench: Bench, kernel: Kernel, *, record: bool, keep: Path | None) -> Result:
    """Perform one bench, and say how it went and how long it took."""
    print(f"{bench.name}: {bench.about} …", flush=True)
    result = perform(bench, kernel, keep=record)
    if keep and result.answer:
        (keep / bench.name).mkdir(parents=True, exist_ok=True)
        for name, content in {**result.answer.files, "console": result.answer.console.encode()}.items():
            (keep / bench.name / name).write_bytes(content)
    print(f"  {'as expected' if not result.problems else 'WRONG'} after {result.wall_s:.1f} s", flush=True)
    for problem in result.problems:
        print(f"    {problem}", flush=True)
    return result


def _compared(comparison: Comparison, answers: dict[str, Answer], directory: Path, *, record: bool) -> list[str]:
    """Compare two benches' runs, say how it went; the comparison's name where it is wrong."""
    print(f"{comparison.name}: {comparison.about} …", flush=True)
    try:
        problems, rows = comparison.write(answers, directory)
        if record:
            comparison.record(rows)
    except LabError as error:
        problems, rows = [str(error)], []
    for row in rows:
        if row["ratio"] is not None:
            print(f"    {row['workload']:28} {row['ratio']:7.2f} [{row['low']:.2f}, {row['high']:.2f}]")
    print(f"  {NOTE}\n  report: {directory / comparison.name}.html")
    for problem in problems:
        print(f"    {problem}", flush=True)
    return [comparison.name] if problems else []


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (LabError, OSError) as error:
        sys.exit(f"lab: {error}")
