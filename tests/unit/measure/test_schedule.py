"""Orders of arms."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vprobe.measure.schedule import draw_rows, visit_source, williams_square


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
