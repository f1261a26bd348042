"""How many iterations make a block: found once per workload and arm, then frozen for the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vprobe.measure.channel import Channel
from vprobe.measure.plan import Task

BLOCK_TIMEOUT_S = 60.0
MAX_ITERATIONS = 1 << 36
ROUND_TRIPS_PER_BLOCK = 5
"""A block is at least this many times as long as the way to the agent and back."""
MAX_BLOCK_NS = 4_000_000
"""To which a slow channel may lengthen a block."""
OVERHEAD_BLOCKS = 4
HOLD_UP_NS = 100_000_000
"""What a scheduler may hold a block up for; what takes longer is long by itself, and not run again to see."""


LONG_NS = 20_000_000
"""An operation of this length is a block of its own, is known when it has run once, and is warmed once a visit and not in
front of each block, which would double what it takes."""


class Found(NamedTuple):
    """What calibration finds: iterations of a block; ns of one that are timed, and that are not; ns to the agent and back."""

    iterations: int
    cost_ns: float
    untimed_ns: float
    round_trip_ns: int


@dataclass(frozen=True)
class BlockSize:
    """Iterations of a block: timed, and before it the warm-up's; 0 where it is warmed once a visit."""

    timed: int
    warm: int


def warm_iterations(task: Task, timed: int, operation_ns: float) -> int:
    """Enough to fill what the workload needs warm; an eighth of the block where it says nothing.

    `operation_ns`: an iteration, with what is not timed of it.
    """
    if task.call is not None and task.call.warm_iterations:
        return task.call.warm_iterations
    return 0 if timed == 1 and operation_ns >= LONG_NS else max(1, timed // 8)


def _limit(task: Task) -> int:
    """The most iterations that a block may time, its warm-up left aside."""
    if task.call is None or not task.call.maximum_iterations:
        return MAX_ITERATIONS
    return max(1, task.call.maximum_iterations * 3 // 4)


def calibrate(channel: Channel, handle: int, task: Task, target_ns: int) -> Found:
    """A block of about `target_ns` for one arm.

    A block is longer where the way there and back would be a large part of it, and shorter where each iteration has an
    untimed part (setting up a VM to time its first instruction) that would make it OVERHEAD_BLOCKS times as long.
    """
    iterations, limit = 1, _limit(task)
    round_trip_ns = channel.round_trip_ns()

    def spent() -> tuple[float, int]:
        """ns of a block that is not warmed up, and how much of them a workload that times itself does not time."""
        reply, _ = channel.block(handle, 0, iterations, BLOCK_TIMEOUT_S)
        untimed_ns = 0 if task.call is not None else reply.warm_ns  # a kernel has no such part
        if iterations == 1 and reply.ns + untimed_ns >= LONG_NS:
            return float(reply.ns + untimed_ns), untimed_ns
        return reply.ns + untimed_ns / OVERHEAD_BLOCKS, untimed_ns

    while True:
        spent_ns, untimed_ns = spent()
        if target_ns <= spent_ns * 8 and spent_ns < HOLD_UP_NS:
            # It may have been held up: a few iterations would then pass for a block.
            spent_ns, untimed_ns = min((spent_ns, untimed_ns), spent())
        if spent_ns * 8 >= target_ns or iterations >= limit:
            break
        growth = target_ns / 4 / max(spent_ns, 1)
        iterations = min(limit, max(iterations * 2, int(iterations * min(growth, 64))))
    if iterations == 1 and spent_ns >= LONG_NS:
        return Found(1, max(spent_ns - untimed_ns, 1), untimed_ns, round_trip_ns)
    warm = warm_iterations(task, iterations, 0)
    blocks = [channel.block(handle, warm, iterations, BLOCK_TIMEOUT_S) for _ in range(3)]
    cost_ns = max(min(reply.ns for reply, _ in blocks) / iterations, 1e-3)
    wanted_ns = max(target_ns, min(ROUND_TRIPS_PER_BLOCK * round_trip_ns, MAX_BLOCK_NS))
    affordable = OVERHEAD_BLOCKS * wanted_ns / (cost_ns + untimed_ns / iterations)
    block = max(1, min(limit, round(min(wanted_ns / cost_ns, affordable))))
    return Found(block, cost_ns, untimed_ns / iterations, round_trip_ns)


def settle(task: Task, found: dict[str, Found], base: str | None) -> dict[str, BlockSize]:
    """Block sizes of all arms: the base's iterations wherever an arm's speed is within a factor of two of the base's,
    so that equal work is compared with equal work; its own elsewhere."""
    sizes = {}
    for arm, one in found.items():
        equal = base in found and 0.5 <= one.cost_ns / found[base].cost_ns <= 2
        iterations = found[base].iterations if base is not None and equal else one.iterations
        sizes[arm] = BlockSize(iterations, warm_iterations(task, iterations, one.cost_ns + one.untimed_ns))
    return sizes


def round_ns(found: dict[str, Found], sizes: dict[str, BlockSize]) -> int:
    """What one round of a workload takes."""
    return round(
        sum(
            (sizes[arm].timed + sizes[arm].warm) * (one.cost_ns + one.untimed_ns) + one.round_trip_ns
            for arm, one in found.items()
        )
    )
