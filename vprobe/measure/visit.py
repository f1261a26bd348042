"""A visit: one workload in one boot, many rounds, each a short block in every arm back to back."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import msgspec

from vprobe.measure.calibration import BLOCK_TIMEOUT_S, BlockSize
from vprobe.measure.channel import Channel, UnsupportedHereError
from vprobe.measure.noise import Reading, between
from vprobe.measure.plan import NETWORK, PlannedArm, Task
from vprobe.measure.protocol import CountersReply, PrepareReply
from vprobe.measure.sessions import Boot
from vprobe.model import Noise, Samples, Skipped, Visit

PREPARE_TIMEOUT_S = 120.0
CANARY_ITERATIONS = 20_000
STEAL_LIMIT = 0.3
"""Above this share of stolen time a visit says more about the neighbours than about the arms."""


def significant(value: float) -> float:
    """Seven significant digits: finer than any clock here, and a third of the file's size."""
    return float(f"{value:.7g}")


@dataclass(frozen=True)
class Begun:
    """An agent's counters when a workload was ready there, and the controller's clock when it heard so."""

    involuntary: int
    clock_ns: int
    at_ns: int


@dataclass(frozen=True)
class Ended:
    """Involuntary context switches of all agents over a visit, and ns of each one's clock in one of the controller's."""

    involuntary: int
    clocks: Mapping[str, float]


def prepare(
    boot: Boot, arms: Sequence[PlannedArm], task: Task, handle: int, seed: int
) -> tuple[dict[str, Begun], list[Skipped]]:
    """Make a workload ready in its arms, all at once: their counters by arm, and the arms that turn out not to fit."""
    asked, skipped = [], []
    reference = boot.hashes[boot.bare].python_hash
    for arm in arms:
        if NETWORK in task.needs and arm.name in boot.unlinked:
            skipped.append(Skipped(arm.name, task.name, boot.unlinked[arm.name]))
            continue
        if task.record.kind == "python" and boot.hashes[arm.name].python_hash != reference:
            skipped.append(Skipped(arm.name, task.name, "incomparable: another Python interpreter runs there"))
            continue
        second_cpu = next(iter(boot.inside[arm.name][1:]), None)
        request: dict[str, object] = {"op": "prepare", "handle": handle, "second_cpu": second_cpu}
        if task.call is not None:
            request["call"] = {**asdict(task.call), "seed": seed}
        else:
            request |= {"workload": task.name, "parameters": task.record.parameters}
        boot.channel(arm.name).ask(request)
        asked.append(arm.name)
    ready = []
    for name in asked:
        try:
            boot.channel(name).answer("prepare", PrepareReply, PREPARE_TIMEOUT_S)
            ready.append(name)
        except UnsupportedHereError as reason:
            skipped.append(Skipped(name, task.name, str(reason)))
    return {name: begun(boot.channel(name)) for name in ready}, skipped


def begun(channel: Channel) -> Begun:
    """An agent's counters now."""
    reply = channel.request({"op": "counters"}, CountersReply, PREPARE_TIMEOUT_S)
    return Begun(reply.involuntary, reply.clock_ns, time.perf_counter_ns())


def release(boot: Boot, ready: Mapping[str, Begun], handle: int) -> Ended:
    """Free the workload: what has happened since prepare()."""
    switches, clocks = 0, {}
    for arm, begun in ready.items():
        asked_ns = time.perf_counter_ns()
        reply = boot.channel(arm).request({"op": "release", "handle": handle}, CountersReply, PREPARE_TIMEOUT_S)
        switches += reply.involuntary - begun.involuntary
        if begun.clock_ns and reply.clock_ns:
            clocks[arm] = round((reply.clock_ns - begun.clock_ns) / max(asked_ns - begun.at_ns, 1), 5)
    return Ended(switches, clocks)


@dataclass
class Column:
    """The blocks of one arm while they come in."""

    iterations: int
    inside_ns: list[float] = field(default_factory=list)
    outside_ns: list[float] = field(default_factory=list)
    warmup_ns: list[float] = field(default_factory=list)
    details: dict[str, list[float]] = field(default_factory=dict)

    def samples(self, task: Task) -> Samples:
        """The blocks as they go into the run file."""
        return Samples(
            iterations=self.iterations,
            values=tuple(significant(value_of(task, ns, self.iterations)) for ns in self.inside_ns),
            inside_ns=tuple(self.inside_ns),
            outside_ns=tuple(self.outside_ns),
            warmup_ns=tuple(self.warmup_ns),
            details={name: tuple(values) for name, values in self.details.items()},
        )


def value_of(task: Task, ns: float, iterations: int) -> float:
    """One operation in the workload's unit: ns, or bytes a second."""
    if task.record.unit == "B/s":
        size: int = task.call.bytes_per_iteration if task.call else task.record.parameters["block_bytes"]
        return size * iterations / max(ns, 1) * 1e9
    return ns / iterations


def run_rounds(
    boot: Boot,
    handle: int,
    orders: Sequence[Sequence[str]],
    sizes: Mapping[str, BlockSize],
    factors: Mapping[str, float],
) -> dict[str, Column]:
    """The heart: a block in each arm, in each round's order. Nothing else happens between the blocks."""
    columns = {arm: Column(size.timed) for arm, size in sizes.items()}
    steps = {
        arm: (boot.channel(arm).block, size.warm, max(1, round(size.timed * factors[arm])), columns[arm])
        for arm, size in sizes.items()
    }
    gc.collect()
    gc.freeze()  # what is here by now stays until the run ends: looking through all of it took 20 ms a visit
    gc.disable()
    try:
        for block, warm, timed, column in steps.values():
            if not warm:  # an operation that is too long to be warmed up before each block
                reply, _ = block(handle, 0, timed, BLOCK_TIMEOUT_S)
                column.warmup_ns.append(reply.ns + reply.warm_ns)
        for order in orders:
            for arm in order:
                block, warm, timed, column = steps[arm]
                reply, outside_ns = block(handle, warm, timed, BLOCK_TIMEOUT_S)
                column.inside_ns.append(reply.ns)
                column.outside_ns.append(outside_ns)
                column.warmup_ns.append(reply.warm_ns)
                for name, value in reply.details.items():
                    column.details.setdefault(name, []).append(significant(value))
    finally:
        gc.enable()
    return columns


def canary(channel: Channel | None, handle: int) -> float | None:
    """ns an iteration of a fixed integer chain on the measured CPU."""
    if channel is None:
        return None
    reply, _ = channel.block(handle, CANARY_ITERATIONS // 8, CANARY_ITERATIONS, BLOCK_TIMEOUT_S)
    return significant(reply.ns / CANARY_ITERATIONS)


@dataclass(frozen=True)
class Watch:
    """The noise signals around something that is being measured."""

    cpu: int
    canary_channel: Channel | None
    canary_handle: int
    canary_before: float | None
    reading: Reading

    @classmethod
    def begin(cls, cpu: int, channel: Channel | None, handle: int) -> Watch:
        """Read the signals before."""
        return cls(cpu, channel, handle, canary(channel, handle), Reading.now(cpu))

    def end(self, ended: Ended | None) -> Noise:
        """Read them after."""
        after = Reading.now(self.cpu)
        after_canary = canary(self.canary_channel, self.canary_handle)
        involuntary = ended.involuntary if ended else None
        noise = between(self.reading, after, involuntary, self.canary_before, after_canary)
        return msgspec.structs.replace(noise, clocks=dict(ended.clocks)) if ended else noise


def exclusion(noise: Noise, samples: Mapping[str, Samples]) -> str | None:
    """Why a visit is not to be believed, or None. Never by its value: by signals that do not know which arm was slow."""
    if noise.steal is not None and noise.steal > STEAL_LIMIT:
        return f"{noise.steal:.0%} of the CPU was stolen by other guests"
    for arm, column in samples.items():
        if column.inside_ns is None or column.outside_ns is None:
            continue
        if sum(column.inside_ns) > 1.001 * sum(column.outside_ns):
            return f"the clocks inside and outside {arm} disagree"
    return None


def finished(task: Task, boot: int, cpu: int, rows: Sequence[int], noise: Noise, samples: dict[str, Samples]) -> Visit:
    """The visit as it goes into the run file."""
    return Visit(
        boot=boot,
        guest_boot=boot,
        workload=task.name,
        cpu=cpu,
        rows=tuple(rows),
        noise=noise,
        samples=samples,
        excluded=exclusion(noise, samples),
    )
