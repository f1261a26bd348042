"""Proofs on the machine at hand, in pieces: each repetition is appended to a file, and the next call goes on from there.

    python -m validation.live PROOF [--repetitions N] [--seconds S]    measure until N are there or the time is up
    python -m validation.live figures [--write]                        print the figures; put them into docs/statistics.md

PROOF is one of aa, power-quick, power-default, commands, peers, speed, sweep, or all of them in turn. To be run from tests/,
where nothing else runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker_server
import ssh_server

from vprobe.measure.plan import PRESETS, Preset
from vprobe.model import Run

from . import figures, loop_agent, peers, sessions, speed

STORE = Path(__file__).parents[3] / "build" / "validation"
Row = dict[str, Any]

WORKLOADS = (
    *(
        "cpu.integer_chain",
        "cpu.float_chain",
        "cpu.integer_throughput",
        "cpu.branches[predicted]",
        "cpu.branches[random]",
    ),
    *("cpu.vector[sse2]", "cpu.sha256", "cpu.zlib", "memory.chase[l1]", "memory.chase[l2]", "memory.chase[l3]"),
    *("memory.chase[64MiB]", "memory.chase[64MiB,2MiB]", "memory.triad", "memory.copy", "memory.random_access"),
    *("memory.first_touch", "system.getpid", "system.pipe_round_trip", "system.fork_wait"),
)
"""Twenty, of every kind."""
POWER_WORKLOADS = ("cpu.integer_chain", loop_agent.NAME)
EFFECTS = {
    "quick": {"0": 1.0, "1": 1.01, "2": 1.02, "5": 1.05, "10": 1.10},
    "default": {"0": 1.0, "1": 1.01, "2": 1.02},
    "commands": {"0": 1.0, "5": 1.05},
}
PEER_FACTORS = (1.0, 1.05)
AA_ROUNDS = 40


def aa() -> Row:
    """A quick session of two equal variants over twenty workloads, gated all together at 0 %.

    Of short visits, so that there can be many sessions: what rounds have in common decides about false alarms, not their number.
    """
    run, seconds = sessions.session(replace(PRESETS["quick"], rounds=AA_ROUNDS), WORKLOADS, {"head": 1.0})
    report = sessions.judged(run)
    failed = [row.workload for row in report.rules if sessions.fails(row.verdict.value)]
    single = [row.workload for row in report.rules if row.low is not None and row.low > 1]
    return {"verdict": report.verdict.value, "failed": failed, "low_above_1": single, "seconds": seconds}


def shared_by_heads(preset: Preset, heads: int) -> Preset:
    """A preset whose visits give each of the arms here what a session of base, control and one head would give it."""
    share = (2 + heads) / 3
    return replace(
        preset,
        visit_budget_ns=round(preset.visit_budget_ns * share),
        boot_budget_ns=round(preset.boot_budget_ns * share),
        command_budget_ns=round(preset.command_budget_ns * share),
    )


def power(preset: str) -> Row:
    """A session of base and heads that do 0 to 10 % more work: what the gate says after 6, 9, 12 … boots."""
    boots = [count for count in (6, 9, 12, 16, 20) if count <= PRESETS[preset].boots]
    effects = EFFECTS[preset]
    run, seconds = sessions.session(shared_by_heads(PRESETS[preset], len(effects)), POWER_WORKLOADS, effects)
    return judged_by_boots(run, effects, boots, seconds)


def judged_by_boots(run: Run, effects: Mapping[str, float], boots: Sequence[int], seconds: float) -> Row:
    """What the gate says of each head, had the session ended after so many boots."""
    found = {name: {str(count): sessions.verdicts(run, name, count) for count in boots} for name in effects}
    ratios = {name: sessions.ratios(run, name) for name in effects}
    return {"found": found, "ratios": ratios, "seconds": seconds, "own_s": sessions.own_seconds(run, "0")}


def commands() -> Row:
    """A quick session of commands that do no more work as a whole, and 5 % more."""
    effects = EFFECTS["commands"]
    words = {sessions.BASE: peers.command(1.0)} | {name: peers.command(one) for name, one in effects.items()}
    run, seconds = sessions.session(shared_by_heads(PRESETS["quick"], len(effects)), (), effects, words)
    return judged_by_boots(run, effects, (6, 9), seconds) | {"command_s": peers.command_s()}


def one_peer(done: list[Row]) -> Row:
    """The next verdict of the next tool: all tools and factors in turn, so that all see the same times of the machine."""
    order = [(tool, factor) for factor in PEER_FACTORS for tool in peers.TOOLS]
    tool, factor = order[len(done) % len(order)]
    began_s = time.monotonic()
    slower = peers.judge(tool, factor)
    return {"tool": tool, "factor": factor, "slower": slower, "seconds": time.monotonic() - began_s}


PROOFS: dict[str, Callable[[list[Row]], Row]] = {
    "aa": lambda _: aa(),
    "power-quick": lambda _: power("quick"),
    "power-default": lambda _: power("default"),
    "commands": lambda _: commands(),
    "peers": one_peer,
    "speed": lambda _: {**speed.round_trip(), "overhead": speed.overhead()},
    "sweep": lambda done: speed.sweep(len(done)),
}
REPETITIONS = {"aa": 30, "power-quick": 20, "power-default": 20, "commands": 20, "peers": 30, "speed": 3, "sweep": 3}


def rows_of(proof: str) -> list[Row]:
    """What was measured so far."""
    path = STORE / f"{proof}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(proof: str, repetitions: int, seconds: float) -> None:
    """Go on until so many are there, or no further one would end in time."""
    STORE.mkdir(parents=True, exist_ok=True)
    done, deadline_s = rows_of(proof), time.monotonic() + seconds
    longest_s = 0.0
    if proof == "peers":
        repetitions *= len(PEER_FACTORS) * len(peers.TOOLS)
    while len(done) < repetitions and time.monotonic() + longest_s < deadline_s:
        began_s = time.monotonic()
        row = PROOFS[proof](done) | {"load": os.getloadavg()[0]}
        done.append(row)
        with (STORE / f"{proof}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        longest_s = max(longest_s, time.monotonic() - began_s)
        print(f"{proof}: {len(done)} of {repetitions}", flush=True)


@contextlib.contextmanager
def daemons(proof: str) -> Iterator[None]:
    """Those that the environments of a proof need, private ones."""
    with contextlib.ExitStack() as stack:
        if proof == "sweep":
            stack.enter_context(docker_server.preferred())
            stack.enter_context(ssh_server.preferred())
        yield


def main() -> int:
    """Parse and go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proof", choices=[*PROOFS, "all", "figures"])
    parser.add_argument("--repetitions", type=int, help="instead of the number that the figures ask for")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.proof == "figures":
        return figures.show({proof: rows_of(proof) for proof in PROOFS}, write=options.write)
    deadline_s = time.monotonic() + options.seconds
    for proof in PROOFS if options.proof == "all" else [options.proof]:
        with daemons(proof):
            measure(proof, options.repetitions or REPETITIONS[proof], deadline_s - time.monotonic())
    return 0


if __name__ == "__main__":
    sys.exit(main())
