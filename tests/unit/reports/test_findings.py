"""Sentences and judgements: what the comparisons of a run add up to."""

from __future__ import annotations

import pytest
from synthetic import synthetic_run
from vprobe.reports import findings, headlines
from vprobe.reports.claims import Finding, claims
from vprobe.reports.printable import NARROW_SPACE
from vprobe.reports.sections import forest, gate, heatmap, lifecycle, probe, verdict
from vprobe.reports.texts import texts
from vprobe.reports.view import Role, View

from vprobe.model import Arm, GateReport, GateVerdict, RuleResult, Run, Skipped

from .examples import PROBE, replace, report_of, rich_run

ENGLISH = texts("en")
QUIET = {"sigma_boot": 0.001, "sigma_round": 0.002}


def view_of(run: Run) -> View:
    """The view of one run."""
    return report_of(run).first


def headline(run: Run) -> str:
    """The headline as plain text."""
    view = view_of(run)
    return headlines.headline(view, findings.costs(view), ENGLISH).striptags()


def test_the_headline_says_what_a_vm_costs_and_what_it_does_not() -> None:
    """Nothing for CPU work, 2.1 times for one kind of memory access."""
    run = synthetic_run(1, arms=("bare", "bare-aa", "runc", "kvm"), effects={"memory.triad@kvm": 2.1}, **QUIET)
    assert headline(run) == (
        "kvm costs nothing measurable for CPU work and system calls and processes, but 2.1× for STREAM triad bandwidth."
    )


def test_a_headline_without_any_cost_says_so() -> None:
    """No effect, no cost; small costs are in percent."""
    assert headline(synthetic_run(2, arms=("bare", "bare-aa", "kvm"), **QUIET)) == (
        "kvm costs nothing measurable in any of 10 workloads."
    )
    run = synthetic_run(
        2, arms=("bare", "bare-aa", "runc"), workloads=("system.getpid",), effects={"runc": 1.05}, **QUIET
    )
    assert headline(run).startswith("runc costs 5.0")


def test_a_headline_never_claims_what_noise_hides() -> None:
    """With wide intervals the sentence says that nothing was shown, not that there is nothing."""
    noisy = synthetic_run(4, arms=("bare", "bare-aa", "kvm"), sigma_boot=0.2, workloads=("cpu.zlib", "memory.triad"))
    assert "nor ruled out" in headline(noisy)
    visits = tuple(
        replace(visit, samples={arm: replace(one, values=(100.0, 100.1) * 2) for arm, one in visit.samples.items()})
        if visit.workload == "cpu.zlib"
        else visit
        for visit in noisy.visits
    )
    assert headline(replace(noisy, visits=visits)) == (
        "kvm costs nothing measurable for CPU work; for memory access that is left open."
    )


def test_a_run_without_a_base_or_without_samples_still_has_a_headline() -> None:
    """Nothing to compare with, and nothing at all."""
    assert (
        headline(synthetic_run(1, arms=("kvm",), workloads=("cpu.zlib",)))
        == "1 workload was measured in kvm, with nothing to compare it with."
    )
    assert headline(replace(synthetic_run(1), visits=())) == "Nothing was measured in this run."


def test_the_control_is_no_environment_among_others() -> None:
    """bare-aa is neither a column of the heat map nor a mark in the forest plot; its deviation stands beside bare."""
    view = view_of(rich_run())
    table = heatmap.table(view, ENGLISH)
    assert [column.arm.key for column in table.columns][:2] == ["bare", "namespaces"]
    assert "bare-aa" not in {column.arm.key for column in table.columns}
    assert all("±" in row.cells[0].small for _, rows in table.groups for row in rows)
    assert next(arm for arm in view.arms if arm.key == "bare-aa").role is Role.NOISE


def test_every_cell_is_colour_and_glyph_and_word() -> None:
    """Verdicts are told apart without colour, and skipped cells carry their reason."""
    run = synthetic_run(
        1,
        arms=("bare", "bare-aa", "namespaces", "kvm"),
        workloads=("cpu.zlib", "memory.triad", "lifecycle.start"),
        effects={"cpu.zlib@kvm": 1.3, "memory.triad@kvm": 0.7},
        **QUIET,
    )
    cells = {
        row.workload.key: row.cells for _, rows in heatmap.table(view_of(run), ENGLISH).groups for row in rows
    }  # fmt: skip
    slow, fast, same = cells["cpu.zlib"][2], cells["memory.triad"][2], cells["cpu.zlib"][1]
    assert (slow.tone, slow.glyph, slow.word) == ("s5", "▲", "slower")
    assert (fast.tone, fast.glyph, fast.word) == ("f5", "▼", "faster")
    assert (same.tone, same.glyph, same.word) == ("e", "=", "same")


def test_skipped_cells_tell_why() -> None:
    """A workload that one environment cannot run has its reason in the cell."""
    run = rich_run(effects={}, workloads=("cpu.zlib", "memory.triad"))
    visits = tuple(
        replace(
            visit,
            samples={arm: one for arm, one in visit.samples.items() if arm != "kvm" or visit.workload != "cpu.zlib"},
        )
        for visit in run.visits
    )
    skip = replace(run, visits=visits, skipped=(*run.skipped, _skip("kvm", "cpu.zlib", "needs Python")))
    table = heatmap.table(view_of(skip), ENGLISH)
    place = [column.arm.key for column in table.columns].index("kvm")
    cell = next(row.cells[place] for _, rows in table.groups for row in rows if row.workload.key == "cpu.zlib")
    assert (cell.tone, cell.small) == ("k", "needs Python")


def _skip(arm: str, workload: str, reason: str) -> object:
    from vprobe.model import Skipped

    return Skipped(arm, workload, reason)


def test_workloads_without_a_base_are_named_not_lost() -> None:
    """exits.* have no ratio: the heat map says where they are."""
    table = heatmap.table(view_of(rich_run()), ENGLISH)
    assert {"exits.out", "exits.cpuid"} <= {workload.key for workload in table.without_ratio}


def test_gate_limits_stand_in_the_forest_plot() -> None:
    """The tightest relative limit of a cell is drawn; absolute ones have no place on a ratio axis."""
    rules = ("cpu.*@kvm<=15%", "*@*<=3% vs base", "lifecycle.start@runc<=80ms")
    assert [forest.relative_limit(rule) for rule in rules] == [pytest.approx(1.15), pytest.approx(1.03), None]
    assert forest.relative_limit("*@*<=x%") is None
    rows = tuple(
        RuleResult(rule, "cpu.zlib", "kvm", "kvm", 1.0, 0.9, 1.1, 0.5, GateVerdict.PASS) for rule in rules[:2]
    )  # fmt: skip
    assert forest.gate_limits(GateReport(GateVerdict.PASS, rows)) == {("cpu.zlib", "kvm"): pytest.approx(1.03)}


def test_a_gate_leads_the_first_screen() -> None:
    """Verdict and counts of a gate come before the sentence."""
    row = RuleResult("*@*<=3%", "cpu.zlib", "kvm", "kvm", 1.2, 1.1, 1.3, 0.001, GateVerdict.FAIL)
    found = verdict.context(report_of(rich_run(), gate=GateReport(GateVerdict.FAIL, (row,))))
    assert found.badge is not None
    assert (found.badge.verdict, found.badge.glyph, found.badge.summary) == ("fail", "✕", "1 failed")


def test_what_failed_comes_first_and_links_to_its_detail() -> None:
    """Rows of a gate are sorted by verdict; a row of an arm that was not measured has no link."""
    good = RuleResult("*@*<=3%", "cpu.zlib", "kvm", "kvm", 1.0, 0.99, 1.01, 0.9, GateVerdict.PASS)
    bad = RuleResult("*@*<=3%", "memory.triad", "kvm", "kvm", 1.2, 1.1, 1.3, 0.001, GateVerdict.FAIL)
    lost = RuleResult("*@*<=3%", "no.such", "kvm", "kvm", None, None, None, None, GateVerdict.INCONCLUSIVE)
    found = gate.context(report_of(rich_run(), gate=GateReport(GateVerdict.FAIL, (good, lost, bad))))
    assert found is not None
    assert [row.workload for row in found.open] == ["memory.triad", "no.such"]
    assert [bool(row.href) for row in found.open] == [True, False]
    assert [row.workload for row in found.passed] == ["cpu.zlib"]
    assert gate.context(report_of(rich_run())) is None


def test_claims_are_judged_by_the_run_alone() -> None:
    """Each claim of the data file has its judge; what was not measured is not tested."""
    found = {index: claim.finding for index, claim in enumerate(claims(view_of(rich_run()), ENGLISH))}
    assert found[1] is Finding.UNTESTED
    assert found[4] is Finding.HOLDS
    assert found[0] is Finding.PARTLY
    alone = claims(view_of(synthetic_run(1, arms=("bare", "bare-aa"))), ENGLISH)
    assert {claim.finding for claim in alone} == {Finding.UNTESTED}


def test_variants_are_compared_with_each_other_not_with_bare() -> None:
    """head against base is the news; what a VM costs is not what such a run can tell."""
    arms = ("bare/base", "bare/head", "bare-aa", "kvm/base", "kvm/head")
    run = synthetic_run(1, arms=arms, effects={"bare/head": 1.08, "kvm/head": 1.08}, workloads=("cpu.zlib",), **QUIET)
    assert headline(run).startswith("bare/head costs 8")
    view = view_of(run)
    assert {arm.key: arm.role for arm in view.arms} == {
        "bare/base": Role.BASE,
        "bare/head": Role.MEASURED,
        "bare-aa": Role.NOISE,
        "kvm/base": Role.BASE,
        "kvm/head": Role.MEASURED,
    }
    assert {claim.finding for claim in claims(view, ENGLISH)} == {Finding.UNTESTED}
    answers = {str(one.question): [str(line) for line in one.lines] for one in verdict.context(report_of(run)).answers}
    assert "Is it worth running this in a VM?" not in answers
    assert answers["Is it worse than before?"] == [
        "<b>bare/head</b>: slower in 1, faster in 0 of 1",
        "<b>kvm/head</b>: slower in 1, faster in 0 of 1",
    ]


def test_a_variant_that_saves_time_is_said_to() -> None:
    """Faster is the news of a change, as slower is; of a boundary it is not."""
    arms = ("bare/base", "bare/head", "bare-aa")
    one = synthetic_run(1, arms=arms, effects={"bare/head": 0.7}, workloads=("cpu.zlib",), **QUIET)
    assert headline(one) == "bare/head is faster: it saves 30 % for zlib compression from Python."
    effects = {"cpu.zlib@bare/head": 0.7, "cpu.sha256@bare/head": 1.5}
    both = synthetic_run(1, arms=arms, effects=effects, workloads=("cpu.zlib", "cpu.sha256"), **QUIET)
    assert headline(both).startswith("bare/head costs 1.5× for SHA-256 from Python, but saves 30 %")
    boundary = synthetic_run(
        1, arms=("bare", "bare-aa", "runc"), effects={"runc": 0.7}, workloads=("cpu.zlib",), **QUIET
    )
    assert headline(boundary) == "runc costs nothing measurable in the one workload."


def test_a_run_that_cannot_compare_says_what_it_did() -> None:
    """Exits by their cost, without what sets a VM up; too few boots by how many it takes; an arm that ran nothing by why."""
    names = ("exits.out", "exits.cpuid", "exits.create_vm")
    assert headline(synthetic_run(1, arms=("kvm",), workloads=names[:2])).startswith(
        "Leaving the guest and coming back takes 9.4"
    )
    assert "exits.create_vm" not in headline(synthetic_run(1, arms=("kvm",), workloads=names))
    assert headline(synthetic_run(1, boots=2)) == "2 boots tell nothing yet: a verdict takes at least 6."
    run = synthetic_run(1, arms=("bare", "bare-aa"), workloads=("cpu.zlib",))
    skipped = (Skipped("kvm", "cpu.zlib", "needs Python"),)
    idle = replace(run, arms=(*run.arms, Arm("kvm", "kvm")), skipped=skipped)
    assert headline(idle) == "kvm could run none of the workloads that were chosen (1): needs Python."
    answers = {str(one.question): [str(line) for line in one.lines] for one in verdict.context(report_of(idle)).answers}
    assert answers["What is slowest, and for what?"] == ["Nothing was compared."]


def test_a_single_arm_shows_its_values() -> None:
    """Without anything to compare with the heat map is a table of values; exits and life cycle have sections of their own."""
    view = view_of(synthetic_run(1, arms=("bare", "bare-aa"), workloads=("cpu.zlib", "exits.out", "lifecycle.start")))
    table = heatmap.table(view, ENGLISH)
    assert [row.workload.key for _, rows in table.groups for row in rows] == ["cpu.zlib"]
    assert table.groups[0][1][0].cells[0].main.endswith("µs")
    assert [one.key for one in table.without_ratio] == ["exits.out", "lifecycle.start"]


def test_there_is_a_judge_for_every_claim() -> None:
    """The texts and the data file know the same claims."""
    from vprobe.reports import products

    assert len(products.document()["claims_worth_measuring"]) == len(claims(view_of(rich_run()), ENGLISH))


def test_unknown_is_never_absent() -> None:
    """A fact that the probe does not have, or has in a form that makes no sense, is unknown."""
    assert probe.state(None, ENGLISH).state == "unknown"
    assert probe.state({"state": "maybe"}, ENGLISH).state == "unknown"
    assert probe.state({"state": 3, "reason": ["x"]}, ENGLISH).state == "unknown"
    assert probe.state({"state": "hidden", "reason": "r"}, ENGLISH).reason == "r"


@pytest.mark.parametrize("document", [{}, {"cpu": []}, {"hypervisor": {"layers": "x"}, "kvm": 7, "mitigations": [1]}])
def test_a_probe_of_any_shape_is_reported(document: dict[str, object]) -> None:
    """Missing or malformed parts of the probe's document break nothing."""
    run = replace(rich_run(rounds=4, boots=6), probe=document)
    found = probe.context(report_of(run))
    assert found.facts
    assert found.stacks[0][-1].kind == "hardware"


def test_two_machines_show_what_differs() -> None:
    """Side by side, equal facts are not marked, different ones are."""
    one = rich_run(1, rounds=4, boots=6)
    two = replace(one, probe=PROBE | {"kvm": {"state": "absent"}}, fingerprint=replace(one.fingerprint, kernel="6.12"))
    found = probe.context(report_of(one, two))
    lines = {str(line.name): line.differs for line in (*found.features, *found.facts)}
    assert lines["KVM"] is True
    assert lines["Kernel"] is True
    assert lines["CPU"] is False


def test_starts_of_unlike_length_get_axes_of_their_own() -> None:
    """A start of minutes does not press one of milliseconds into a line; phases add up to the whole."""
    run = rich_run(rounds=4, boots=6, effects={"lifecycle.start@qemu-tcg": 500.0})
    found = lifecycle.lifecycle(view_of(run), ENGLISH)
    assert len(found.groups) == 2
    assert [start.arm.key for start in found.groups[1].starts] == ["qemu-tcg"]
    phases = found.groups[0].starts[0].phases
    assert [phase.words for phase in phases] == ["engine", "agent"]
    assert phases[0].end == phases[1].start
    assert abs(phases[1].end - found.groups[0].starts[0].total) <= 15


def test_memory_density_and_start_rates_have_a_table_of_their_own() -> None:
    """Per GiB and what fits are of the crowd's sessions, not of a single one; the bar parts bare's memory from what is on top."""
    names = ("lifecycle.memory", "lifecycle.density", "lifecycle.start_rate[1]", "lifecycle.start_rate[parallel]")
    run = synthetic_run(arms=("bare", "bare-aa", "runc"), workloads=names, rounds=4)
    details = {
        "lifecycle.memory": {"on_top_of_bare_bytes": (6.0 * 2**20,), "cgroup_bytes": (7.0 * 2**20,)},
        "lifecycle.density": {"session_bytes": (2.0**23,), "available_bytes": (2.0**34,)},
    }
    values = {"lifecycle.memory": 12.0 * 2**20, "lifecycle.density": 2048.0, "lifecycle.start_rate[parallel]": 9.5}
    visits = tuple(
        replace(
            visit,
            samples={
                arm: replace(one, values=(values.get(visit.workload, 5.0),), details=details.get(visit.workload, {}))
                for arm, one in visit.samples.items()
            },
        )
        for visit in run.visits
    )
    found = lifecycle.lifecycle(view_of(replace(run, visits=visits)), ENGLISH)
    assert found.groups == () and found.weights is not None
    runc = found.weights.rows[-1]
    assert (runc.memory, runc.on_top, runc.cgroup) == tuple(map(quantity, ("12.0 MiB", "6.00 MiB", "7.00 MiB")))
    assert (runc.per_gib, runc.fit, runc.rate, runc.parallel_rate) == ("128", "2,048", "5.00", "9.50")
    assert runc.whole == pytest.approx(2 * runc.own, abs=1)
    assert [tick.label for tick in found.weights.ticks][:2] == ["0", quantity("2.50 MiB")]


def quantity(text: str) -> str:
    """As the page prints it."""
    return text.replace(" ", NARROW_SPACE)
