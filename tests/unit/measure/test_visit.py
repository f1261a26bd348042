"""Visits: what excludes them, what their values mean, and that an impostor is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from vprobe.suites import HostFacts, KernelCall

from vprobe.errors import RunError
from vprobe.measure.engine import measure
from vprobe.measure.noise import Reading, between
from vprobe.measure.plan import PRESETS, Plan, Task, make_arms, make_tasks, select
from vprobe.measure.sessions import refuse_impostor
from vprobe.measure.visit import exclusion, value_of
from vprobe.model import Kind, Noise, Samples, WorkloadRecord

from .stand_in import StandIn

QUIET = Noise(0.0, 0, 0.0, 1.0, 1.0)
PROBE = {"cpu": {"brand": "x", "microcode": None}, "mitigations": {}, "kvm": {"backend": None}}


def test_only_signals_that_know_no_arm_exclude_a_visit() -> None:
    """Stolen time and clocks that disagree exclude; a slow value does not."""
    slow = {"bare": Samples(1, (1.0,), (100.0,), (110.0,)), "kvm": Samples(1, (900.0,), (90_000.0,), (90_020.0,))}
    assert exclusion(QUIET, slow) is None
    assert "stolen" in (exclusion(Noise(0.5, 0, 0.0, None, None), slow) or "")
    fast_clock = {"kvm": Samples(1, (1.0,), (200.0,), (150.0,))}
    assert "kvm disagree" in (exclusion(QUIET, fast_clock) or "")


def test_values_are_in_the_workloads_unit() -> None:
    """10 iterations of 24 bytes in 60 ns are 4 GB/s; 10 iterations in 60 ns are 6 ns each."""
    stream = Task(
        WorkloadRecord("m", "B/s", "higher", Kind.KERNEL, {}), frozenset(), KernelCall("t", bytes_per_iteration=24)
    )
    chain = Task(WorkloadRecord("c", "ns", "lower", Kind.KERNEL, {}), frozenset(), KernelCall("c"))
    assert value_of(stream, 60, 10) == pytest.approx(4e9)
    assert value_of(chain, 60, 10) == 6


def test_noise_is_a_difference_and_unknown_stays_unknown() -> None:
    """A counter that cannot be read is None, not zero."""
    noise = between(Reading(1.0, 10, None), Reading(3.0, 110, 5), 3, None, None)
    assert noise.steal == 0.5 and noise.psi_cpu is None and noise.involuntary_switches == 3


@pytest.mark.parametrize(
    ("boundary", "seen"),
    [
        ({"namespaces.pid"}, {"namespaces": {"pid": 1}}),
        ({"namespaces.pid"}, {"namespaces": {}}),
        ({"namespaces.pid", "root_mount"}, {"namespaces": {"pid": 2}, "root_mount": "/"}),
        ({"microvm.nonce"}, {"microvm": {"nonce": 8}}),
        ({"microvm.nonce"}, {}),
        ({"root_mount"}, {"root_mount": None}),
    ],
)
def test_a_session_that_is_not_where_it_says_is_refused(boundary: set[str], seen: dict[str, object]) -> None:
    """Evidence that equals bare's, is missing, or is not what was planted ends the run."""
    bare = {"namespaces": {"pid": 1}, "root_mount": "/"}
    with pytest.raises(RunError, match=r"not where it says|does not show"):
        refuse_impostor(StandIn("c", boundary=frozenset(boundary)), seen, bare, nonce=7)


def test_a_session_that_is_where_it_says_is_believed() -> None:
    """Everything that the boundary names differs, and the planted number is seen."""
    bare = {"namespaces": {"pid": 1}, "root_mount": "/"}
    seen = {"namespaces": {"pid": 2}, "root_mount": "/x", "microvm": {"nonce": 7}}
    boundary = frozenset({"namespaces.pid", "root_mount", "microvm.nonce"})
    refuse_impostor(StandIn("c", boundary=boundary), seen, bare, nonce=7)


def plan(names: list[StandIn], patterns: list[str], boots: int = 2) -> Plan:
    """A small plan over stand-ins."""
    arms = make_arms(names, [])
    tasks, skipped = make_tasks(select(patterns, False), HostFacts({}), arms)
    return Plan(arms, tasks, skipped, replace(PRESETS["quick"], boots=boots), 3, (0,))


def test_an_agent_on_the_host_that_claims_a_boundary_breaks_the_run(tmp_path: Path) -> None:
    """The engine refuses a stand-in that runs the agent on the host under a container's name."""
    liar = StandIn("runc", boundary=frozenset({"namespaces.pid"}))
    with pytest.raises(RunError, match="runc: the session is not where it says"):
        measure(plan([StandIn("bare"), StandIn("bare-aa"), liar], ["cpu.sha256"]), PROBE, tmp_path / "run.json")


def test_the_engine_measures_python_in_stand_ins(tmp_path: Path) -> None:
    """A run over plain processes has every boot, every round, and orders drawn from the square."""
    run = measure(
        plan([StandIn("bare"), StandIn("bare-aa")], ["cpu.sha256", "lifecycle.start"]), PROBE, tmp_path / "run.json"
    )
    assert {(visit.boot, visit.workload) for visit in run.visits} == {
        (boot, name) for boot in (0, 1) for name in ("cpu.sha256", "lifecycle.start")
    }
    for visit in run.visits:
        assert set(visit.rows) <= set(range(len(run.square))) and set(visit.samples) == {"bare", "bare-aa"}
        assert all(len(samples.values) == len(visit.rows) for samples in visit.samples.values())
