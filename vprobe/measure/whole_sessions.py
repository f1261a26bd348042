"""Visits in which a run of a whole thing is a round: sessions' start and stop, and the user's own commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from vprobe.errors import RunError
from vprobe.measure.plan import COMMAND, PlannedArm
from vprobe.measure.protocol import CommandReply
from vprobe.measure.sessions import Boot, Site, check_place, started
from vprobe.model import Samples

START, STOP = "lifecycle.start", "lifecycle.stop"
COMMAND_TIMEOUT_S = 3600.0
MIN_ROUNDS, MAX_ROUNDS = 3, 40


def measure_lifecycle(
    arms: Mapping[str, PlannedArm],
    orders: Sequence[Sequence[str]],
    site: Site,
    bare: Mapping[str, Any],
) -> tuple[dict[str, Samples], dict[str, Samples]]:
    """Start and stop a session in every arm, round by round: samples of lifecycle.start and of lifecycle.stop."""
    starts: dict[str, list[float]] = {arm: [] for arm in arms}
    stops: dict[str, list[float]] = {arm: [] for arm in arms}
    phases: dict[str, dict[str, list[float]]] = {arm: {} for arm in arms}
    for order in orders:
        for arm in order:
            with started(arms[arm], site) as agent:
                check_place(arms[arm].environment, agent, bare)
                starts[arm].append(agent.start_ns)
                for phase, ns in agent.phases.items():
                    phases[arm].setdefault(phase, []).append(ns)
                stops[arm].append(agent.session.stop())
    return (
        {
            arm: Samples(1, tuple(values), details={phase: tuple(ns) for phase, ns in phases[arm].items()})
            for arm, values in starts.items()
        },
        {arm: Samples(1, tuple(values)) for arm, values in stops.items()},
    )


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


__all__ = ["COMMAND", "START", "STOP", "command_rounds", "commands_by_arm", "measure_command", "measure_lifecycle"]
