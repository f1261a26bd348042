"""Real sessions with known truth: bare, its control, and variants of bare that do so many times the work."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from vprobe.analysis import compare
from vprobe.analysis.gate import gate
from vprobe.analysis.rules import parse_rule
from vprobe.environments import Launch, Session
from vprobe.environments.bare import Bare
from vprobe.measure.engine import measure
from vprobe.measure.fingerprint import host_facts
from vprobe.measure.plan import Plan, PlannedArm, Preset, command_task, make_tasks, select
from vprobe.measure.variants import Variant
from vprobe.model import Arm, GateReport, GateVerdict, Run
from vprobe.probe import probe_host

from . import loop_agent

BASE = "base"
FAIL = GateVerdict.FAIL.value


@dataclass(frozen=True)
class LoopBare(Bare):
    """bare, whose agent also has the loop."""

    def start(self, launch: Launch) -> Session:
        """Start the agent with the loop in place of the plain one."""
        python, _, _, options = launch.argv
        return super().start(replace(launch, argv=(python, loop_agent.__file__, options)))


def arms_of(effects: Mapping[str, float], commands: Mapping[str, str]) -> tuple[PlannedArm, ...]:
    """bare/base, bare-aa, and bare/NAME for each effect; commands are in place of work factors."""
    bare, control = LoopBare("bare"), LoopBare("bare-aa")
    base = Variant(BASE, command=commands.get(BASE))
    arms = [
        PlannedArm(Arm("bare/base", "bare", BASE), bare, base),
        PlannedArm(Arm("bare-aa", "bare-aa", BASE), control, base),
    ]
    for name, factor in effects.items():
        variant = Variant(name, command=commands.get(name))
        work = 1.0 if commands else factor
        arms.append(PlannedArm(Arm(f"bare/{name}", "bare", name), bare, variant, work))
    return tuple(arms)


def session(
    preset: Preset, workloads: Sequence[str], effects: Mapping[str, float], commands: Mapping[str, str] | None = None
) -> tuple[Run, float]:
    """Measure once: the run, and the seconds it took. A command for each variant measures these instead of workloads."""
    arms = arms_of(effects, commands or {})
    cpu = max(os.sched_getaffinity(0))
    own = [command_task(None)] if commands else []
    chosen = () if commands else select(workloads, False)
    tasks, skipped = make_tasks(chosen, host_facts(cpu), arms, own)
    plan = Plan(arms, tasks, skipped, preset, secrets.randbits(32), (cpu,))
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vprobe-validation-") as directory:
        run = measure(plan, probe_host().document(), Path(directory) / "run.json")
    return run, time.monotonic() - began_s


def verdicts(run: Run, variant: str, boots: int | None = None, limit: str = "0%") -> dict[str, str]:
    """What the gate says of one variant against base, by workload, had this been the only one and so many boots long.

    FAIL, or another verdict with its reason.
    """
    kept = {"bare/base", "bare-aa", f"bare/{variant}"}
    visits = tuple(
        msgspec.structs.replace(visit, samples={arm: visit.samples[arm] for arm in visit.samples if arm in kept})
        for visit in run.visits
        if boots is None or visit.boot < boots
    )
    arms = tuple(arm for arm in run.arms if arm.name in kept)
    found: dict[str, str] = {}
    for workload in run.workloads:
        one = msgspec.structs.replace(
            run,
            arms=arms,
            workloads=(workload,),
            visits=tuple(visit for visit in visits if visit.workload == workload.name),
            square=tuple(tuple(name for name in row if name in kept) for row in run.square),
        )
        report = gate(one, [parse_rule(f"*@bare<={limit} vs {BASE}")])
        reason = next((row.reason for row in report.rules if row.verdict == report.verdict), "")
        found[workload.name] = FAIL if report.verdict == FAIL else f"{report.verdict.value}: {reason}"
    return found


def judged(run: Run, limit: str = "0%") -> GateReport:
    """All workloads of a run with one variant beside base, together."""
    return gate(run, [parse_rule(f"*@bare<={limit} vs {BASE}")])


def ratios(run: Run, variant: str) -> dict[str, float]:
    """Head against base, by workload."""
    rows = compare(run, base="bare/base").comparisons
    return {row.workload: row.ratio for row in rows if row.arm == f"bare/{variant}" and row.ratio is not None}


def own_seconds(run: Run, variant: str) -> dict[str, float]:
    """The blocks of base, control and one variant, by workload: what they would have taken without the others."""
    kept = ("bare/base", "bare-aa", f"bare/{variant}")
    found: dict[str, float] = {}
    for visit in run.visits:
        for arm in kept:
            samples = visit.samples[arm]
            spent_ns = sum(samples.outside_ns or samples.inside_ns or ()) + (
                0 if samples.outside_ns else sum(samples.warmup_ns)
            )
            found[visit.workload] = found.get(visit.workload, 0.0) + spent_ns / 1e9
    return found


def fails(verdict: str) -> bool:
    """Whether the gate fails."""
    return verdict == FAIL
