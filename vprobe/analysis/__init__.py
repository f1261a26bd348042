"""What do the samples say? Pure functions from runs to estimates, comparisons and gate verdicts."""
