"""Time itself: how late a sleeper wakes, and how much time passes in which nothing runs."""

from __future__ import annotations

from collections.abc import Sequence

from . import Block, Details, HostFacts, KernelCall, native_extension, workload

PERIOD_NS = 1_000_000
WAKE_UPS = 100
"""Of a block: the fewest that have a 99th percentile which is not their maximum."""


def percentile(ascending: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    return ascending[-(-len(ascending) * percent // 100) - 1]


@workload("timers.wake_up", kind="python", needs=("python", "kernels", "os"))
def wake_up() -> Block:
    """How late a thread wakes that sleeps to every full millisecond (clock_nanosleep, TIMER_ABSTIME): the median of 100.

    Details of every block: p50_ns, p99_ns, max_ns.
    """
    latencies = native_extension().wake_up_latencies

    def run(iterations: int) -> tuple[int, Details]:
        late = sorted(latencies(PERIOD_NS, WAKE_UPS * iterations))
        median, percentile_99 = percentile(late, 50), percentile(late, 99)
        details = {"p50_ns": median, "p99_ns": percentile_99, "max_ns": late[-1]}
        return iterations * median, details

    return run


@workload("timers.time_lost")
def time_lost(facts: HostFacts) -> KernelCall:
    """A read of the time-stamp counter, again and again: what interrupts, neighbours and the hypervisor take.

    The value is wall time by read, the time in which nothing ran included. Details of every block: lost_inside_ns, the sum
    of the gaps of more than 4096 ticks (one to two microseconds) between two reads, which is what the code itself can see;
    lost_outside_ns, how long the agent's thread was ready and not running, as the scheduler beneath it counts.
    """
    del facts
    return KernelCall("gaps", arguments=(4096,), tells="lost_inside_ns")
