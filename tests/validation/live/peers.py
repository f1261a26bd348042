"""Today's tools and vprobe on the same work with the same injected change, for about the same time a verdict.

Each function judges base against head, which does `factor` times the work, and says whether its tool calls head slower.
All run what they measure pinned to one CPU, as vprobe does.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from vprobe.analysis.estimate import minimum_boots
from vprobe.measure.plan import COMMAND, PRESETS, within
from vprobe.measure.priority import NICENESS

from . import loop_agent, sessions

LOOP = 4_000
COMMAND_LOOP = 300_000
CALIBRATION_NS = 2_000_000_000
"""For finding out what the command takes."""
TOTAL_S = 5.0
"""What a verdict takes on a quiet machine, whichever tool gives it."""
PYTEST_S = 0.7
"""Of it, for each start of pytest."""
PYPERF_SHORT = ("-p", "5", "-n", "4", "-l", "128", "-w", "1")
"""Five processes of four values; its own --fast, of ten, finds out loops by itself and takes three times as long."""
LOOP_FILE = Path(__file__).with_name("loop.py")
LOOP_SOURCE = LOOP_FILE.read_text().partition("if __name__")[0]

BENCHMARK = f"""
import os
{LOOP_SOURCE}def test_loop(benchmark):
    benchmark(loop, int(os.environ["LOOP"]))
"""


def quiet(words: list[str], directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a tool on the measured CPU, at the priority that vprobe gives to what it measures, where that is allowed.

    In a session of its own, whose group is raised, too, where the kernel balances sessions (sched(7), autogroup).
    """
    cpu = str(max(os.sched_getaffinity(0)))
    raised = f'echo {NICENESS} >/proc/self/autogroup; exec nice -n {NICENESS} "$@"'
    first = ["sh", "-c", raised, "sh"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*first, "taskset", "-c", cpu, *words],
        start_new_session=True,
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def pytest_benchmark(factor: float, directory: Path) -> bool:
    """--benchmark-compare-fail=median:3%, the option that CI recipes use."""
    (directory / "test_loop.py").write_text(BENCHMARK)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"]
    words += ["--benchmark-storage=.", "--rootdir=."]
    words += [f"--benchmark-max-time={TOTAL_S / 2 - PYTEST_S}", "--benchmark-warmup=off"]
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins would take of its time
    first = quiet([*words, "--benchmark-save=base"], directory, LOOP=str(LOOP), **alone)
    assert first.returncode == 0, first.stdout + first.stderr
    more = ["--benchmark-compare=0001", "--benchmark-compare-fail=median:3%"]
    second = quiet([*words, *more], directory, LOOP=str(round(LOOP * factor)), **alone)
    failed = "Performance has regressed" in second.stdout + second.stderr
    assert failed or second.returncode == 0, second.stdout + second.stderr
    return failed


def looping(iterations: int) -> str:
    """The loop as a command."""
    return f"{sys.executable} -I -S {LOOP_FILE} {iterations}"


@functools.cache
def command_s() -> tuple[float, float]:
    """What the command takes, and what of it is the interpreter's start: the shortest of runs in turn, in vprobe's own way."""
    preset = replace(PRESETS["quick"], boots=1, command_budget_ns=CALIBRATION_NS)
    words = {sessions.BASE: looping(COMMAND_LOOP), "start": looping(0)}
    run, _ = sessions.session(preset, (), {"start": 1.0}, words)
    samples = run.visits[0].samples
    whole_ns, start_ns = (min(samples[arm].values) for arm in ("bare/base", "bare/start"))
    return whole_ns / 1e9, start_ns / 1e9


def command(factor: float) -> str:
    """The command with so many times the work of the whole: the loop has all of what is more, since the start stays as it is."""
    whole_s, start_s = command_s()
    return looping(round(COMMAND_LOOP * (1 + (factor - 1) * whole_s / (whole_s - start_s))))


def hyperfine(factor: float, directory: Path) -> bool:
    """hyperfine, and the Welch test of its own scripts at 5 %."""
    runs = max(3, round(TOTAL_S / 2 / command_s()[0]))
    words = ["hyperfine", "--style=none", "-N", "--warmup=2", f"--runs={runs}", "--export-json=out.json"]
    done = quiet([*words, command(1.0), command(factor)], directory)
    assert done.returncode == 0, done.stderr
    base, head = (one["times"] for one in json.loads((directory / "out.json").read_text())["results"])
    p = float(stats.ttest_ind(head, base, equal_var=False).pvalue)
    return p < 0.05 and float(np.mean(head)) > float(np.mean(base))


def pyperf(factor: float, directory: Path) -> bool:
    """pyperf timeit, with fewer processes and nothing to find out first, so that both sides take no longer; compare_to."""
    words = [sys.executable, "-m", "pyperf", "timeit", *PYPERF_SHORT, "-q"]
    for name, work in (("base", LOOP), ("head", round(LOOP * factor))):
        done = quiet([*words, "-o", f"{name}.json", "-s", LOOP_SOURCE, f"loop({work})"], directory)
        assert done.returncode == 0, done.stderr
    said = quiet([sys.executable, "-m", "pyperf", "compare_to", "base.json", "head.json"], directory).stdout
    return "slower" in said and "not significant" not in said


SAMPLER = f"""
import json, sys, time
{LOOP_SOURCE}n, seconds = int(sys.argv[1]), float(sys.argv[2])
clock = time.perf_counter
end, calls = clock() + seconds / 4, 0
while clock() < end:
    loop(n); calls += 1
per_sample = max(1, round(calls * 3 / 100))
samples = []
for _ in range(100):
    begin = clock()
    for _ in range(per_sample): loop(n)
    samples.append((clock() - begin) / per_sample)
print(json.dumps(samples))
"""


def bootstrap(factor: float, directory: Path) -> bool:
    """As criterion.rs judges: 100 samples a side after a warm-up; a t test by the bootstrap of both together at 5 %, and the
    bootstrapped interval of the change wholly above its noise threshold of 1 %."""
    sides = []
    for work in (LOOP, round(LOOP * factor)):
        done = quiet([sys.executable, "-c", SAMPLER, str(work), str(TOTAL_S / 2 - 0.1)], directory)
        sides.append(np.array(json.loads(done.stdout)))
    base, head = sides
    random = np.random.default_rng()

    def t_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        spread = one.var(axis=-1, ddof=1) / one.shape[-1] + other.var(axis=-1, ddof=1) / other.shape[-1]
        return np.asarray((one.mean(axis=-1) - other.mean(axis=-1)) / np.sqrt(spread))

    mixed = np.concatenate([base, head])
    resampled = random.choice(mixed, (10_000, 2, len(base)))
    p = float(np.mean(np.abs(t_of(resampled[:, 0], resampled[:, 1])) >= abs(float(t_of(head, base)))))
    changes = random.choice(head, (10_000, len(head))).mean(axis=1) / random.choice(base, (10_000, len(base))).mean(
        axis=1
    )
    return p < 0.05 and float(np.percentile(changes, 2.5)) > 1.01


def vprobe_blocks(factor: float, directory: Path) -> bool:
    """vprobe: the loop in blocks, in as few boots as can give an interval, and the gate at the limit 0 %."""
    del directory
    preset = replace(PRESETS["quick"], boots=minimum_boots())
    run, _ = sessions.session(preset, [loop_agent.NAME], {"head": factor})
    return sessions.fails(sessions.verdicts(run, "head")[loop_agent.NAME])


def vprobe_command(factor: float, directory: Path) -> bool:
    """vprobe --command: the commands that hyperfine runs, and the gate at the limit 0 %."""
    del directory
    boots = minimum_boots()
    preset = within(replace(PRESETS["quick"], boots=boots), TOTAL_S, boots)
    run, _ = sessions.session(preset, [], {"head": factor}, {"base": command(1.0), "head": command(factor)})
    return sessions.fails(sessions.verdicts(run, "head")[COMMAND])


BLOCKS, COMMAND_RUNS, HYPERFINE = "vprobe, a loop in blocks", "vprobe --command", "hyperfine and Welch's test"

TOOLS: dict[str, Callable[[float, Path], bool]] = {
    "pytest-benchmark --benchmark-compare-fail=median:3%": pytest_benchmark,
    HYPERFINE: hyperfine,
    "pyperf and compare_to": pyperf,
    "criterion-like bootstrap": bootstrap,
    BLOCKS: vprobe_blocks,
    COMMAND_RUNS: vprobe_command,
}


def judge(tool: str, factor: float) -> bool:
    """One verdict of one tool, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="vprobe-peers-") as directory:
        return TOOLS[tool](factor, Path(directory))
