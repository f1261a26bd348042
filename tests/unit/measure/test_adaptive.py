"""Adaptive runs: looks, what goes on after one, and a resumed run that decides the same."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from vprobe.errors import RunError
from vprobe.measure.engine import measure
from vprobe.measure.fingerprint import host_facts
from vprobe.measure.plan import (
    PRESETS,
    Plan,
    automatic_budget_s,
    choose_environments,
    looks_for,
    make_arms,
    make_tasks,
    select,
)
from vprobe.model import Run
from vprobe.probe import probe_host

ALL = {"cpu.integer_chain", "cpu.zlib"}


def small_plan() -> Plan:
    """Two workloads on bare, with looks after 1, 2 and 3 boots."""
    chosen, _ = choose_environments(["bare"])
    arms = make_arms(chosen, [])
    tasks, skipped = make_tasks(select(sorted(ALL), False), host_facts(0), arms)
    preset = replace(PRESETS["quick"], rounds=2, block_ns=100_000)
    return Plan(arms, tasks, skipped, preset, seed=1, cpus=(0,), looks=(1, 2, 3))


def boots_of(run: Run, workload: str) -> list[int]:
    """Boots in which a workload was measured."""
    return [visit.boot for visit in run.visits if visit.workload == workload]


def test_looks_are_early_and_at_most_three() -> None:
    """The first look comes early, and never before its share of alpha can be reached."""
    assert looks_for(9) == (9, 18, 36)
    assert looks_for(20) == (10, 20, 40)


def test_only_what_is_open_goes_on(tmp_path: Path) -> None:
    """After the first look one workload is answered and has no further visit; after the second nothing is left to do."""
    asked: list[int] = []

    def still_open(run: Run) -> Collection[str]:
        boots = len({visit.boot for visit in run.visits})
        asked.append(boots)
        return {"cpu.zlib"} if boots == 1 else ()

    run = measure(small_plan(), probe_host().document(), tmp_path / "run.json", still_open=still_open)
    assert asked == [1, 2]
    assert (boots_of(run, "cpu.integer_chain"), boots_of(run, "cpu.zlib")) == ([0], [0, 1])
    assert run.looks == (1, 2, 3)


def test_the_last_look_is_the_end(tmp_path: Path) -> None:
    """What stays open is measured until the last look and not beyond."""
    run = measure(small_plan(), probe_host().document(), tmp_path / "run.json", still_open=lambda _: ALL)
    assert boots_of(run, "cpu.zlib") == [0, 1, 2]


def test_a_resumed_run_looks_at_the_same_boots(tmp_path: Path) -> None:
    """A run that broke after its second boot asks again of the first boot alone, and goes on with the same workloads."""
    seen: list[tuple[int, ...]] = []

    def still_open(run: Run) -> Collection[str]:
        boots = tuple(sorted({visit.boot for visit in run.visits}))
        seen.append(boots)
        if boots == (0, 1) and seen.count(boots) == 1:
            raise RunError("the power went")
        return {"cpu.zlib"}

    probe, output = probe_host().document(), tmp_path / "run.json"
    with pytest.raises(RunError):
        measure(small_plan(), probe, output, still_open=still_open)
    run = measure(small_plan(), probe, output, resume=True, still_open=still_open)
    assert seen == [(0,), (0, 1), (0,), (0, 1)]
    assert (boots_of(run, "cpu.integer_chain"), boots_of(run, "cpu.zlib")) == ([0], [0, 1, 2])


def test_a_time_budget_ends_a_run_after_the_fewest_boots(tmp_path: Path) -> None:
    """A run that is late from the start measures as many boots as an interval needs, and none beyond them."""
    plan = small_plan()
    plan = replace(plan, looks=(), preset=replace(plan.preset, boots=4), time_budget_s=0.001, fewest_boots=2)
    assert boots_of(measure(plan, probe_host().document(), tmp_path / "run.json"), "cpu.zlib") == [0, 1]


def test_more_environments_get_more_time() -> None:
    """A quick run over all environments may take 90 s for up to five arms and 15 s for each further one."""
    assert [automatic_budget_s(arms) for arms in (2, 5, 6, 15)] == [90, 90, 105, 240]
