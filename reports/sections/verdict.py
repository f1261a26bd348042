"""The first screen: what the run says in one sentence, whether it can be trusted, and what it was measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vprobe.analysis.estimate import minimum_boots
from vprobe.model import Comparison, GateReport, GateVerdict, Verdict, VirtClass

from .. import findings, headlines, machine, quantities
from ..report import Report, Section
from ..texts import Texts
from ..view import ArmView, View
from . import evidence

CHANGES_NAMED = 4
"""Arms with variants that the first screen names."""
GLYPHS = {
    GateVerdict.PASS: "✓",
    GateVerdict.FAIL: "✕",
    GateVerdict.INCONCLUSIVE: "?",
    GateVerdict.INCOMPARABLE: "≠",
}


@dataclass(frozen=True)
class Answer:
    """A question that readers come with, and where the page answers it in full."""

    question: Markup
    lines: tuple[Markup, ...]
    href: str
    link: Markup


@dataclass(frozen=True)
class Badge:
    """The verdict of a gate."""

    verdict: str
    glyph: str
    word: Markup
    summary: Markup


@dataclass(frozen=True)
class Context:
    """What verdict.html shows."""

    badge: Badge | None
    headline: Markup
    lede: Markup
    answers: tuple[Answer, ...]
    facts: tuple[tuple[Markup, object], ...]
    command: str


def context(report: Report) -> Context:
    """The first screen of a report; several runs are summed up by the first."""
    view, texts = report.first, report.texts
    costs = findings.costs(view)
    return Context(
        badge=None if report.gate is None else badge(report.gate, texts),
        headline=headlines.headline(view, costs, texts),
        lede=texts("list.sentence").join([*_count(costs, texts), floor_words(view, texts)]),
        answers=_answers(view, costs, texts),
        facts=facts(view, texts),
        command=shell_words(view.run.command),
    )


def shell_words(command: Sequence[str]) -> str:
    """The command as it could be typed again."""
    plain = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%")
    quoted = (word if word and plain.issuperset(word) else "'" + word.replace("'", "'\\''") + "'" for word in command)
    return " ".join(quoted)


def badge(gate: GateReport, texts: Texts) -> Badge:
    """The gate's verdict as glyph, word and count of its rows."""
    counts = Counter(result.verdict for result in gate.rules)
    parts = [texts(f"gate.count.{verdict}", count=counts[verdict]) for verdict in GateVerdict if counts[verdict]]
    summary = texts.joined(parts) if parts else texts("plain", text=gate.reason)
    return Badge(gate.verdict.value, GLYPHS[gate.verdict], texts(f"gate.{gate.verdict}"), summary)


def floor_words(view: View, texts: Texts) -> Markup:
    """The noise floor in words."""
    floor = findings.floor(view)
    if floor is None:
        return texts("floor.none")
    if floor.workloads == 1:
        return texts("floor.one", median=quantities.percent(floor.median))
    return texts(
        "floor.known",
        median=quantities.percent(floor.median),
        worst=quantities.percent(floor.worst),
        workload=floor.worst_workload,
    )


def _answers(view: View, costs: Sequence[findings.Cost], texts: Texts) -> tuple[Answer, ...]:
    return (
        Answer(texts("ask.slowest"), _slowest(costs, view.boots, texts), "#heatmap", texts("heatmap.title")),
        _second(view, costs, texts),
        Answer(texts("ask.trust"), _trust(view, texts), "#evidence", texts("evidence.title")),
        Answer(texts("ask.machine"), _what(view, texts), "#probe", texts("probe.title")),
    )


def _second(view: View, costs: Sequence[findings.Cost], texts: Texts) -> Answer:
    """Of a run of variants, whether the change is worse; of any other, whether a virtual machine is worth its cost."""
    if any(arm.variant for arm in view.arms):
        return Answer(texts("ask.change"), _change(costs, texts), "#forest", texts("forest.title"))
    return Answer(texts("ask.worth"), _worth(view, costs, texts), "#forest", texts("forest.title"))


def _change(costs: Sequence[findings.Cost], texts: Texts) -> tuple[Markup, ...]:
    """Slower and faster of every variant."""
    lines = [
        texts("change.item", arm=one.arm.name, slower=len(one.slower), faster=len(one.faster), count=one.compared)
        for one in costs[:CHANGES_NAMED]
    ]
    return (*lines, *([texts("slowest.nothing")] if not costs else []))


def _count(costs: Sequence[findings.Cost], texts: Texts) -> list[Markup]:
    """How many workloads the arm of the headline is slower in, where the headline names only some."""
    if not costs or len(costs[0].slower) <= headlines.SLOWER_NAMED:
        return []
    return [texts("verdict.count", slower=len(costs[0].slower), count=costs[0].compared)]


def _slowest(costs: Sequence[findings.Cost], boots: int, texts: Texts) -> tuple[Markup, ...]:
    """The worst workload of each arm, worst arm first."""
    worst = [(one.arm, one.slower[0]) for one in costs if one.slower]
    worst.sort(key=lambda pair: -(pair[1].ratio or 0))
    if not worst and costs and boots < minimum_boots():
        return (texts.count("slowest.few", boots),)
    if not worst:
        return (texts("slowest.none" if costs else "slowest.nothing"),)
    items = [
        texts("slowest.item", arm=arm.name, ratio=quantities.ratio(row.ratio), workload=row.workload)
        for arm, row in worst[:4]
    ]
    more, rest = len(worst) - len(items), len(costs) - len(worst)
    items += [texts.count("slowest.more", more)] if more else []
    items += [texts.count("slowest.rest", rest)] if rest else []
    return tuple(items)


def _worth(view: View, costs: Sequence[findings.Cost], texts: Texts) -> tuple[Markup, ...]:
    """The cost of the first full virtual machine, suite by suite, and of starting it."""
    machines = (VirtClass.FULL_HARDWARE, VirtClass.PARAVIRTUAL, VirtClass.FULL_SOFTWARE)
    found = (one for one in costs if one.arm.virt_class in machines and findings.against_bare(view, one.arm))
    one = next(found, None)
    if one is None:
        return (texts("worth.none"),)
    suites: dict[str, list[Comparison]] = {}
    for row in findings.against_bare(view, one.arm):
        suites.setdefault(findings.suite_of(row.workload), []).append(row)
    items = [_suite_cost(view, one.arm, suite, rows, texts) for suite, rows in suites.items()]
    return (texts("worth.arm", arm=one.arm.name), *items, *_start(view, one.arm, texts))


def _suite_cost(view: View, arm: ArmView, suite: str, rows: Sequence[Comparison], texts: Texts) -> Markup:
    mean = findings.suite_mean(view, suite, arm, rows)
    worst = max(rows, key=lambda row: row.ratio or 0)
    words = texts.get(f"suite.{suite}.name") or suite
    if all(findings.is_quiet(row) for row in rows):
        return texts("worth.suite_quiet", suite=words, ratio=quantities.ratio(mean))
    if len(rows) == 1:
        return texts("worth.suite_one", suite=words, ratio=quantities.ratio(mean))
    return texts("worth.suite", suite=words, ratio=quantities.ratio(mean), worst=quantities.ratio(worst.ratio))


def _start(view: View, arm: ArmView, texts: Texts) -> list[Markup]:
    series = view.series.get(("lifecycle.start", arm.key))
    if series is None or series.center is None:
        return []
    return [texts("worth.start", value=quantities.quantity(series.center, "ns"))]


def _trust(view: View, texts: Texts) -> tuple[Markup, ...]:
    """Boots, verdicts left open, exclusions, the control, the evidence."""
    rows = [row for row in view.comparisons.comparisons if row.ratio is not None]
    undecided = sum(row.verdict in {Verdict.INCONCLUSIVE, Verdict.INCOMPARABLE} for row in rows)
    excluded = sum(visit.excluded is not None for visit in view.run.visits)
    enough = view.boots >= minimum_boots()
    lines = [texts.count("trust.boots" if enough else "trust.few", view.boots, least=minimum_boots())]
    if rows and enough:
        decided = len(rows) - undecided
        lines.append(texts("trust.open" if undecided else "trust.decided", decided=decided, count=len(rows)))
    if view.run.visits:
        words = texts.count("trust.excluded", excluded, visits=len(view.run.visits))
        lines.append(words if excluded else texts("trust.kept", visits=len(view.run.visits)))
    lines += _elsewhere(view, texts)
    floor = findings.floor(view)
    if floor is not None and floor.rejected and enough:
        lines.append(texts("trust.floor_rejected", count=floor.rejected, workloads=floor.workloads))
    return tuple(lines)


def _elsewhere(view: View, texts: Texts) -> list[Markup]:
    """How many environments show that they were not bare."""
    places = [place for place in evidence.places(view, texts) if not place.control]
    proven = sum(place.proven for place in places)
    if not places:
        return []
    return [texts("trust.all_places" if proven == len(places) else "trust.places", proven=proven, count=len(places))]


def _what(view: View, texts: Texts) -> tuple[Markup, ...]:
    words = texts(
        "what.machine",
        cpu=machine.cpu_name(view, texts),
        cpus=machine.text(view.run.probe, "cpu", "logical_cpus") or texts("unknown"),
        kernel=str(machine.kernel_name(view, texts)).partition(" #")[0],
        host=machine.host_role(view.run.probe, texts),
    )
    return (words,)


def facts(view: View, texts: Texts) -> tuple[tuple[Markup, object], ...]:
    """What was measured, where and when."""
    run = view.run
    backend = run.fingerprint.kvm_backend or machine.text(run.probe, "kvm", "backend")
    return (
        (texts("fact.machine"), machine.cpu_name(view, texts)),
        (texts("fact.host"), machine.host_role(run.probe, texts)),
        (texts("fact.kernel"), machine.kernel_name(view, texts)),
        (texts("fact.kvm"), backend or texts("unknown")),
        (texts("fact.date"), run.created.replace("T", " ").replace("Z", " UTC").partition(".")[0]),
        (texts("fact.seed"), str(run.seed)),
        (
            texts("fact.size"),
            texts("fact.size_value", arms=len(run.arms), workloads=len(run.workloads), boots=view.boots),
        ),
        (texts("fact.version"), run.vprobe_version),
    )


SECTION = Section("verdict", "verdict.html", context)
