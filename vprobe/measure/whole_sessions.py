"""Visits in which a run of a whole thing is a round: sessions' start and stop, and the user's own commands."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from vprobe.errors import RunError
from vprobe.measure.footprint import Footprint, UnreadableError, all_processes, available_bytes, footprint
from vprobe.measure.guests import is_guest
from vprobe.measure.plan import BASE, PlannedArm
from vprobe.measure.protocol import CommandReply, PrepareReply
from vprobe.measure.sessions import Boot, Site, Started, check_place, started
from vprobe.model import Samples, Skipped
from vprobe.suites import KernelCall

START, STOP, MEMORY = "lifecycle.start", "lifecycle.stop", "lifecycle.memory"
RATE_ONE, RATE_PARALLEL, DENSITY = "lifecycle.start_rate[1]", "lifecycle.start_rate[parallel]", "lifecycle.density"
LIVES, MANY = (START, STOP, MEMORY), (RATE_ONE, RATE_PARALLEL, DENSITY)
GROUPS = {name: group for group in (LIVES, MANY) for name in group}
"""Workloads that are measured together, by each of their names."""
CROWD, CROWD_OF_GUESTS = 6, 2
"""Sessions at once, for the workloads of MANY."""
PREPARE_TIMEOUT_S = 30.0
ELSEWHERE = ("ssh",)
"""Kinds of environments whose processes are on another machine."""
COMMAND_TIMEOUT_S = 3600.0
MIN_ROUNDS, MAX_ROUNDS = 3, 40


@dataclass
class Lives:
    """What one arm's sessions gave, round by round. `unreadable`: why their memory cannot be told."""

    starts: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)
    stops: list[float] = field(default_factory=list)
    memory: list[Footprint] = field(default_factory=list)
    unreadable: str = ""


def hold_machine(arm: PlannedArm, agent: Started) -> None:
    """Have a micro-VM stand in an agent that runs them, so that it is weighed and counted, too."""
    if "microvm" in arm.environment.capabilities:
        request = {"op": "prepare", "handle": 1, "call": asdict(KernelCall("integer_chain"))}
        agent.channel.request(request, PrepareReply, PREPARE_TIMEOUT_S)


def weigh(arm: PlannedArm, agent: Started, before: Collection[int]) -> Footprint:
    """The memory of a session that has just answered. UnreadableError where it cannot be told."""
    if arm.environment.name.partition(":")[0] in ELSEWHERE:
        raise UnreadableError("its processes are those of another machine")
    hold_machine(arm, agent)
    return footprint(agent.session, before)


def live(arm: PlannedArm, site: Site, bare: Mapping[str, Any], lives: Lives, *, memory: bool) -> None:
    """One session, from its start to its end."""
    before = all_processes() if memory else ()
    with started(arm, site) as agent:
        check_place(arm.environment, agent, bare)
        lives.starts.append(agent.start_ns)
        for phase, ns in agent.phases.items():
            lives.phases.setdefault(phase, []).append(ns)
        if memory and not lives.unreadable:
            try:
                lives.memory.append(weigh(arm, agent, before))
            except UnreadableError as error:
                lives.unreadable = str(error)
        lives.stops.append(agent.session.stop())


def measure_lifecycle(
    arms: Mapping[str, PlannedArm],
    orders: Sequence[Sequence[str]],
    site: Site,
    bare: Mapping[str, Any],
    *,
    memory: bool,
) -> tuple[dict[str, dict[str, Samples]], tuple[Skipped, ...]]:
    """Start, weigh and stop a session in every arm, round by round: samples by workload and arm, and what cannot be told."""
    lives = {arm: Lives() for arm in arms}
    for order in orders:
        for arm in order:
            live(arms[arm], site, bare, lives[arm], memory=memory)
    base = next(name for name, arm in arms.items() if arm.environment.name == BASE)
    found = {
        START: {
            arm: Samples(1, tuple(one.starts), details={phase: tuple(ns) for phase, ns in one.phases.items()})
            for arm, one in lives.items()
        },
        STOP: {arm: Samples(1, tuple(one.stops)) for arm, one in lives.items()},
    }
    if memory:
        readable = {arm: one.memory for arm, one in lives.items() if not one.unreadable}
        found[MEMORY] = {arm: memory_samples(weighed, readable.get(base)) for arm, weighed in readable.items()}
    gone = [Skipped(arm, MEMORY, one.unreadable) for arm, one in lives.items() if one.unreadable]
    return {name: samples for name, samples in found.items() if samples}, tuple(gone)


def memory_samples(weighed: Sequence[Footprint], base: Sequence[Footprint] | None) -> Samples:
    """PSS, and in the details what that is more than bare's in the same round, and what the session's own cgroup holds."""
    details: dict[str, tuple[float, ...]] = {}
    if base is not None:
        pairs = zip(weighed, base, strict=True)
        details["on_top_of_bare_bytes"] = tuple(float(one.pss_bytes - other.pss_bytes) for one, other in pairs)
    held = [one.cgroup_bytes for one in weighed]
    if None not in held:
        details["cgroup_bytes"] = tuple(float(one) for one in held if one is not None)
    return Samples(1, tuple(float(one.pss_bytes) for one in weighed), details=details)


# --- many at a time ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def crowd(arm: PlannedArm, site: Site, workers: int) -> Iterator[tuple[list[Started], float]]:
    """Several sessions of an arm at once, started by so many workers; and how many started in a second."""
    size = CROWD_OF_GUESTS if is_guest(arm.environment) else CROWD
    stacks = [contextlib.ExitStack() for _ in range(size)]

    def enter(number: int) -> Started:
        return stacks[number].enter_context(started(arm, site))

    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(size) as undertakers:
        try:
            before_ns = time.monotonic_ns()
            agents = list(pool.map(enter, range(size)))
            yield agents, size / (time.monotonic_ns() - before_ns) * 1e9
        finally:
            for ended in [undertakers.submit(stack.close) for stack in stacks]:
                ended.result()


def measure_density(
    arms: Mapping[str, PlannedArm], order: Sequence[str], site: Site, bare: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Samples]], tuple[Skipped, ...]]:
    """Start many sessions of each arm, one after the other and in parallel; samples by workload and arm."""
    found: dict[str, dict[str, Samples]] = {name: {} for name in MANY}
    gone = []
    for name in order:
        arm = arms[name]
        with crowd(arm, site, 1) as (agents, rate):
            check_place(arm.environment, agents[0], bare)
            found[RATE_ONE][name] = Samples(1, (rate,))
        before, free = all_processes(), available_bytes()
        with crowd(arm, site, max(2, len(os.sched_getaffinity(0)))) as (agents, rate):
            found[RATE_PARALLEL][name] = Samples(1, (rate,))
            try:
                each = sum(weigh(arm, agent, before).pss_bytes for agent in agents) / len(agents)
            except UnreadableError as error:
                gone.append(Skipped(name, DENSITY, str(error)))
                continue
        details: dict[str, tuple[float, ...]] = {"session_bytes": (each,), "available_bytes": (float(free),)}
        found[DENSITY][name] = Samples(1, (float(int(free / each)),), details=details)
    return {workload: samples for workload, samples in found.items() if samples}, tuple(gone)


def command_rounds(boot: Boot, commands: Mapping[str, str], budget_ns: int) -> tuple[dict[str, float], int]:
    """Run each arm's command once, untimed: how long each took, and how many rounds fit into the budget."""
    first = {arm: float(run_once(boot, arm, command).ns) for arm, command in commands.items()}
    return first, rounds_within(sum(first.values()), budget_ns)


def rounds_within(round_ns: float, budget_ns: int) -> int:
    """How many rounds fit into the budget of a visit, within bounds."""
    return min(max(round(budget_ns / max(round_ns, 1)), MIN_ROUNDS), MAX_ROUNDS)


def run_once(boot: Boot, arm: str, command: str) -> CommandReply:
    """Run a command in an arm; RunError with its last words where it fails."""
    request = {"op": "command", "command": command}
    reply = boot.channel(arm).request(request, CommandReply, COMMAND_TIMEOUT_S)
    check_status(arm, reply, "the command")
    return reply


def check_status(arm: str, reply: CommandReply, what: str, known: Mapping[int, str] = MappingProxyType({})) -> None:
    """RunError with the last words of a command that failed. `known`: what some statuses mean."""
    if reply.status == 0:
        return
    how = f"was ended by signal {-reply.status}" if reply.status < 0 else f"exited with {reply.status}"
    how += f" ({known[reply.status]})" if reply.status in known else ""
    lines = reply.output.strip().splitlines()
    telling = [line for line in lines if line.startswith(("FAILED ", "ERROR "))] or lines[-1:]
    said = f": {printable(telling[0])}" if telling else ""
    raise RunError(f"{arm}: {what} {how}{said}", "make it succeed there, or leave the environment out with --env")


def printable(text: str, limit: int = 300) -> str:
    """Text of a program as one bounded line without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])


def measure_command(
    boot: Boot, commands: Mapping[str, str], orders: Sequence[Sequence[str]], warmup_ns: Mapping[str, float]
) -> dict[str, Samples]:
    """Run the command in every arm, round by round."""
    replies: dict[str, list[CommandReply]] = {arm: [] for arm in commands}
    for order in orders:
        for arm in order:
            replies[arm].append(run_once(boot, arm, commands[arm]))
    return {
        arm: Samples(
            iterations=1,
            values=tuple(float(reply.ns) for reply in runs),
            inside_ns=tuple(float(reply.ns) for reply in runs),
            warmup_ns=(warmup_ns[arm],),
            details={
                "user_ns": tuple(float(reply.user_ns) for reply in runs),
                "system_ns": tuple(float(reply.system_ns) for reply in runs),
                "peak_bytes": tuple(float(reply.peak_bytes) for reply in runs),
            },
        )
        for arm, runs in replies.items()
    }


def commands_by_arm(arms: Sequence[PlannedArm], command: str | None) -> dict[str, str]:
    """The command line of each arm: its variant's own, or the one of --command."""
    return {arm.name: arm.variant.command or command or "" for arm in arms}
