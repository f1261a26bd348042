"""The rank tests against enumeration of every outcome, and against scipy and statsmodels where these are exact."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from vprobe.analysis import rank_sum, signed_rank
from vprobe.analysis.exact import Grid, doubled_midranks
from vprobe.analysis.holm import holm

# Small integers make ties and zeros; sixteenths are exact in binary, so that the oracle may compare them exactly.
tied = st.integers(-6, 6).map(lambda n: n / 16)
# Values that only rounding tells apart are ties by design; nine decimals keep them out of the oracle's way.
continuous = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 9))
samples = st.one_of(st.lists(tied, min_size=1, max_size=9), st.lists(continuous, min_size=1, max_size=9))


def enumerated_signed_rank(x: np.ndarray) -> tuple[float, float]:
    """One-sided p (greater, less) from all 2**n signs."""
    ranks = stats.rankdata(np.abs(x))
    ranks[x == 0] = 0
    observed = ranks[x > 0].sum()
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(x))])
    return float((sums >= observed - 1e-9).mean()), float((sums <= observed + 1e-9).mean())


def enumerated_rank_sum(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """One-sided p (greater, less) from all choices of the first sample."""
    ranks = stats.rankdata(np.concatenate([x, y]))
    observed = ranks[: len(x)].sum()
    sums = np.array([ranks[list(chosen)].sum() for chosen in itertools.combinations(range(len(ranks)), len(x))])
    return float((sums >= observed - 1e-9).mean()), float((sums <= observed + 1e-9).mean())


@settings(max_examples=300, deadline=None)
@given(values=samples)
def test_signed_rank_p_is_the_enumerated_one(values: list[float]) -> None:
    """With and without ties and zeros, p is what counting all sign patterns gives."""
    x = np.array(values)
    greater, less = enumerated_signed_rank(x)
    assert signed_rank.p_greater(x) == pytest.approx(greater, abs=1e-12)
    assert signed_rank.p_two_sided(x) == pytest.approx(min(1, 2 * min(greater, less)), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(values=st.lists(tied, min_size=10, max_size=12))
def test_signed_rank_p_is_the_enumerated_one_up_to_twelve(values: list[float]) -> None:
    """The same for the largest samples that are quick to enumerate."""
    x = np.array(values)
    assert signed_rank.p_greater(x) == pytest.approx(enumerated_signed_rank(x)[0], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(tied, min_size=2, max_size=8), confidence=st.sampled_from([0.8, 0.95]))
def test_signed_rank_interval_is_what_enumeration_does_not_reject(values: list[float], confidence: float) -> None:
    """Ends of the interval are the first centres, from outside, at which or beyond which enumeration does not reject."""
    x = np.array(values)
    centres = np.unique((x[:, None] + x[None, :]) / 2)
    gaps = np.concatenate([[centres[0] - 1], (centres[1:] + centres[:-1]) / 2, [centres[-1] + 1]])

    def accepted(centre: float) -> bool:
        return 2 * min(enumerated_signed_rank(x - centre)) > 1 - confidence

    low, high = signed_rank.interval(x, confidence)
    if accepted(gaps[0]):
        assert (low, high) == (-np.inf, np.inf)
        return
    spans = [(c, c) for c in centres if accepted(c)]
    spans += [(centres[i - 1], centres[i]) for i in range(1, len(centres)) if accepted(gaps[i])]
    assume(spans)  # where everything is rejected there is nothing to enumerate
    assert low == pytest.approx(min(span[0] for span in spans), abs=1e-12)
    assert high == pytest.approx(max(span[1] for span in spans), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(continuous, min_size=6, max_size=40, unique=True))
def test_untied_interval_agrees_with_the_general_search(values: list[float]) -> None:
    """The short way for series without ties gives what looking at every candidate gives."""
    x = np.array(values)
    grid = Grid.of(x).values[0]
    assume(len(np.unique(grid)) == len(grid))
    sums = np.unique(np.add.outer(grid, grid)[np.triu_indices(len(grid))])
    assume(len(sums) == len(x) * (len(x) + 1) // 2)
    from vprobe.analysis.exact import not_rejected

    general = not_rejected(sums, lambda t: signed_rank._p_two_sided(4 * grid - t), 0.05)
    assert signed_rank._untied_interval(np.sort(sums), len(x), 0.05) == general


@settings(max_examples=200, deadline=None)
@given(values=samples, centre=tied)
def test_interval_and_test_agree(values: list[float], centre: float) -> None:
    """A centre that the test does not reject lies inside the interval."""
    x = np.array(values)
    low, high = signed_rank.interval(x, 0.95)
    if signed_rank.p_two_sided(x, centre) > 0.05:
        assert low - 1e-12 <= centre <= high + 1e-12


@settings(max_examples=200, deadline=None)
@given(values=samples, offset=st.floats(-5, 5), factor=st.floats(0.01, 100))
def test_estimate_moves_with_the_data(values: list[float], offset: float, factor: float) -> None:
    """Shifting and stretching the observations shifts and stretches estimate and interval, and mirroring mirrors them."""
    x = np.array(values)
    low, high = signed_rank.interval(x, 0.9)
    assert low - 1e-12 <= signed_rank.hodges_lehmann(x) <= high + 1e-12
    stretched = signed_rank.interval(np.round(factor * x, 12), 0.9)
    assert stretched == pytest.approx((factor * low, factor * high), abs=1e-9)
    mirrored = signed_rank.interval(-x, 0.9)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)
    moved = signed_rank.hodges_lehmann(x + offset)
    assert moved == pytest.approx(signed_rank.hodges_lehmann(x) + offset, abs=1e-9)


@pytest.mark.parametrize("n", [6, 12, 25, 50])
def test_signed_rank_against_scipy_without_ties(n: int) -> None:
    """Without ties scipy's exact mode is right, and p is the same."""
    x = np.random.default_rng(n).normal(0.4, 1, n)
    expected = stats.wilcoxon(x, alternative="greater", method="exact").pvalue
    assert signed_rank.p_greater(x) == pytest.approx(expected, rel=1e-9)


def test_constant_series() -> None:
    """No variation: the interval is the value itself, and zero is never significant."""
    assert signed_rank.interval(np.full(9, 0.3), 0.95) == pytest.approx((0.3, 0.3), abs=1e-12)
    assert signed_rank.interval(np.zeros(9), 0.95) == (0, 0)
    assert signed_rank.p_two_sided(np.zeros(9)) == 1.0
    assert signed_rank.p_two_sided(np.full(9, 0.3)) == 2 / 2**9


def test_everything_rejected() -> None:
    """34 boots at exactly 0 and 6 below: symmetric around nothing, so the interval is that of broken ties, and holds 0."""
    x = np.array([0.0] * 34 + [-0.005] * 3 + [-0.01] * 3)
    assert signed_rank.p_two_sided(x) == 2 / 2**6
    assert signed_rank.interval(x, 0.95) == (0, 0)


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.integers(-2, 2).map(lambda n: n / 16), min_size=1, max_size=40))
def test_heavy_ties_always_give_an_interval_around_the_estimate(values: list[float]) -> None:
    """A handful of distinct values, as a coarse clock gives them: the interval holds the estimate, whatever they are."""
    x = np.array(values)
    low, high = signed_rank.interval(x, 0.95)
    assert low <= signed_rank.hodges_lehmann(x) <= high


def test_too_few_for_the_confidence() -> None:
    """Five observations cannot give a 95 % interval, six can: their range."""
    x = np.array([0.5, -1.0, 2.0, 3.25, 0.0, 7.0])
    assert signed_rank.interval(x[:5], 0.95) == (-np.inf, np.inf)
    assert signed_rank.interval(x, 0.95) == (-1.0, 7.0)


def test_normal_approximation_meets_the_exact_distribution() -> None:
    """Where the enumeration ends, the approximation is within 2 % of p at the levels that decide."""
    ranks = tuple(range(2, 2 * signed_rank.EXACT_LIMIT + 1, 2))
    tails = signed_rank._tails(tuple(range(1, signed_rank.EXACT_LIMIT + 1)))
    for level in (0.2, 0.05, 0.01):
        observed = int(np.searchsorted(-tails, -level))
        assert signed_rank._normal_tail(ranks, 2 * observed) == pytest.approx(tails[observed], rel=0.02)


def test_large_series_takes_the_approximation() -> None:
    """Beyond the exact limit, interval and p still agree with scipy's normal approximation."""
    x = np.random.default_rng(5).normal(0.05, 1, 400)
    expected = stats.wilcoxon(x, method="approx", correction=True).pvalue
    assert signed_rank.p_two_sided(x) == pytest.approx(expected, rel=1e-6)
    low, high = signed_rank.interval(x, 0.95)
    assert signed_rank.p_two_sided(x, low - 1e-6) <= 0.05 < signed_rank.p_two_sided(x, low + 1e-6)
    assert signed_rank.p_two_sided(x, high + 1e-6) <= 0.05 < signed_rank.p_two_sided(x, high - 1e-6)


@settings(max_examples=150, deadline=None)
@given(
    x=st.one_of(st.lists(tied, min_size=1, max_size=5), st.lists(continuous, min_size=1, max_size=5)),
    y=st.one_of(st.lists(tied, min_size=1, max_size=5), st.lists(continuous, min_size=1, max_size=5)),
)
def test_rank_sum_p_is_the_enumerated_one(x: list[float], y: list[float]) -> None:
    """With and without ties, p is what counting all choices of the first sample gives."""
    greater, less = enumerated_rank_sum(np.array(x), np.array(y))
    assert rank_sum.p_greater(np.array(x), np.array(y)) == pytest.approx(greater, abs=1e-12)
    assert rank_sum.p_two_sided(np.array(x), np.array(y)) == pytest.approx(min(1, 2 * min(greater, less)), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(x=st.lists(tied, min_size=3, max_size=5), y=st.lists(tied, min_size=3, max_size=5))
def test_rank_sum_interval_is_what_enumeration_does_not_reject(x: list[float], y: list[float]) -> None:
    """The same as for one sample, over the differences of pairs."""
    first, second = np.array(x), np.array(y)
    shifts = np.unique(np.subtract.outer(first, second))
    gaps = np.concatenate([[shifts[0] - 1], (shifts[1:] + shifts[:-1]) / 2, [shifts[-1] + 1]])

    def accepted(shift: float) -> bool:
        return 2 * min(enumerated_rank_sum(first - shift, second)) > 0.1

    low, high = rank_sum.interval(first, second, 0.9)
    if accepted(gaps[0]):
        assert low == -np.inf
        return
    spans = [(c, c) for c in shifts if accepted(c)]
    spans += [(shifts[i - 1], shifts[i]) for i in range(1, len(shifts)) if accepted(gaps[i])]
    assume(spans)
    assert low == pytest.approx(min(span[0] for span in spans), abs=1e-12)
    assert high == pytest.approx(max(span[1] for span in spans), abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(4, 4), (9, 20), (25, 30)])
def test_rank_sum_against_scipy_without_ties(m: int, n: int) -> None:
    """Without ties scipy's exact Mann-Whitney p is the same, and the interval's ends are where p crosses alpha."""
    random = np.random.default_rng(m)
    x, y = random.normal(0.5, 1, m), random.normal(0, 1, n)
    expected = stats.mannwhitneyu(x, y, method="exact").pvalue
    assert rank_sum.p_two_sided(x, y) == pytest.approx(expected, rel=1e-9)
    low, high = rank_sum.interval(x, y, 0.95)
    for end, outward in ((low, -1e-9), (high, 1e-9)):
        assert rank_sum.p_two_sided(x, y, end + outward) <= 0.05 < rank_sum.p_two_sided(x, y, end - outward)


def test_rank_sum_of_large_samples() -> None:
    """Beyond the exact limit p is scipy's asymptotic one, and the interval's ends are where p crosses alpha."""
    random = np.random.default_rng(8)
    x, y = random.normal(0.3, 1, 70), np.round(random.normal(0, 1, 60), 1)
    expected = stats.mannwhitneyu(x, y, method="asymptotic").pvalue
    assert rank_sum.p_two_sided(x, y) == pytest.approx(expected, rel=1e-6)
    low, high = rank_sum.interval(x, y, 0.95)
    for end, outward in ((low, -1e-9), (high, 1e-9)):
        assert rank_sum.p_two_sided(x, y, end + outward) <= 0.05 < rank_sum.p_two_sided(x, y, end - outward)


def test_too_few_for_a_shift() -> None:
    """Three against three cannot give a 95 % interval: there are only comb(6, 3) = 20 choices."""
    assert 2 / comb(6, 3) > 0.05
    assert rank_sum.interval(np.array([1.0, 2, 3]), np.array([7.0, 8, 9]), 0.95) == (-np.inf, np.inf)


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_midranks_are_those_of_scipy(values: list[int]) -> None:
    """Equal values share the mean of their ranks."""
    array = np.array(values, dtype=np.int64)
    assert (doubled_midranks(array) == 2 * stats.rankdata(array)).all()


@settings(max_examples=20)  # statsmodels takes a tenth of a second for each
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=25))
def test_holm_is_that_of_statsmodels(values: list[float]) -> None:
    """Adjusted p values agree, in the order in which they were given."""
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist(), abs=1e-12)


def test_holm_of_nothing() -> None:
    """No tests, no p values."""
    assert holm([]) == []
