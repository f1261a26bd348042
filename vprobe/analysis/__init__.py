"""What do the samples say? Pure functions from runs to estimates, comparisons and gate verdicts."""

from __future__ import annotations

from vprobe.analysis.comparison import compare

__all__ = ["compare"]
