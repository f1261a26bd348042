"""The pytest front end: `pytest --pyargs vprobe.suites --vprobe-env bare,runc,kvm --benchmark-json out.json`.

A session fixture has the engine measure what was collected, side by side as `vprobe bench` does. Then each test, a workload in
an arm, replays its samples to pytest-benchmark through a clock that stands still but for them, so that pytest-benchmark's
tables, storage and comparisons work on what the engine measured. Nothing of vprobe is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vprobe.measure.plan import Plan
    from vprobe.model import Run

PLAN = pytest.StashKey["Plan"]()
FIXTURE = "vprobe_replay"
NS = 1e-9


class Clock:
    """A clock that a replay moves on by one sample a call."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


_clock = Clock()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `vprobe bench` that make sense here."""
    group = parser.getgroup("vprobe", "vprobe: workloads in environments, side by side")
    group.addoption("--vprobe-env", default="auto", metavar="NAMES", help="Environments, by commas [default: auto].")
    group.addoption("--vprobe-preset", default="quick", metavar="NAME", help="Preset [default: quick].")
    group.addoption("--vprobe-select", action="append", default=[], metavar="GLOB", help="Workloads; * and ? are wild.")
    group.addoption("--vprobe-boots", metavar="N", help="Boots [default: the preset's].")
    group.addoption(
        "--vprobe-output", metavar="RUN.json", help="Keep the run file, for vprobe compare, gate and report."
    )


def _plan(config: pytest.Config) -> Plan:
    """What is to be measured; made once a session. UsageError of pytest where vprobe has one, or an environment lacks."""
    if PLAN not in config.stash:
        config.stash[PLAN] = _make_plan(config)
    return config.stash[PLAN]


def _make_plan(config: pytest.Config) -> Plan:
    import click  # noqa: PLC0415 - see the module's docstring
    from rich.console import Console  # noqa: PLC0415

    from vprobe.cli import bench  # noqa: PLC0415
    from vprobe.errors import VprobeError  # noqa: PLC0415

    arguments = ["--env", config.getoption("vprobe_env"), "--preset", config.getoption("vprobe_preset")]
    for pattern in config.getoption("vprobe_select"):
        arguments += ["--select", pattern]
    if config.getoption("vprobe_boots"):
        arguments += ["--boots", config.getoption("vprobe_boots")]
    try:
        context = bench.command.make_context("bench", list(arguments))
        options = bench.Options(**context.params)
        return bench.make_plan(options, bench.seed_for(options), ("vprobe", "bench", *arguments), Console(stderr=True))
    except click.ClickException as error:
        raise pytest.UsageError(error.format_message()) from None
    except VprobeError as error:
        raise pytest.UsageError(f"{error}; {error.hint}" if error.hint else str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each workload in each arm that can run it, in pytest-benchmark's groups by workload."""
    if FIXTURE not in metafunc.fixturenames:
        return
    plan = _plan(metafunc.config)
    rows = [
        pytest.param(
            (task.name, arm.name),
            id=f"{task.name}@{arm.name}",
            marks=pytest.mark.benchmark(group=task.name, timer=_clock),
        )
        for task in plan.tasks
        for arm in plan.arms_for(task)
    ]
    metafunc.parametrize(FIXTURE, rows, indirect=True)


def _collected(session: pytest.Session) -> set[tuple[str, str]]:
    """(workload, arm) of the tests that are left after -k and the like."""
    functions = [item for item in session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    rows: list[Any] = [item.callspec.params.get(FIXTURE) for item in functions]
    return {row for row in rows if row is not None}


@pytest.fixture(scope="session")
def vprobe_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What the engine measured for the tests of this session."""
    from dataclasses import replace  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from vprobe.cli import bench  # noqa: PLC0415
    from vprobe.measure.plan import BASE, CONTROL  # noqa: PLC0415

    plan, collected = _plan(request.config), _collected(request.session)
    workloads, arms = {workload for workload, _ in collected}, {arm for _, arm in collected}
    plan = replace(
        plan,
        tasks=tuple(task for task in plan.tasks if task.name in workloads),
        arms=tuple(arm for arm in plan.arms if arm.name in arms or arm.environment.name in (BASE, CONTROL)),
    )
    named = request.config.getoption("vprobe_output")
    output = Path(named) if named else tmp_path_factory.mktemp("vprobe") / "run.json"
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return bench.measure_shown(plan, output, Console(stderr=True))


def _seconds(run: Run, workload: str, arm: str) -> Iterator[float]:
    """The samples of a workload in an arm as pytest-benchmark counts: seconds an operation, or seconds a byte."""
    (record,) = (one for one in run.workloads if one.name == workload)
    for visit in run.visits:
        if visit.workload == workload and visit.excluded is None and arm in visit.samples:
            for value in visit.samples[arm].values:
                yield 1 / value if record.better == "higher" else value * NS


@pytest.fixture
def vprobe_replay(request: pytest.FixtureRequest, vprobe_run: Run, benchmark: Any) -> Callable[[], None]:
    """Gives the samples of this test's workload and arm to pytest-benchmark."""
    import msgspec  # noqa: PLC0415

    workload, arm = request.param

    def replay() -> None:
        if not any(workload == record.name for record in vprobe_run.workloads):
            samples: list[float] = []
        else:
            samples = list(_seconds(vprobe_run, workload, arm))
        if not samples:
            reasons = [one.reason for one in vprobe_run.skipped if (one.workload, one.arm) == (workload, arm)]
            pytest.skip(reasons[0] if reasons else "not measured")
        (record,) = (one for one in vprobe_run.workloads if one.name == workload)
        benchmark.extra_info.update(
            workload=workload,
            arm=arm,
            unit=record.unit,
            seconds_are="s a byte" if record.better == "higher" else "s an operation",
            boots=len({visit.boot for visit in vprobe_run.visits if visit.workload == workload}),
            fingerprint=msgspec.to_builtins(vprobe_run.fingerprint),
        )
        left = iter(samples)

        def next_sample() -> None:
            _clock.now_s += next(left, 0.0)  # pytest-benchmark calls once more than there are rounds

        _clock.now_s = 0.0
        benchmark.pedantic(next_sample, rounds=len(samples), iterations=1)

    return replay
