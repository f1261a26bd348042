"""Numbers on the page."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vprobe.reports import quantities

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.246, "ns", f"1.25{NARROW}ns"),
        (43_000, "ns", f"43.0{NARROW}µs"),
        (2.35e10, "ns", f"23.5{NARROW}s"),
        (1.1e10, "B/s", f"11.0{NARROW}GB/s"),
        (32 * 2**20, "bytes", f"32.0{NARROW}MiB"),
        (12.5, "frames", f"12.5{NARROW}frames"),
        (0, "ns", "0"),
        (None, "ns", "–"),
        (float("inf"), "ns", "–"),
    ],
)
def test_a_quantity_has_three_digits_and_a_unit_that_fits(value: float | None, unit: str, shown: str) -> None:
    """A value is printed in the unit that makes it short, and what is not there as a dash."""
    assert quantities.quantity(value, unit) == shown


@given(st.floats(1e-3, 1e15), st.sampled_from(["ns", "B/s", "bytes"]))
def test_a_quantity_is_true_to_its_value(value: float, unit: str) -> None:
    """Read back, what is printed is within half a percent of the value, but for tiny fractions of the smallest unit."""
    number, name = quantities.quantity(value, unit).replace(",", "").split(NARROW)
    factors = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "B/s": 1, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9}
    factors |= {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    assert float(number) * factors[name] == pytest.approx(value, rel=0.0051)
    assert len(re.sub(r"^0\.0*|[.,]", "", number)) >= 3 or value >= 1000


def test_the_ends_of_an_interval_share_a_unit() -> None:
    """An interval across a change of unit is printed in the unit of its upper end."""
    assert quantities.quantity_range(990, 1010, "ns") == f"0.990–1.01{NARROW}µs"
    assert quantities.quantity_range(None, 1010, "ns") == "–"


def test_percent_and_p_never_pretend_precision() -> None:
    """Minus signs are minus signs, and a tiny p is not zero."""
    assert quantities.percent(-0.012, signed=True) == f"−1.2{NARROW}%"
    assert quantities.percent(None) == "–"
    assert (quantities.p_value(0.0004), quantities.p_value(0.0126), quantities.p_value(None)) == (
        "< 0.001",
        "0.013",
        "–",
    )


def test_cycles_need_a_clock() -> None:
    """Without the frequency there is a dash, with it the cycles, no more digits than were measured, thousands set apart."""
    assert quantities.cycles(43_000, None) == "–"
    assert quantities.cycles(43_000, 2.6e9) == "112,000"
