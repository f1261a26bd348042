"""How fast the engine is, and how the length of a block was chosen."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vprobe.environments import Unavailable, get
from vprobe.environments.sessions import open_run
from vprobe.measure import engine
from vprobe.measure.channel import Channel
from vprobe.measure.engine import measure
from vprobe.measure.fingerprint import host_facts
from vprobe.measure.plan import PRESETS, Plan, PlannedArm, choose_environments, make_arms, make_tasks, select
from vprobe.measure.protocol import Reply
from vprobe.measure.sessions import Site, controller_beside, started
from vprobe.model import Arm, Run
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
ARM_MS = 60.0
"""Blocks of an arm in a visit, whatever their length."""
SWEEP_BOOTS = 8
SWEEP_WORKLOADS = ("cpu.integer_chain", "cpu.zlib", "memory.chase[64MiB]", "system.pipe_round_trip")
SWEEP_ENVIRONMENTS = ("namespaces", "runc", "gvisor", "kvm")


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
    tasks, skipped = make_tasks(select(workloads, False, preset.level), host_facts(cpu), arms)
    return Plan(arms, tasks, skipped, preset, seed, (cpu,))


def measured(plan: Plan) -> Run:
    """Its run."""
    with tempfile.TemporaryDirectory(prefix="vprobe-validation-") as directory:
        return measure(plan, probe_host().document(), Path(directory) / "run.json")


def overhead(environments: list[str], boots: int = 2) -> Row:
    """Share of the visits of a default run that is not spent in blocks; warm-ups count as blocks.

    Two boots of it: the first calibrates. Workloads whose round is a whole run of something have no blocks and are left out.
    """
    spent_s: dict[str, float] = {}
    visit = engine.Engine._visit

    def timed(self: Any, this: Any, task: Any, number: int, canary: Any) -> None:
        began_s = time.monotonic()
        visit(self, this, task, number, canary)
        spent_s[task.name] = spent_s.get(task.name, 0.0) + time.monotonic() - began_s

    engine.Engine._visit = timed  # type: ignore[method-assign]
    try:
        run = measured(planned(environments, [], replace(PRESETS["default"], boots=boots), 1))
    finally:
        engine.Engine._visit = visit  # type: ignore[method-assign]
    blocks_s: dict[str, float] = {}
    for one in run.visits:
        for samples in one.samples.values():
            if samples.outside_ns and samples.inside_ns:
                own_s = (sum(samples.inside_ns) + sum(samples.warmup_ns)) / 1e9
                blocks_s[one.workload] = blocks_s.get(one.workload, 0.0) + own_s
    total_s = sum(spent_s[name] for name in blocks_s)
    shares = {name: round(1 - blocks_s[name] / spent_s[name], 3) for name in blocks_s}
    return {"share": 1 - sum(blocks_s.values()) / total_s, "visits_s": total_s, "by_workload": shares}


def sweep() -> Row:
    """Standard deviation between boots of ln(arm / bare), by length of the blocks, the time in blocks being the same."""
    there = [name for name in SWEEP_ENVIRONMENTS if not isinstance(get(name).availability(), Unavailable)]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for length_ms in LENGTHS_MS:
        preset = replace(
            PRESETS["default"],
            boots=SWEEP_BOOTS,
            rounds=max(2, round(ARM_MS / length_ms)),
            block_ns=round(length_ms * 1e6),
            visit_budget_ns=10**12,
        )
        run = measured(planned(["bare", *there], list(SWEEP_WORKLOADS), preset, 1))
        for workload, arm in itertools.product(run.workloads, run.arms):
            effects = [
                float(np.median(np.log(np.array(v.samples[arm.name].values) / np.array(v.samples["bare"].values))))
                for v in run.visits
                if v.workload == workload.name and {"bare", arm.name} <= v.samples.keys()
            ]
            if arm.name != "bare" and len(effects) > 2:
                cells = found.setdefault(workload.name, {}).setdefault(arm.name, {})
                cells[f"{length_ms:g}"] = float(np.std(effects, ddof=1))
    return {"sigma": found}
