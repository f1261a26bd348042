"""Signs of dependence between boots: their null distributions, and what they do to a failure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vprobe.analysis.estimate import estimate
from vprobe.analysis.stability import lag_one, lag_one_z, session_correlation, trend_z, unstable


def autoregressive(random: np.random.Generator, boots: int, rho: float) -> np.ndarray:
    """First-order autoregressive series of variance 1."""
    x = random.normal(size=boots)
    for boot in range(1, boots):
        x[boot] = rho * x[boot - 1] + np.sqrt(1 - rho**2) * x[boot]
    return x


@pytest.mark.parametrize("boots", [6, 9, 20, 60])
def test_lag_one_is_standard_normal_for_independent_boots(boots: int) -> None:
    """Mean 0 and variance 1, so that its limit is a p of 1 %."""
    random = np.random.default_rng(boots)
    z = [lag_one_z(random.normal(size=boots)) for _ in range(3000)]
    assert np.mean(z) == pytest.approx(0, abs=0.08)
    assert np.var(z) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("boots", [9, 20, 60])
def test_trend_is_spearmans_correlation(boots: int) -> None:
    """The same as scipy's, ties included, scaled to variance 1."""
    x = np.round(np.random.default_rng(boots).normal(size=boots), 1)
    rho = stats.spearmanr(np.arange(boots), x).statistic
    assert trend_z(x) == pytest.approx(rho * np.sqrt(boots - 1))


def test_constant_series_has_no_signs() -> None:
    """No variation, no correlation, no trend, no exception."""
    x = np.full(9, 0.3)
    assert (lag_one(x), trend_z(x), unstable(x, estimate(x), 0.1, 0.0)) == (0, 0, "")


@pytest.mark.parametrize("rho", [0.4, 0.6])
def test_session_correlation_is_freed_of_its_bias(rho: float) -> None:
    """Over 200 short series the mean is near the truth, which a single series underestimates."""
    random = np.random.default_rng(1)
    series = [autoregressive(random, 20, rho) for _ in range(200)]
    assert session_correlation(series) == pytest.approx(rho, abs=0.05)
    assert np.mean([lag_one(x) for x in series]) < rho - 0.08


def test_session_of_independent_boots_shows_none() -> None:
    """In 200 sessions of 20 workloads at most 5 are taken for correlated; few series are not judged at all."""
    random = np.random.default_rng(2)
    sessions = [[random.normal(size=9) for _ in range(20)] for _ in range(200)]
    assert sum(session_correlation(one) > 0 for one in sessions) <= 8
    assert session_correlation([autoregressive(random, 20, 0.9) for _ in range(4)]) == 0


def test_ordinary_failures_stand() -> None:
    """Independent boots that exceed the limit by three deviations are doubted in at most 4 % of series."""
    random = np.random.default_rng(3)
    for boots in (9, 20):
        series = [random.normal(3.0, 1.0, boots) for _ in range(500)]
        doubted = sum(bool(unstable(x, estimate(x), 0.0, 0.0)) for x in series)
        assert doubted <= 20


def test_weak_signs_widen_the_interval() -> None:
    """A correlation of 0.3 that could be chance costs a close failure and not a clear one."""
    x = np.array([1.0, 1.2, 0.9, 0.6, 0.8, 1.1, 1.25, 1.0, 0.7, 0.9, 1.15, 1.05, 0.75, 0.65])
    assert lag_one(x) > 0.2 and lag_one_z(x) < 2.326
    one = estimate(x)
    assert "once a lag-1 correlation" in unstable(x, one, one.low - 0.01, 0.0)
    assert unstable(x, one, one.low - 1.0, 0.0) == ""
