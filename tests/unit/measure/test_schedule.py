"""Orders of arms."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from vprobe.suites import KernelCall

from vprobe.measure.engine import drawn_order
from vprobe.measure.plan import Task
from vprobe.measure.schedule import draw_rows, visit_source, williams_square
from vprobe.model import Kind, WorkloadRecord


@given(st.integers(2, 16))
def test_williams_square_balances_place_and_predecessor(count: int) -> None:
    """Every arm stands at every place equally often, and follows every other arm equally often."""
    arms = [f"arm{index}" for index in range(count)]
    square = williams_square(arms)
    assert len(square) == (count if count % 2 == 0 else 2 * count)
    places = Counter((arm, place) for row in square for place, arm in enumerate(row))
    followers = Counter(pair for row in square for pair in pairwise(row))
    assert len(places) == count * count and len(set(places.values())) == 1
    assert len(followers) == count * (count - 1) and len(set(followers.values())) == 1


@given(st.integers(1, 20), st.integers(1, 200), st.integers(0, 2**32))
def test_rows_are_drawn_evenly_and_repeatably(rows: int, rounds: int, seed: int) -> None:
    """No row is drawn twice more often than another, and the same seed draws the same rows."""
    drawn = draw_rows(rows, rounds, visit_source(seed, 1, "w"))
    assert drawn == draw_rows(rows, rounds, visit_source(seed, 1, "w"))
    counts = Counter(drawn)
    assert len(drawn) == rounds
    assert max(counts.values()) - min(counts.get(row, 0) for row in range(rows)) <= 1


def test_tasks_that_can_share_a_memory_stand_together() -> None:
    """The order of a boot is drawn anew each time, and never goes from one size of pages to another and back."""
    calls = {"a": None, "b": KernelCall("k"), "c": KernelCall("k", page_bytes=1 << 21), "d": KernelCall("k", ring=0)}
    calls |= {"e": KernelCall("k", page_bytes=1 << 21), "f": KernelCall("k", ring=0)}
    tasks = [
        Task(WorkloadRecord(name, "ns", "lower", Kind.KERNEL, {}), frozenset(), call) for name, call in calls.items()
    ]
    orders = {"".join(task.name for task in drawn_order(tasks, random.Random(seed))) for seed in range(200)}
    assert len(orders) > 20
    for order in orders:
        pairs = {order.index(one) - order.index(other) for one, other in ("ab", "ce", "df")}
        assert sorted(order) == sorted(calls) and pairs <= {-1, 1}


def test_the_largest_memory_comes_first() -> None:
    """Whatever the order, no task needs a larger memory than one before it of the same pages; small ones come in any order."""
    sizes = {"a": 96 << 20, "b": 64 << 20, "c": 64 << 20, "d": 4096, "e": 0, "f": 32768}
    tasks = [
        Task(WorkloadRecord(name, "ns", "lower", Kind.KERNEL, {}), frozenset(), KernelCall("k", memory_bytes=size))
        for name, size in sizes.items()
    ]
    orders = {"".join(task.name for task in drawn_order(tasks, random.Random(seed))) for seed in range(200)}
    assert {order[:3] for order in orders} == {"abc", "acb"}
    assert len({order[3:] for order in orders}) == 6
