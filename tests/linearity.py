"""Whether time grows linearly with iterations, on a machine whose speed does not stay the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

MULTIPLES, LEAST_R2 = 10, 0.999
PATIENCE_S = 30.0
"""A neighbour can keep a shared machine slow for seconds; what is not linear is not linear on a quiet one either."""


def assert_linear(ticks_of: Callable[[int], int], step: int) -> None:
    """The best times of 1 to 10 times `step` iterations come to lie on a line, r² above 0.999."""
    counts = [step * multiple for multiple in range(1, MULTIPLES + 1)]
    best = {count: ticks_of(count) for count in counts}
    deadline = time.monotonic() + PATIENCE_S
    while statistics.correlation(counts, list(best.values())) ** 2 <= LEAST_R2:
        assert time.monotonic() < deadline, f"ticks by iterations: {best}"
        for count in counts:
            best[count] = min(best[count], ticks_of(count))
