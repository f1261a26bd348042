"""How the figures came about, in plain words with the formulas; the same for every run."""

from __future__ import annotations

from dataclasses import dataclass

from ..report import Report, Section


@dataclass(frozen=True)
class Context:
    """What method.html shows: the figures of this run that the text names."""

    arms: int
    boots: int
    confidence: str


def context(report: Report) -> Context:
    """The method, with the numbers of the first run."""
    rows = report.first.comparisons.comparisons
    return Context(
        arms=len(report.first.arms),
        boots=report.first.boots,
        confidence=f"{(rows[0].confidence if rows else 0.95) * 100:g}",
    )


SECTION = Section("method", "method.html", context)
