"""The user's own pytest-benchmark directory, run whole in each arm: a run is a round, and gives each benchmark a sample.

The names of the benchmarks are not known before the first run, and the sides of a variant may have different ones. So one
task, BENCHMARKS, is planned, and its visit becomes a visit for each benchmark, under the name that pytest-benchmark gives it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vprobe.errors import RunError, UsageError
from vprobe.measure.plan import BENCHMARKS
from vprobe.measure.protocol import BenchmarkResult, BenchmarksReply, CommandReply
from vprobe.measure.sessions import Boot
from vprobe.measure.whole_sessions import COMMAND_TIMEOUT_S, check_status, printable
from vprobe.model import Samples, Skipped, WorkloadRecord

PREFIX = "pytest."
MAX_NAME = 300
MAX_BENCHMARKS = 10_000
OPTIONS = ("--benchmark-only", "--benchmark-max-time=0.1", "-q", "-p", "no:cacheprovider")
"""Much shorter than pytest-benchmark's own second for each benchmark, since every round runs all of them again: the noise of
a shared machine is slower than a round then. A benchmark's own mark, and the user's configuration of anything else, hold."""


def relative_path(path: Path, working_directory: Path) -> Path:
    """The user's path as it is in the arms, whose working directory is a work tree where there are git: variants."""
    if not path.exists():
        raise UsageError(f"--pytest {path} does not exist", "name a directory or a file of benchmarks")
    absolute, here = path.resolve(), working_directory.resolve()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def command_line(path: str) -> str:
    """What runs the benchmarks in an arm. `python -m pytest` puts the working directory first among what can be imported,
    so that a work tree wins over an installed version of the same project; of the layout with src/ that is src/."""
    words = shlex.join(["-m", "pytest", path, *OPTIONS])
    variables = 'PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"'
    return f'{variables} exec "$VPROBE_PYTHON" {words}'  # the agent's own interpreter, wherever that is


@dataclass(frozen=True)
class Round:
    """One run in one arm: what all of it took, and its benchmarks by full name."""

    whole: CommandReply
    benchmarks: Mapping[str, BenchmarkResult]


def run_benchmarks(boot: Boot, arm: str, path: str) -> Round:
    """Run all benchmarks once. RunError where one fails, or there is none."""
    channel = boot.channel(arm)
    whole = channel.request({"op": "benchmarks", "command": command_line(path)}, CommandReply, COMMAND_TIMEOUT_S)
    check_status(arm, whole, "pytest", {5: f"{path} has no tests", 4: "pytest was called wrongly"})
    found: dict[str, BenchmarkResult] = {}
    while len(found) < MAX_BENCHMARKS:
        part = channel.request({"op": "results", "start": len(found)}, BenchmarksReply, 30.0)
        found |= {printable(one.name, MAX_NAME): one for one in part.benchmarks}
        if not part.benchmarks:
            break
    if not found:
        raise RunError(f"{arm}: {path} has no benchmark", "a benchmark is a test that uses the fixture `benchmark`")
    return Round(whole, found)


def measure_benchmarks(
    boot: Boot, path: str, orders: Sequence[Sequence[str]], first: Mapping[str, Round]
) -> tuple[dict[str, dict[str, Samples]], list[Skipped]]:
    """Run the benchmarks in every arm, round by round: samples by workload and arm, and who lacks what.

    The workload BENCHMARKS itself is the whole run of pytest. `first`: a run in each arm that is not counted.
    """
    rounds: dict[str, list[Round]] = {arm: [] for arm in first}
    for order in orders:
        for arm in order:
            rounds[arm].append(run_benchmarks(boot, arm, path))
    names = dict.fromkeys(name for runs in rounds.values() for run in runs for name in run.benchmarks)
    samples = {BENCHMARKS: {arm: _whole(runs, first[arm]) for arm, runs in rounds.items()}}
    skipped = []
    for name in names:
        workload = PREFIX + name
        samples[workload] = {}
        for arm, runs in rounds.items():
            if all(name in run.benchmarks for run in runs):
                samples[workload][arm] = _samples([run.benchmarks[name] for run in runs])
            else:
                skipped.append(Skipped(arm, workload, f"{arm} has no benchmark of that name in every run"))
    return {workload: arms for workload, arms in samples.items() if arms}, skipped


def _samples(results: Sequence[BenchmarkResult]) -> Samples:
    """The median of each run is its sample, in ns; its other statistics are details."""
    fields = ("min_ns", "mean_ns", "stddev_ns", "rounds")
    return Samples(
        iterations=1,
        values=tuple(result.median_ns for result in results),
        details={name: tuple(float(getattr(result, name)) for result in results) for name in fields},
    )


def _whole(runs: Sequence[Round], first: Round) -> Samples:
    fields = ("user_ns", "system_ns", "peak_bytes")
    return Samples(
        iterations=1,
        values=tuple(float(run.whole.ns) for run in runs),
        inside_ns=tuple(float(run.whole.ns) for run in runs),
        warmup_ns=(float(first.whole.ns),),
        details={name: tuple(float(getattr(run.whole, name)) for run in runs) for name in fields},
    )


def records(names: Sequence[str], whole: WorkloadRecord) -> Iterator[WorkloadRecord]:
    """The workloads that the run of benchmarks turned out to hold, in the order in which pytest ran them."""
    for name in dict.fromkeys(names):
        if name.startswith(PREFIX) and name != whole.name:
            yield msgspec.structs.replace(whole, name=name)
