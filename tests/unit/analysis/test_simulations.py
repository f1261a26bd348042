"""Quick versions of `make validate-statistics`, with fixed seeds: a change that ruins the statistics is seen at once."""

from __future__ import annotations

import numpy as np
from validation import figures
from validation.sessions import Session, draw, recorded_noise

from vprobe.model import GateVerdict


def test_equal_variants_rarely_fail() -> None:
    """Of 30 sessions of 20 workloads in recorded noise, at the limit 0 %, at most 4 fail."""
    random, recorded = np.random.default_rng(10), recorded_noise()
    runs = (draw(random, recorded, Session(boots=9, sigma_boot=0.5)) for _ in range(30))
    assert sum(figures.judged(run).verdict == GateVerdict.FAIL for run in runs) <= 4


def test_pooling_rounds_would_cry_wolf() -> None:
    """The same sessions show why rounds are not pooled: most would raise an alarm."""
    random, recorded = np.random.default_rng(11), recorded_noise()
    runs = (draw(random, recorded, Session(boots=9, sigma_boot=0.5)) for _ in range(8))
    assert sum(figures.pooled_alarm(run) for run in runs) >= 4


def test_five_per_cent_is_found() -> None:
    """5 % more work in the noise of a machine code chain: found by quick runs."""
    chain = next(one for one in recorded_noise() if one.name == "cpu.integer_chain")
    random = np.random.default_rng(12)
    runs = [draw(random, [chain], Session(1, 9, effect=1.05)) for _ in range(40)]
    assert sum(figures.judged(run, "2%").verdict == GateVerdict.FAIL for run in runs) >= 38


def test_coverage() -> None:
    """400 samples of each kind of noise hold their centre nearly as often as 95 %."""
    shares = [float(cell.rstrip("%")) for row in figures.coverage(400).rows for cell in row[1:]]
    assert len(shares) == 35
    assert min(shares) >= 88
    assert 94 <= np.mean(shares) <= 97


def test_dependent_boots_do_not_fail() -> None:
    """In 6 sessions of 20 workloads with correlated boots nearly all failures are withheld; in independent ones few."""
    recorded = recorded_noise()
    correlated = figures._withheld(recorded, Session(20, 20, sigma_boot=0.5, correlation=0.6), 6)
    independent = figures._withheld(recorded, Session(20, 20, sigma_boot=0.5), 6)
    assert correlated >= 0.9
    assert independent <= 0.08
