"""From an estimate to a word. A change is claimed only where the whole interval clears the noise."""

from __future__ import annotations

from math import expm1, log1p

from vprobe.analysis import numbers
from vprobe.analysis.estimate import Estimate, minimum_boots
from vprobe.analysis.floor import Floor
from vprobe.model import Verdict


def judge(one: Estimate, floor: Floor, margin: float) -> tuple[Verdict, str]:
    """Verdict on ln(ratio), with the reason where there is none to be had.

    `same`: the interval lies inside ±max(noise floor, `margin`), a share of 1. `slower` and `faster`: it lies beyond the
    noise floor on one side. Otherwise it is inconclusive.
    """
    if floor.rejected:
        return Verdict.INCONCLUSIVE, floor.reason
    if not one.conclusive:
        return Verdict.INCONCLUSIVE, too_few(one)
    bound = max(floor.size, log1p(margin))
    if -bound <= one.low and one.high <= bound:
        return Verdict.SAME, "no variation" if one.low == one.high else ""
    if one.low > floor.size:
        return Verdict.SLOWER, ""
    if one.high < -floor.size:
        return Verdict.FASTER, ""
    return Verdict.INCONCLUSIVE, _undecided(one, floor)


def too_few(one: Estimate) -> str:
    """Why so few boots say nothing."""
    plural = "boot" if one.boots == 1 else "boots"
    return f"{one.boots} {plural} cannot give a 95 % interval; {minimum_boots(one.share)} can"


def _undecided(one: Estimate, floor: Floor) -> str:
    if one.low > 0 or one.high < 0:
        return f"does not clear the noise floor of {numbers.share(expm1(floor.size))}"
    detectable = one.minimum_detectable
    assert detectable is not None
    smallest = numbers.share(expm1(min(detectable, 700.0)))
    return f"{one.boots} boots of this noise show changes from {smallest} up; measure more"
