"""From rounds to one number a boot: direction, percentiles, exclusions, canary."""

from __future__ import annotations

from math import log

import msgspec
import numpy as np
import pytest
from synthetic import synthetic_run

from vprobe.analysis import series as series_module
from vprobe.analysis.series import Samplings
from vprobe.errors import UsageError
from vprobe.model import Run, Samples

replace = msgspec.structs.replace


def with_values(run: Run, arm: str, values: tuple[float, ...], boot: int | None = None) -> Run:
    """The run with an arm's values replaced, in one boot or in all."""
    visits = [
        replace(visit, samples={**visit.samples, arm: Samples(1, values)}) if boot in (None, visit.boot) else visit
        for visit in run.visits
    ]
    return replace(run, visits=tuple(visits))


def tiny(workload: str, rounds: int = 4) -> Run:
    """Two boots of bare and kvm."""
    return synthetic_run(boots=2, rounds=rounds, arms=["bare", "kvm"], workloads=[workload], blocks=False)


def test_median_of_the_ratios_not_ratio_of_the_medians() -> None:
    """Rounds are paired: what disturbs both blocks of a round alike does not count."""
    run = with_values(tiny("cpu.zlib"), "bare", (1.0, 10.0, 100.0, 1000.0))
    run = with_values(run, "kvm", (1.1, 11.0, 110.0, 1100.0))
    found = Samplings(run).ratio("cpu.zlib", "kvm", "bare")
    assert found.values == pytest.approx([log(1.1)] * 2, abs=1e-12)
    assert found.rounds == 8


def test_slower_is_positive_where_more_is_better() -> None:
    """Half the bandwidth is twice as slow."""
    run = with_values(tiny("memory.triad"), "bare", (8e9,) * 4)
    run = with_values(run, "kvm", (4e9,) * 4)
    assert Samplings(run).ratio("memory.triad", "kvm", "bare").values == pytest.approx([log(2)] * 2)


def test_percentiles_count_from_the_good_end() -> None:
    """p75 of a time is what 75 % of the rounds stay below, p75 of a bandwidth what 75 % reach."""
    times = with_values(tiny("cpu.zlib", 5), "kvm", (1.0, 2.0, 3.0, 4.0, 5.0))
    assert Samplings(times).level("cpu.zlib", "kvm", 75).values == pytest.approx([4.0, 4.0])
    rates = with_values(tiny("memory.triad", 5), "kvm", (1.0, 2.0, 3.0, 4.0, 5.0))
    assert Samplings(rates).level("memory.triad", "kvm", 75).values == pytest.approx([2.0, 2.0])


def test_ratio_of_percentiles() -> None:
    """A longer tail shows in the ratio of percentiles and not in the median."""
    run = with_values(tiny("cpu.zlib", 5), "bare", (1.0, 1.0, 1.0, 1.0, 1.0))
    run = with_values(run, "kvm", (1.0, 1.0, 1.0, 1.0, 3.0))
    samplings = Samplings(run)
    assert samplings.ratio("cpu.zlib", "kvm", "bare").values == pytest.approx([0, 0])
    assert samplings.ratio("cpu.zlib", "kvm", "bare", 100 - 1e-9).values == pytest.approx([log(3)] * 2, rel=1e-6)


def test_excluded_visits_do_not_count_and_values_never_decide() -> None:
    """A visit with a reason is left out; one with a wild value and no reason stays."""
    run = with_values(tiny("cpu.zlib"), "kvm", (1e9,) * 4, boot=1)
    assert len(Samplings(run).ratio("cpu.zlib", "kvm", "bare")) == 2
    first, second = run.visits
    excluded = replace(run, visits=(first, replace(second, excluded="stolen time")))
    assert Samplings(excluded).boots("cpu.zlib", "kvm", "bare") == (0,)


def test_boots_in_which_one_arm_is_missing_are_left_out_of_its_ratio() -> None:
    """An arm that died in a boot is compared over the others."""
    run = tiny("cpu.zlib")
    first, second = run.visits
    lost = replace(second, samples={"bare": second.samples["bare"]})
    samplings = Samplings(replace(run, visits=(first, lost)))
    assert samplings.boots("cpu.zlib", "kvm", "bare") == (0,)
    assert len(samplings.level("cpu.zlib", "bare")) == 2


def test_canary_scales_a_session() -> None:
    """A machine that is twice as slow, canary and all, gives the same level."""
    run = with_values(tiny("cpu.zlib"), "kvm", (10.0,) * 4)
    slow = with_values(run, "kvm", (20.0,) * 4)
    doubled = tuple(
        replace(
            visit,
            noise=replace(
                visit.noise,
                canary_before=(visit.noise.canary_before or 0) * 2,
                canary_after=(visit.noise.canary_after or 0) * 2,
            ),
        )
        for visit in slow.visits
    )
    fast_level = Samplings(run).canary_level("cpu.zlib", "kvm").values
    slow_level = Samplings(replace(slow, visits=doubled)).canary_level("cpu.zlib", "kvm").values
    assert slow_level == pytest.approx(fast_level, abs=1e-9)


def test_boots_without_a_canary_have_no_level() -> None:
    """Unknown is not taken as anything."""
    run = tiny("cpu.zlib")
    first, second = run.visits
    unknown = replace(second, noise=replace(second.noise, canary_before=None, canary_after=None))
    assert len(Samplings(replace(run, visits=(first, unknown))).canary_level("cpu.zlib", "kvm")) == 1


def test_zero_has_no_logarithm() -> None:
    """A value of 0 shows as not finite, and never as an exception or a warning."""
    run = with_values(tiny("cpu.zlib"), "kvm", (0.0,) * 4)
    assert not np.isfinite(Samplings(run).ratio("cpu.zlib", "kvm", "bare").values).any()


def test_equal_ratios_of_unequal_values_are_equal() -> None:
    """Ties that floating point breaks are mended, so that a constant ratio has no variation."""
    run = with_values(tiny("cpu.zlib"), "bare", (0.1,) * 4, boot=0)
    run = with_values(run, "kvm", (0.3,) * 4, boot=0)
    run = with_values(run, "bare", (0.7,) * 4, boot=1)
    run = with_values(run, "kvm", (2.1,) * 4, boot=1)
    values = Samplings(run).ratio("cpu.zlib", "kvm", "bare").values
    assert values[0] == values[1]


def test_absurd_numbers_of_boots_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact statistics are quadratic in boots: a file that would take hours is refused at once."""
    monkeypatch.setattr(series_module, "MAXIMUM_BOOTS", 1)
    with pytest.raises(UsageError, match="2 boots"):
        Samplings(tiny("cpu.zlib"))
