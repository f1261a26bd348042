"""How fast the engine is, and how the length of a block was chosen."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from vprobe.environments import Unavailable, get, names
from vprobe.environments.sessions import open_run
from vprobe.measure import engine
from vprobe.measure.calibration import BlockSize
from vprobe.measure.channel import Channel
from vprobe.measure.engine import measure
from vprobe.measure.fingerprint import host_facts
from vprobe.measure.plan import (
    BASE,
    CONTROL,
    PRESETS,
    Plan,
    PlannedArm,
    Preset,
    choose_environments,
    make_arms,
    make_tasks,
    select,
)
from vprobe.measure.protocol import Reply
from vprobe.measure.schedule import visit_source
from vprobe.measure.sessions import Site, controller_beside, started
from vprobe.model import Arm, Run, Visit
from vprobe.probe import probe_host

Row = dict[str, Any]
ECHO = """
import os
while True:
    line = os.read(0, 65536)
    if not line:
        break
    os.write(1, line)
"""
TRIPS = 3000
LENGTHS_MS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
ARM_MS = 30.0
"""Blocks of an arm in a visit, whatever their length."""
FIVE_ARMS = ("bare", "namespaces", "runc", "kvm")
"""With bare's twin."""
CHOSEN_MS = 0.5
"""The length at which the number of rounds is varied: default's."""
ROUNDS = (8, 15, 30, 60)
SWEEP_BOOTS = 8
SWEEP_WORKLOADS = ("cpu.integer_chain", "cpu.zlib", "memory.chase[64MiB]", "system.pipe_round_trip")
"""A kernel, Python, memory, and the scheduler."""
TOGETHER = 5
"""Environments in one session: bare is compared with as many as a user would."""


def trips(channel: Channel, there: int, back: int, count: int) -> tuple[list[int], list[int]]:
    """ns of round trips to an agent, and of as many to an echo over plain pipes, in turn."""
    ours, plain = [], []
    line = b'{"op":"ping","id":12345}\n'
    for _ in range(count):
        before = time.perf_counter_ns()
        channel.request({"op": "ping"}, Reply, 10)
        middle = time.perf_counter_ns()
        os.write(there, line)
        os.read(back, 65536)
        after = time.perf_counter_ns()
        ours.append(middle - before)
        plain.append(after - middle)
    return ours, plain


def round_trip() -> Row:
    """Median round trip to an agent on bare, and over a plain pipe between two Python processes, on the same CPU."""
    cpu = max(os.sched_getaffinity(0))
    arm = PlannedArm(Arm("bare", "bare"), get("bare"))
    words = ["taskset", "-c", str(cpu), sys.executable, "-I", "-S", "-c", ECHO]
    with open_run() as directory, started(arm, Site(directory, Path.cwd(), 1.0)) as agent:
        agent.channel.request({"op": "pin", "cpus": [cpu]}, Reply, 10)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo, controller_beside((cpu,)):
            assert echo.stdin and echo.stdout
            ends = echo.stdin.fileno(), echo.stdout.fileno()
            trips(agent.channel, *ends, TRIPS // 10)
            ours, plain = trips(agent.channel, *ends, TRIPS)
            echo.stdin.close()
    return {"agent_us": statistics.median(ours) / 1000, "pipe_us": statistics.median(plain) / 1000}


def planned(names: list[str], workloads: list[str], preset: Any, seed: int) -> Plan:
    """A plan on the measured CPU."""
    chosen, _ = choose_environments(names)
    arms = make_arms(chosen, [])
    cpu = max(os.sched_getaffinity(0))
    second = max(os.sched_getaffinity(0) - {cpu}, default=None)
    tasks, skipped = make_tasks(select(workloads, False, preset), host_facts(cpu), arms, second_cpu=second)
    return Plan(arms, tasks, skipped, preset, seed, (cpu,), second_cpu=second)


def measured(plan: Plan) -> Run:
    """Its run."""
    with tempfile.TemporaryDirectory(prefix="vprobe-validation-") as directory:
        return measure(plan, probe_host().document(), Path(directory) / "run.json")


@dataclass
class Clocked(engine.Engine):
    """An engine that notes what its boots take in all, and its visits by boot and workload."""

    boot_s: dict[int, float] = field(default_factory=dict)
    spent_s: dict[tuple[int, str], float] = field(default_factory=dict)

    def _boot(self, number: int) -> None:
        began_s = time.monotonic()
        super()._boot(number)
        self.boot_s[number] = time.monotonic() - began_s

    def _visit(self, this: Any, task: Any, number: int, canary_channel: Any) -> None:
        began_s = time.monotonic()
        super()._visit(this, task, number, canary_channel)
        self.spent_s[number, task.name] = time.monotonic() - began_s


def blocks_s(run: Run) -> dict[tuple[int, str], float]:
    """Seconds in blocks, warm-ups included, by boot and workload; of workloads that have blocks.

    By the agents' own clocks, so that the way there and back is not part of it.
    """
    found: dict[tuple[int, str], float] = {}
    for visit in run.visits:
        for samples in visit.samples.values():
            if samples.outside_ns and samples.inside_ns:
                key = visit.boot, visit.workload
                found[key] = found.get(key, 0.0) + (sum(samples.inside_ns) + sum(samples.warmup_ns)) / 1e9
    return found


def overhead(environments: Sequence[str] = FIVE_ARMS, boots: int = 3) -> Row:
    """Share of the visits of a default run that is not spent in blocks, warm-ups counted as blocks; and what it takes in all.

    Some boots of it are measured: the first calibrates, the others stand for all that follow. Workloads whose round is a
    whole run of something have no blocks and are left out.
    """
    preset = PRESETS["default"]
    made: list[Clocked] = []

    def make(*arguments: Any) -> Clocked:
        made.append(Clocked(*arguments))
        return made[0]

    with mock.patch.object(engine, "Engine", make):
        run = measured(planned(list(environments), [], replace(preset, boots=boots), 1))
    blocks = blocks_s(run)
    weights = {boot: 1.0 if boot == 0 else (preset.boots - 1) / (boots - 1) for boot in range(boots)}

    def share(keys: Iterable[tuple[int, str]]) -> float:
        keys = list(keys)
        spent = sum(weights[boot] * made[0].spent_s[boot, name] for boot, name in keys)
        return 1 - sum(weights[boot] * blocks[boot, name] for boot, name in keys) / spent

    workloads = sorted({name for _, name in blocks})
    return {
        "share": share(blocks),
        "by_boot": [share(key for key in blocks if key[0] == boot) for boot in range(boots)],
        "run_s": sum(weights[boot] * seconds for boot, seconds in made[0].boot_s.items()),
        "by_workload": {name: round(share(key for key in blocks if key[1] == name), 3) for name in workloads},
        "arms": [arm.name for arm in run.arms],
    }


@dataclass
class Sweep(engine.Engine):
    """An engine whose visit is one of each length of block, in an order that is drawn anew each time."""

    found: dict[float, list[Visit]] = field(default_factory=lambda: {length: [] for length in LENGTHS_MS})
    frozen: dict[float, tuple[dict[tuple[str, str], BlockSize], dict[str, int]]] = field(
        default_factory=lambda: {length: ({}, {}) for length in LENGTHS_MS}
    )
    length_ms: float = 0.0

    def _block_visit(self, this: Any, task: Any, number: int, watch: Any) -> None:
        plan = self.plan
        for length_ms in visit_source(plan.seed, number, task.name).sample(LENGTHS_MS, len(LENGTHS_MS)):
            self.length_ms = length_ms
            self.plan = replace(plan, preset=preset_of(length_ms))
            self.sizes, self.rounds = self.frozen[length_ms]
            super()._block_visit(this, task, number, watch)
        self.plan = plan

    def _append(self, visit: Visit, skipped: Any = ()) -> None:
        self.found[self.length_ms].append(visit)
        if self.length_ms == CHOSEN_MS:  # a run file has one visit of a workload in a boot
            super()._append(visit, skipped)


def preset_of(length_ms: float) -> Preset:
    """Blocks of one length that add up to ARM_MS in each arm."""
    rounds = max(2, round(ARM_MS / length_ms))
    return replace(
        PRESETS["default"], boots=SWEEP_BOOTS, rounds=rounds, block_ns=round(length_ms * 1e6), visit_budget_ns=10**12
    )


def spread(visits: Sequence[Visit], workload: str, arm: str, rounds: int | None = None) -> float | None:
    """Standard deviation between boots of the median of ln(arm / bare) over a visit's first rounds; None for too few boots."""
    effects = [
        float(np.median(np.log(np.array(v.samples[arm].values[:rounds]) / np.array(v.samples["bare"].values[:rounds]))))
        for v in visits
        if v.workload == workload and {"bare", arm} <= v.samples.keys()
    ]
    return float(np.std(effects, ddof=1)) if len(effects) > 2 else None


def available(names: Iterable[str]) -> list[str]:
    """Those that can run here, beside bare."""
    return [
        name for name in names if name not in (BASE, CONTROL) and not isinstance(get(name).availability(), Unavailable)
    ]


def sweep(number: int) -> Row:
    """Standard deviation between boots of ln(arm / bare), by length of the blocks, the time in blocks being the same; and
    at the length that was chosen by number of rounds. `number`: which TOGETHER of the environments."""
    there = available(names())[TOGETHER * number : TOGETHER * (number + 1)]
    if not there:
        return {"environments": [], "sigma": {}, "rounds": {}}
    made: list[Sweep] = []

    def make(*arguments: Any) -> Sweep:
        made.append(Sweep(*arguments))
        return made[0]

    with mock.patch.object(engine, "Engine", make):
        run = measured(planned(["bare", *there], list(SWEEP_WORKLOADS), preset_of(CHOSEN_MS), 1))
    found = made[0].found
    pairs = [(workload.name, arm.name) for workload in run.workloads for arm in run.arms if arm.name != BASE]
    sigma = {pair: {f"{ms:g}": spread(found[ms], *pair) for ms in LENGTHS_MS} for pair in pairs}
    rounds = {pair: {str(count): spread(found[CHOSEN_MS], *pair, count) for count in ROUNDS} for pair in pairs}
    return {"environments": there, "sigma": nested(sigma), "rounds": nested(rounds)}


def nested(cells: Mapping[tuple[str, str], Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """By workload, then by arm; pairs that were not measured are left out."""
    found: dict[str, dict[str, Any]] = {}
    for (workload, arm), values in cells.items():
        if None not in values.values():
            found.setdefault(workload, {})[arm] = dict(values)
    return found
