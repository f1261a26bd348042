"""How many iterations make a block, against simulated agents of every speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from vprobe.suites import KernelCall

from vprobe.measure.calibration import (
    LONG_NS,
    MAX_BLOCK_NS,
    OVERHEAD_BLOCKS,
    ROUND_TRIPS_PER_BLOCK,
    Found,
    calibrate,
    round_ns,
    settle,
)
from vprobe.measure.channel import Channel
from vprobe.measure.plan import Task
from vprobe.measure.protocol import BlockReply
from vprobe.model import Kind, WorkloadRecord

TARGET_NS = 500_000


def task(maximum_iterations: int = 0) -> Task:
    """A kernel workload."""
    record = WorkloadRecord("cpu.x", "ns", "lower", Kind.KERNEL, {})
    return Task(record, frozenset(), KernelCall("x", maximum_iterations=maximum_iterations))


@dataclass
class Agent:
    """An agent whose blocks cost exactly this much."""

    cost_ns: float
    trip_ns: int
    untimed_ns: float = 0.0

    def round_trip_ns(self) -> int:
        """The way there and back."""
        return self.trip_ns

    def block(self, handle: int, warm: int, iterations: int, timeout_s: float) -> tuple[BlockReply, int]:
        """One block."""
        inside, warm_ns = round(self.cost_ns * iterations), round(self.cost_ns * warm)
        warm_ns += round(self.untimed_ns * iterations)
        outside = self.trip_ns + inside + warm_ns
        return BlockReply(id=1, ns=inside, warm_ns=warm_ns), outside


@given(st.floats(0.2, 5e6), st.integers(5_000, 400_000))
def test_a_block_is_as_long_as_asked_and_longer_than_the_way_there(cost_ns: float, trip_ns: int) -> None:
    """The block meets its target, or five round trips, within one iteration; a single slow operation is one block."""
    iterations, found_ns, *_ = calibrate(cast(Channel, Agent(cost_ns, trip_ns)), 1, task(), TARGET_NS)
    wanted_ns = min(max(TARGET_NS, ROUND_TRIPS_PER_BLOCK * trip_ns), MAX_BLOCK_NS)
    assert abs(found_ns - cost_ns) <= 0.01 * cost_ns + 0.5
    assert iterations == 1 or abs(iterations * cost_ns - wanted_ns) <= cost_ns + 0.02 * wanted_ns


@given(st.floats(1_000, 300_000), st.floats(1_000, 3_000_000))
def test_what_is_not_timed_stays_affordable(cost_ns: float, untimed_ns: float) -> None:
    """A workload with a long untimed set-up gets short blocks, and never fewer than one iteration."""
    python = Task(WorkloadRecord("exits.x", "ns", "lower", Kind.PYTHON, {}), frozenset())
    iterations, *_ = calibrate(cast(Channel, Agent(cost_ns, 20_000, untimed_ns)), 1, python, TARGET_NS)
    assert (
        iterations == 1
        or iterations * (cost_ns + untimed_ns) <= 1.05 * OVERHEAD_BLOCKS * TARGET_NS + cost_ns + untimed_ns
    )


@given(st.integers(1, 10_000))
def test_the_most_iterations_are_kept(maximum: int) -> None:
    """Timed part and warm-up together stay within the memory that there is."""
    found = calibrate(cast(Channel, Agent(100, 20_000)), 1, task(maximum), TARGET_NS)
    size = settle(task(maximum), {"bare": found}, "bare")["bare"]
    chosen = found.iterations
    assert chosen >= 1 and (maximum == 1 or size.timed + size.warm <= max(maximum, 2))


def test_equal_work_is_compared_with_equal_work() -> None:
    """An arm of about the base's speed does the base's iterations, a much slower one its own."""
    found = {"bare": (1000, 10.0), "runc": (900, 11.0), "vm": (100, 90.0)}
    sizes = settle(task(), {arm: Found(*one, 0.0, 20_000) for arm, one in found.items()}, "bare")
    assert (sizes["bare"].timed, sizes["runc"].timed, sizes["vm"].timed) == (1000, 1000, 100)


@dataclass
class Stumbling(Agent):
    """An agent whose first blocks are held up on their way, as a fresh process's are."""

    blocks: int = 0

    def block(self, handle: int, warm: int, iterations: int, timeout_s: float) -> tuple[BlockReply, int]:
        """One block, the first three a hundred times later than the rest."""
        self.blocks += 1
        reply, outside_ns = super().block(handle, warm, iterations, timeout_s)
        return reply, outside_ns + (5_000_000 if self.blocks <= 3 else 0)


def test_a_hold_up_does_not_shorten_blocks() -> None:
    """A kernel's block is sized by its own time alone, whatever its first messages met."""
    iterations, *_ = calibrate(cast(Channel, Stumbling(10.0, 20_000)), 1, task(), TARGET_NS)
    assert abs(iterations - TARGET_NS / 10) <= 0.02 * TARGET_NS / 10


@dataclass
class Preempted(Agent):
    """An agent that loses its CPU for 8 ms within every third block, as on a machine with other work."""

    blocks: int = 0

    def block(self, handle: int, warm: int, iterations: int, timeout_s: float) -> tuple[BlockReply, int]:
        """One block with 1 us of its own, whatever its iterations."""
        self.blocks += 1
        _, outside_ns = super().block(handle, warm, iterations, timeout_s)
        lost_ns = 8_000_000 if self.blocks % 3 == 1 else 0
        inside_ns = round(self.cost_ns * iterations) + 1_000 + lost_ns
        return BlockReply(id=1, ns=inside_ns, warm_ns=round(self.cost_ns * warm)), outside_ns + lost_ns


def test_a_lost_cpu_does_not_shorten_blocks() -> None:
    """An arm that is preempted while it is calibrated gets the block that it would have got in peace, and so the base's."""
    iterations, cost_ns, *_ = calibrate(cast(Channel, Preempted(40.0, 20_000)), 1, task(), TARGET_NS)
    assert abs(iterations - TARGET_NS / 40) <= 0.1 * TARGET_NS / 40
    assert 40 <= cost_ns <= 44


@dataclass
class Counting(Agent):
    """An agent that counts the operations that it is asked for."""

    operations: int = 0

    def block(self, handle: int, warm: int, iterations: int, timeout_s: float) -> tuple[BlockReply, int]:
        """One block."""
        self.operations += warm + iterations
        return super().block(handle, warm, iterations, timeout_s)


@given(st.floats(LONG_NS, 5e9), st.floats(0, 5e9))
def test_a_long_operation_runs_twice_at_most_to_be_known(cost_ns: float, untimed_ns: float) -> None:
    """A compiler is not run for seconds to learn that a block holds one run of it, and is not warmed before each block."""
    python = Task(WorkloadRecord("applications.x", "ns", "lower", Kind.PYTHON, {}), frozenset())
    agent = Counting(cost_ns, 20_000, untimed_ns)
    found = {"bare": calibrate(cast(Channel, agent), 1, python, TARGET_NS)}
    sizes = settle(python, found, "bare")
    assert agent.operations <= 2 and (sizes["bare"].timed, sizes["bare"].warm) == (1, 0)
    assert abs(round_ns(found, sizes) - (cost_ns + untimed_ns + 20_000)) <= 3
