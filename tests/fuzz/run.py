"""Run every fuzzer in turn, and say how much it did: `make fuzz`, or

.venv/bin/python tests/fuzz/run.py [--minutes 60] [--piece-seconds 300] [TARGET...]

The minutes are shared evenly by the targets, in pieces, so that each starts from what the one before found. Inputs that reach
new code are kept in build/fuzz/TARGET and used again; an input that fails is kept as build/fuzz/TARGET-crash-…, and the exit
code is 1. Runs at the lowest priority, on one CPU.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "build" / "fuzz"
TARGETS = sorted(path.stem for path in HERE.glob("probe_*.py"))
MEMORY_MIB, INPUT_SECONDS = 1024, 120
"""An input that takes more is a failure. Seconds are those of the clock: at the lowest priority a busy machine takes its time."""


class Outcome(NamedTuple):
    """What libFuzzer says at the end of one run."""

    executions: int
    seconds: int
    covered_edges: int
    failed: bool


def main() -> int:
    """Run, print one line a target, and return 1 where an input failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--piece-seconds", type=int, default=300)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target is named {unknown[0]}; there are {', '.join(TARGETS)}")
    seconds = int(options.minutes * 60 / len(options.targets or TARGETS))
    return run_all(options.targets or TARGETS, seconds, options.piece_seconds)


def run_all(targets: list[str], seconds_each: int, piece_seconds: int) -> int:
    """Every target for its seconds, in turn; a target that failed is not run again."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in targets}
    left = dict.fromkeys(targets, seconds_each)
    while any(left.values()):
        for name in targets:
            piece = min(left[name], piece_seconds)
            if piece:
                outcomes[name].append(run_target(name, piece))
                left[name] = 0 if outcomes[name][-1].failed else left[name] - piece
                print(_line(name, outcomes[name]), flush=True)
    return int(any(outcome.failed for own in outcomes.values() for outcome in own))


def run_target(name: str, seconds: int) -> Outcome:
    """One piece of one target."""
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    words = [
        *(
            f"-max_total_time={seconds}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MIB}",
            "-print_final_stats=1",
        ),
        *(f"-artifact_prefix={KEPT / name}-", *(f"-dict={path}" for path in HERE.glob(f"{name}.dict"))),
        *(str(corpus), str(HERE / "seeds" / name)),
    ]
    command = [sys.executable, str(HERE / f"{name}.py"), *words]
    done = subprocess.run(
        command, check=False, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=_at_low_priority
    )
    failed = done.returncode != 0
    if failed:
        print(done.stderr[-4000:], file=sys.stderr)
    return Outcome(
        executions=_last_number(r"number_of_executed_units: (\d+)", done.stderr),
        seconds=_last_number(r"in (\d+) second", done.stderr),
        covered_edges=_last_number(r"cov: (\d+)", done.stderr),
        failed=failed,
    )


def _at_low_priority() -> None:
    os.nice(19)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _last_number(pattern: str, text: str) -> int:
    return int((re.findall(pattern, text) or ["0"])[-1])


def _line(name: str, outcomes: list[Outcome]) -> str:
    executions, seconds = sum(one.executions for one in outcomes), sum(one.seconds for one in outcomes)
    verdict = "FAILED" if outcomes[-1].failed else "no failure"
    return f"{name}: {executions} inputs in {seconds} s, {outcomes[-1].covered_edges} edges covered, {verdict}"


if __name__ == "__main__":
    sys.exit(main())
