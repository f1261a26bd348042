"""How many iterations make a block: found once per workload and arm, then frozen for the run."""

from __future__ import annotations

from dataclasses import dataclass

from vprobe.measure.channel import Channel
from vprobe.measure.plan import Task
from vprobe.measure.protocol import BlockReply

BLOCK_TIMEOUT_S = 60.0
MAX_ITERATIONS = 1 << 36
ROUND_TRIPS_PER_BLOCK = 5
"""A block is at least this many times as long as the way to the agent and back."""
MAX_BLOCK_NS = 4_000_000
"""To which a slow channel may lengthen a block."""
OVERHEAD_BLOCKS = 4
HOLD_UP_NS = 100_000_000
"""What a scheduler may hold a block up for; what takes longer is long by itself, and not run again to see."""


@dataclass(frozen=True)
class BlockSize:
    """Iterations of a block: timed, and before it the warm-up's."""

    timed: int
    warm: int


def warm_iterations(task: Task, timed: int) -> int:
    """Enough to fill what the workload needs warm; an eighth of the block where it says nothing."""
    if task.call is not None and task.call.warm_iterations:
        return task.call.warm_iterations
    return max(1, timed // 8)


def _limit(task: Task) -> int:
    """The most iterations that a block may time, its warm-up left aside."""
    if task.call is None or not task.call.maximum_iterations:
        return MAX_ITERATIONS
    return max(1, task.call.maximum_iterations * 3 // 4)


def _untimed_ns(reply: BlockReply, outside_ns: int, round_trip_ns: int, task: Task) -> int:
    """What a block of a Python workload that times itself spent on what it does not time. A kernel has no such part."""
    if task.call is not None:
        return 0
    return max(outside_ns - reply.ns - reply.warm_ns - round_trip_ns, 0)


def calibrate(channel: Channel, handle: int, task: Task, target_ns: int) -> tuple[int, float]:
    """(iterations of a block of about `target_ns`, ns an iteration) for one arm.

    A block is longer where the way there and back would be a large part of it, and shorter where each iteration has an
    untimed part (setting up a VM to time its first instruction) that would make it OVERHEAD_BLOCKS times as long.
    """
    iterations, limit = 1, _limit(task)
    round_trip_ns = channel.round_trip_ns()

    def spent() -> float:
        reply, outside_ns = channel.block(handle, 0, iterations, BLOCK_TIMEOUT_S)
        return reply.ns + _untimed_ns(reply, outside_ns, round_trip_ns, task) / OVERHEAD_BLOCKS

    while True:
        spent_ns = spent()
        if target_ns <= spent_ns * 8 and spent_ns < HOLD_UP_NS:
            spent_ns = min(spent_ns, spent())  # it may have been held up: a few iterations would then pass for a block
        if spent_ns * 8 >= target_ns or iterations >= limit:
            break
        growth = target_ns / 4 / max(spent_ns, 1)
        iterations = min(limit, max(iterations * 2, int(iterations * min(growth, 64))))
    warm = warm_iterations(task, iterations)
    blocks = [channel.block(handle, warm, iterations, BLOCK_TIMEOUT_S) for _ in range(3)]
    cost_ns = max(min(reply.ns for reply, _ in blocks) / iterations, 1e-3)
    untimed_ns = min(_untimed_ns(*block, round_trip_ns, task) for block in blocks) / iterations
    wanted_ns = max(target_ns, min(ROUND_TRIPS_PER_BLOCK * round_trip_ns, MAX_BLOCK_NS))
    affordable = OVERHEAD_BLOCKS * wanted_ns / (cost_ns + untimed_ns)
    return max(1, min(limit, round(min(wanted_ns / cost_ns, affordable)))), cost_ns


def settle(task: Task, found: dict[str, tuple[int, float]], base: str | None) -> dict[str, BlockSize]:
    """Block sizes of all arms: the base's iterations wherever an arm's speed is within a factor of two of the base's,
    so that equal work is compared with equal work; its own elsewhere."""
    sizes = {}
    for arm, (iterations, cost_ns) in found.items():
        if base in found and 0.5 <= cost_ns / found[base][1] <= 2:
            iterations = found[base][0]  # noqa: PLW2901 - the arm takes the base's
        sizes[arm] = BlockSize(iterations, warm_iterations(task, iterations))
    return sizes
