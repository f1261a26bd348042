"""Axes and paths."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vprobe.reports import paths, scales

POSITIVE = st.floats(1e-6, 1e12)


@given(st.lists(POSITIVE, min_size=1, max_size=30))
def test_every_value_lies_on_its_axis_in_order(values: list[float]) -> None:
    """Values stay within the plot and keep their order; many at once are placed like one."""
    axis = scales.value_axis(min(values), max(values))
    places = axis.places(np.array(sorted(values)))
    assert places == sorted(places)
    assert all(0 <= place <= scales.WIDTH for place in places)
    assert np.allclose(places, [axis.at(value) for value in sorted(values)], atol=1)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40))
def test_a_ratio_axis_always_shows_one(ratios: list[float]) -> None:
    """The line at 1 is on the axis and labelled, and ticks are apart enough to be read."""
    axis = scales.ratio_axis(ratios)
    ticks = scales.ratio_ticks(axis)
    assert axis.low < 1 < axis.high
    assert 1.0 in ticks
    shares = [axis.share(tick) for tick in ticks]
    assert all(after - before > 0.1 for before, after in itertools.pairwise(shares))


def test_a_far_ratio_does_not_press_the_near_ones_together() -> None:
    """Ten ratios near 1 and one at 50: the axis ends at 2, and the far one lies beyond it."""
    axis = scales.ratio_axis([1 + step / 100 for step in range(10)] + [50.0])
    assert axis.high < 2.2
    assert axis.share(50.0) > 1
    assert scales.ratio_axis([9.0, 10.0, 11.0]).share(10.0) < 1


@given(POSITIVE, st.floats(1.001, 1e6))
def test_ticks_are_round_and_few(low: float, factor: float) -> None:
    """An axis has at least one and at most ten ticks, all on it."""
    axis = scales.value_axis(low, low * factor)
    ticks = scales.value_ticks(axis)
    assert 1 <= len(ticks) <= 10
    assert all(axis.low <= tick <= axis.high * (1 + 1e-9) for tick in ticks)


@given(st.floats(1e-4, 1e4))
def test_a_nice_limit_is_at_least_the_value_and_at_most_ten_times(value: float) -> None:
    """Limits of plots are rounded up, not far."""
    assert value * 0.998 <= scales.nice_limit(value) <= value * 2.6


@given(st.integers(1, 5000), st.integers(1, 500))
def test_thinning_keeps_first_and_last_and_never_more_than_asked(count: int, most: int) -> None:
    """Evenly picked samples include both ends."""
    chosen = paths.thinned(count, most)
    assert len(chosen) <= most or count <= most
    assert chosen[0] == 0
    assert most == 1 or chosen[-1] == count - 1


def test_paths_are_numbers_only() -> None:
    """Path data holds nothing that would need escaping."""
    data = paths.dots([1, 2], paths.scattered(2, 4, 36)) + paths.staircase([0, 5, 9], [3, 1]) + paths.uprights([7], 60)
    assert re.fullmatch(r"[Mmhv0-9 -]+", data)


def test_jitter_is_the_same_every_time() -> None:
    """The scatter of dots follows from their number alone."""
    assert paths.scattered(50, 4, 36) == paths.scattered(50, 4, 36)
    assert len(set(paths.scattered(50, 4, 36))) > 20


def test_equal_values_still_have_an_axis() -> None:
    """A constant series does not divide by zero."""
    axis = scales.value_axis(5.0, 5.0)
    assert axis.low < 5 < axis.high
    assert axis.at(5.0) == pytest.approx(scales.WIDTH / 2, abs=1)
