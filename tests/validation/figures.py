"""The statistics of compare and gate, measured: simulations whose truth is known, and the figures of docs/statistics.md.

    python tests/validation/figures.py                 print the figures and check them
    python tests/validation/figures.py --write         put them into docs/statistics.md as well

Exit code 1 where a figure misses what it must be. Everything follows from the seeds; a full run takes some minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, outside of pytest

from validation.documents import put
from validation.sessions import Recorded, Session, draw, recorded_noise

from vprobe.analysis.estimate import estimate
from vprobe.analysis.gate import gate
from vprobe.analysis.holm import holm
from vprobe.analysis.rules import parse_rule
from vprobe.model import GateReport, GateVerdict, Run

DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"
ALPHA = 0.05


@dataclass(frozen=True)
class Figure:
    """A table of results. `misses`: in what it is not what it must be."""

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    misses: Sequence[str] = field(default_factory=list)

    def markdown(self) -> str:
        """As a section of the document."""
        lines = [f"### {self.title}", "", self.text, "", f"| {' | '.join(self.header)} |"]
        lines += [f"|{' --- |' * len(self.header)}", *(f"| {' | '.join(row)} |" for row in self.rows), ""]
        return "\n".join(lines)


def judged(run: Run, limit: str = "0%") -> GateReport:
    """Head against base, all workloads."""
    return gate(run, [parse_rule(f"*@bare<={limit} vs base")])


# --- false alarms ------------------------------------------------------------------------------------------------------

NOISES: tuple[tuple[str, float | None], ...] = (
    ("as recorded", None),
    ("0.1", 0.1),
    ("0.5", 0.5),
    ("1", 1.0),
)


def false_alarms(recorded: Sequence[Recorded], sessions: int = 200, workloads: int = 20) -> Figure:
    """Sessions of equal variants in which the gate fails at the hardest limit, 0 %."""
    rows, misses = [], []
    for boots in (9, 20):
        for name, sigma in NOISES:
            random = np.random.default_rng([1, boots, int(10 * (sigma or 0))])
            ours = pooled = 0
            for _ in range(sessions):
                run = draw(random, recorded, Session(workloads, boots, sigma_boot=sigma))
                ours += judged(run).verdict == GateVerdict.FAIL
                pooled += pooled_alarm(run)
            rows.append([str(boots), name, f"{ours} of {sessions}", f"{pooled} of {sessions}"])
            if ours > 0.09 * sessions:
                misses.append(f"{ours} of {sessions} sessions fail with {boots} boots, sigma_boot {name}")
    return Figure(
        "False alarms of the gate",
        f"Sessions of {workloads} workloads with two equal variants, gated at `*@bare<=0% vs base` (any wider limit is easier), "
        f"in which anything fails. Must be at most 18 of 200. Beside it what a Wilcoxon test over all rounds pooled would "
        "do with the same sessions and the same Holm correction: rounds of a boot are not independent.",
        ["boots", "sigma of boots / sigma of rounds", "vprobe gate", "rounds pooled"],
        rows,
        misses,
    )


def pooled_alarm(run: Run) -> bool:
    """Whether a one-sided Wilcoxon test on all rounds, Holm over the workloads, raises an alarm."""
    p_values = []
    for workload in run.workloads:
        pairs = [
            (v.samples["bare/head"].values, v.samples["bare/base"].values)
            for v in run.visits
            if v.workload == workload.name
        ]
        logs = np.concatenate([np.log(np.array(head) / np.array(base)) for head, base in pairs])
        p_values.append(float(stats.wilcoxon(logs, alternative="greater", method="asymptotic").pvalue))
    return min(holm(p_values)) <= ALPHA


# --- power -------------------------------------------------------------------------------------------------------------


def power(recorded: Sequence[Recorded], sessions: int = 100) -> Figure:
    """How often a known change is found, one workload a session, in the noise of its own recording."""
    effects, boots = (1.0, 1.01, 1.02, 1.05, 1.10), (9, 20, 40)
    rows = []
    for source in recorded:
        cells = [f"`{source.name}`"]
        for number in boots:
            found = [_found(source, effect, number, sessions) for effect in effects]
            cells.append(" / ".join(f"{share:.0%}" for share in found))
        rows.append(cells)
    return Figure(
        "Power in recorded noise",
        "Share of sessions in which the gate fails a head that does 0 / 1 / 2 / 5 / 10 % more work, at the limit 0 %, by boots "
        "of 60 rounds. The noise is that of a shared two-CPU virtual machine with other work going on.",
        ["workload", *(f"{number} boots" for number in boots)],
        rows,
    )


def _found(source: Recorded, effect: float, boots: int, sessions: int) -> float:
    random = np.random.default_rng([2, boots, round(1000 * effect)])
    runs = (draw(random, [source], Session(1, boots, effect=effect)) for _ in range(sessions))
    return float(np.mean([judged(run).verdict == GateVerdict.FAIL for run in runs]))


# --- coverage ----------------------------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], np.ndarray]
SYMMETRIC: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(size=n),
    "uniform": lambda random, n: random.uniform(-1, 1, n),
    "Laplace": lambda random, n: random.laplace(size=n),
    "Student, 3 degrees of freedom": lambda random, n: random.standard_t(3, n),
    "normal, one boot in ten with five times the noise": lambda random, n: (
        random.normal(size=n) * np.where(random.random(n) < 0.1, 5, 1)
    ),
}
SKEWED: dict[str, tuple[Draw, float]] = {
    "log-normal, skewness 0.8": (lambda random, n: np.exp(0.25 * random.normal(size=n)), 1.0),
    "gamma, skewness 0.8": (lambda random, n: random.gamma(6.25, size=n), float(stats.gamma.median(6.25))),
}
SIZES = (9, 12, 20, 30, 60)


def coverage(samples: int = 4000) -> Figure:
    """How often the 95 % interval holds the true centre (the median, where mean and median differ)."""
    rows, misses = [], []
    for name, draw_one, centre, least in _distributions():
        shares = [_coverage(draw_one, centre, n, samples) for n in SIZES]
        rows.append([name, *(f"{share:.1%}" for share in shares)])
        misses += [
            f"coverage {share:.1%} for {name}, {n} boots"
            for share, n in zip(shares, SIZES, strict=True)
            if share < least
        ]
    return Figure(
        "Coverage of the interval",
        f"Share of {samples} samples whose 95 % interval holds the true centre; for the skewed ones their median, although "
        "the Hodges-Lehmann estimate aims between median and mean. Must be at least 93 % for symmetric and 90 % for mildly "
        "skewed noise.",
        ["noise of the boots", *(f"{n} boots" for n in SIZES)],
        rows,
        misses,
    )


def _distributions() -> Iterator[tuple[str, Draw, float, float]]:
    yield from ((name, one, 0.0, 0.93) for name, one in SYMMETRIC.items())
    yield from ((name, one, centre, 0.90) for name, (one, centre) in SKEWED.items())


def _coverage(draw_one: Draw, centre: float, n: int, samples: int) -> float:
    random = np.random.default_rng([3, n])
    held = 0
    for _ in range(samples):
        one = estimate(draw_one(random, n))
        held += one.low <= centre <= one.high
    return held / samples


def detectable(samples: int = 1000) -> Figure:
    """Power at the effect that is called the minimum detectable one."""
    rows, misses = [], []
    for n in (6, 9, 12, 20, 30, 60):
        random = np.random.default_rng([4, n])
        size = float(np.median([estimate(random.normal(size=n)).minimum_detectable or 0 for _ in range(samples)]))
        found = float(np.mean([estimate(random.normal(size=n) + size).low > 0 for _ in range(samples)]))
        rows.append([str(n), f"{size:.2f} sigma", f"{found:.0%}"])
        if not 0.72 <= found <= 0.86:
            misses.append(f"power {found:.0%} at the minimum detectable effect of {n} boots")
    return Figure(
        "Minimum detectable effect",
        "The figure that `compare` gives (1.43 half-widths of the interval) in units of the boots' standard deviation, and how "
        "often an effect of that size is found.",
        ["boots", "minimum detectable", "found"],
        rows,
        misses,
    )


# --- dependence --------------------------------------------------------------------------------------------------------


def dependence(recorded: Sequence[Recorded], sessions: int = 60) -> Figure:
    """What becomes of rows that the test holds for beyond the limit, when boots drift or resemble the ones before."""
    settings = [
        ("independent", Session(sigma_boot=0.5)),
        ("lag-1 correlation 0.3", Session(sigma_boot=0.5, correlation=0.3)),
        ("lag-1 correlation 0.5", Session(sigma_boot=0.5, correlation=0.5)),
        ("lag-1 correlation 0.8", Session(sigma_boot=0.5, correlation=0.8)),
        ("drift of 3 sigma over the session", Session(sigma_boot=0.5, drift=3)),
        ("drift of 6 sigma over the session", Session(sigma_boot=0.5, drift=6)),
    ]
    rows, misses = [], []
    for name, session in settings:
        cells = [name]
        for workloads, boots in ((20, 9), (20, 20), (20, 40), (1, 20), (1, 40)):
            one = replace(session, workloads=workloads, boots=boots)
            share = _withheld(recorded, one, sessions if workloads > 1 else 10 * sessions)
            cells.append(f"{share:.0%}")
            expected = session.drift > 0 or session.correlation >= 0.3
            if workloads == 20 and boots >= 20 and expected and share < 0.9:
                misses.append(f"only {share:.0%} withheld with {boots} boots, {name}")
            if workloads == 20 and not expected and share > 0.05:
                misses.append(f"{share:.0%} withheld with {boots} independent boots")
        rows.append(cells)
    return Figure(
        "Drift and correlation",
        "Of the rows that are beyond the limit by the test alone (a head that is slower by 3 sigma of its boots), the share "
        "that the gate calls inconclusive, because boots drift or resemble the ones before. In sessions of 20 workloads with "
        "20 boots and more at least 90 % must be; a single short series cannot show as much. For independent boots the share "
        "is the price: true failures that are withheld.",
        ["boots", "20 workloads, 9 boots", "20, 20 boots", "20, 40 boots", "1 workload, 20 boots", "1, 40 boots"],
        rows,
        misses,
    )


def _withheld(recorded: Sequence[Recorded], session: Session, sessions: int) -> float:
    random = np.random.default_rng(
        [5, session.boots, session.workloads, int(10 * session.correlation), int(session.drift)]
    )
    beyond = withheld = 0
    for _ in range(sessions):
        sources = [recorded[int(random.integers(len(recorded)))]]
        sigma = sources[0].sigma_round * float(np.hypot(session.sigma_boot or 0, 1.2533 / np.sqrt(session.rounds)))
        run = draw(random, sources, replace(session, effect=float(np.exp(3 * sigma))))
        results = [row for row in judged(run).rules if row.p_adjusted is not None and row.p_adjusted <= ALPHA]
        beyond += len(results)
        withheld += sum(row.verdict == GateVerdict.INCONCLUSIVE for row in results)
    return withheld / max(beyond, 1)


# --- the document ------------------------------------------------------------------------------------------------------


def all_figures() -> Iterator[Figure]:
    """Every figure, as it is done."""
    recorded = recorded_noise()
    yield false_alarms(recorded)
    yield power(recorded)
    yield coverage()
    yield detectable()
    yield dependence(recorded)


def write(name: str, figures: Sequence[Figure]) -> None:
    """Replace what stands between the document's markers of that name."""
    put(DOCUMENT, name, "\n".join(one.markdown() for one in figures))


def main() -> int:
    """Print the figures; 1 where one misses."""
    figures = []
    for figure in all_figures():
        print(figure.markdown(), flush=True)
        figures.append(figure)
    if "--write" in sys.argv[1:]:
        write("figures", figures)
    misses = [miss for figure in figures for miss in figure.misses]
    for miss in misses:
        print(f"MISSED: {miss}", file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
