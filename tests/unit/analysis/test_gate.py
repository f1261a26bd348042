"""gate(): what fails, what passes, what is neither, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from synthetic import FINGERPRINT, synthetic_run

from vprobe.analysis.gate import Policy, gate
from vprobe.analysis.rules import parse_rule
from vprobe.errors import IncomparableError, UsageError
from vprobe.model import GateReport, GateVerdict, RuleResult, Run, Samples, Skipped

replace = msgspec.structs.replace
FAIL, PASS = GateVerdict.FAIL, GateVerdict.PASS
INCONCLUSIVE, INCOMPARABLE = GateVerdict.INCONCLUSIVE, GateVerdict.INCOMPARABLE
VARIANTS = ["bare/base", "bare/head", "bare-aa", "runc/base", "runc/head"]
FEW = ["cpu.zlib", "cpu.sha256", "memory.triad"]


def judged(run: Run, *rules: str, **settings: Any) -> GateReport:
    """The report of a gate with these rules."""
    return gate(run, [parse_rule(rule) for rule in rules], **settings)


def row(report: GateReport, workload: str, arm: str) -> RuleResult:
    """The one row of a workload and an arm."""
    (found,) = [one for one in report.rules if (one.workload, one.arm) == (workload, arm)]
    return found


def variants(seed: int = 1, **settings: Any) -> Run:
    """A run of two variants in two environments."""
    defaults: dict[str, Any] = {"boots": 20, "rounds": 20, "arms": VARIANTS, "workloads": FEW}
    return synthetic_run(seed, **{**defaults, **settings})


def test_a_change_that_slows_every_environment_is_caught() -> None:
    """Against bare nothing moved; against the base variant both environments fail."""
    run = variants(2, effects={"bare/head": 1.08, "runc/head": 1.08})
    assert judged(run, "*@runc<=3%").verdict == PASS
    report = judged(run, "*@*<=3% vs base")
    assert report.verdict == FAIL
    assert {(one.arm, one.verdict) for one in report.rules} == {("bare/head", FAIL), ("runc/head", FAIL)}


def test_no_change_passes() -> None:
    """Equal variants are under a limit that is wider than the noise."""
    report = judged(variants(), "*@*<=3% vs base")
    assert report.verdict == PASS
    assert all(one.high is not None and one.limit is not None and one.high <= one.limit for one in report.rules)


def test_bandwidth_fails_when_it_drops() -> None:
    """A limit of 10 % is on slowness: a bandwidth that halves fails, one that doubles passes."""
    slow = synthetic_run(boots=12, effects={"memory.triad@kvm": 2.0})
    fast = synthetic_run(boots=12, effects={"memory.triad@kvm": 0.5})
    assert judged(slow, "memory.triad@kvm<=10%").verdict == FAIL
    assert judged(fast, "memory.triad@kvm<=10%").verdict == PASS


def test_one_workload_in_many_is_found_and_named() -> None:
    """Only the one that regressed fails."""
    run = synthetic_run(boots=20, effects={"cpu.zlib@kvm": 1.1})
    report = judged(run, "*@*<=3%")
    assert [(one.workload, one.arm) for one in report.rules if one.verdict == FAIL] == [("cpu.zlib", "kvm")]


def test_holm_is_over_the_rows_of_all_rules() -> None:
    """The same row is surer alone than as one of many."""
    run = synthetic_run(boots=20, effects={"cpu.zlib@kvm": 1.1})
    alone = row(judged(run, "cpu.zlib@kvm<=3%"), "cpu.zlib", "kvm").p_adjusted
    report = judged(run, "cpu.zlib@kvm<=3%", "cpu.sha256@*<=3%")
    assert alone is not None
    assert row(report, "cpu.zlib", "kvm").p_adjusted == pytest.approx(4 * alone)


def test_limit_is_widened_by_the_noise_floor() -> None:
    """A/A that is off by 2 % moves the limit by as much, and a change of 4 % is then no failure of a limit of 3 %."""
    run = variants(sigma_boot=0.03, sigma_round=0.01, workloads=["cpu.zlib"], seed=4)
    one = judged(run, "*@bare<=3% vs base").rules[0]
    assert one.limit is not None
    assert one.limit > 1.03


def test_failed_control_is_inconclusive() -> None:
    """Where bare-aa differs from bare, the gate does not judge, but shows the figures."""
    run = synthetic_run(boots=20, workloads=FEW, effects={"cpu.zlib@bare-aa": 1.2, "cpu.zlib@kvm": 2.0})
    report = judged(run, "cpu.zlib@kvm<=3%")
    assert (report.verdict, row(report, "cpu.zlib", "kvm").ratio) == (INCONCLUSIVE, pytest.approx(2.0, rel=0.02))
    assert "control failed" in report.rules[0].reason


def test_noise_wider_than_the_limit_is_inconclusive() -> None:
    """Neither over nor under."""
    report = judged(variants(sigma_boot=0.05, boots=9), "*@bare<=1% vs base")
    assert report.verdict == INCONCLUSIVE


def test_precedence() -> None:
    """Fail before incomparable before inconclusive before pass."""
    run = variants(effects={"cpu.zlib@runc/head": 1.3})
    unlike = Skipped("runc/head", "cpu.sha256", "incomparable: another Python interpreter runs there")
    visits = tuple(
        replace(visit, samples={arm: s for arm, s in visit.samples.items() if arm != "runc/head"})
        if visit.workload == "cpu.sha256"
        else visit
        for visit in run.visits
    )
    run = replace(run, visits=visits, skipped=(unlike,))
    assert judged(run, "cpu.*@runc<=3% vs base").verdict == FAIL
    report = judged(run, "cpu.sha256@*<=3% vs base")
    assert report.verdict == INCOMPARABLE
    assert row(report, "cpu.sha256", "runc/head").reason == "another Python interpreter runs there"


def test_too_few_boots_are_said_first() -> None:
    """4 boots cannot reach alpha 0.05 even for one row; the warning says how many can."""
    report = judged(variants(boots=4, effects={"bare/head": 2.0}), "cpu.zlib@bare<=3% vs base")
    assert report.verdict == INCONCLUSIVE
    assert report.warnings[0].startswith("4 boots cannot reach alpha = 0.05 over 1 row: 5 are needed")
    assert judged(variants(boots=5, effects={"bare/head": 2.0}), "cpu.zlib@bare<=3% vs base").verdict == FAIL


def test_rule_that_matches_nothing() -> None:
    """No such workload, no such environment, only the base itself, only skipped pairs: each is a usage error."""
    run = synthetic_run(boots=6, rounds=4)
    for rule, hint in [
        ("cpu.none@kvm<=3%", "no workload"),
        ("cpu.zlib@xen<=3%", "no environment"),
        ("cpu.zlib@bare<=3%", "is what it compares with"),
        ("exits.out@runc<=3%", "this environment does not have it"),
        ("exits.out@kvm<=3%", "only an absolute limit"),
    ]:
        with pytest.raises(UsageError) as caught:
            judged(run, rule)
        assert caught.value.message.endswith("matches nothing")
        assert hint in caught.value.hint


def test_base_that_is_not_there() -> None:
    """A variant that the run lacks is a usage error, not an empty gate."""
    with pytest.raises(UsageError, match="'base'"):
        judged(synthetic_run(boots=6, rounds=4), "*@*<=3% vs base")
    with pytest.raises(UsageError, match="stored run"):
        judged(synthetic_run(boots=6, rounds=4), "*@*<=3% vs baseline")


def test_what_a_wild_rule_passes_over_is_said() -> None:
    """exits.* has no counterpart on bare: the rule judges the others and says so."""
    report = judged(synthetic_run(boots=12, rounds=10), "*@kvm<=10%")
    assert not any(one.workload.startswith("exits.") for one in report.rules)
    assert any("exits.out @ kvm" in warning for warning in report.warnings)


def test_control_is_judged_only_by_name() -> None:
    """bare-aa is no subject of a wild rule; by name it is, and its own estimate does not widen its own limit."""
    run = synthetic_run(boots=12, rounds=10, workloads=FEW)
    assert "bare-aa" not in {one.arm for one in judged(run, "*@*<=10%").rules}
    report = judged(run, "*@bare-aa<=10%")
    assert [one.limit for one in report.rules] == pytest.approx([1.1] * 3)


def test_absolute_limits() -> None:
    """Times and sizes are judged in their unit, without a base; the interval is in the unit, too."""
    run = synthetic_run(boots=12)
    assert judged(run, "lifecycle.start@runc<=80ms").verdict == PASS
    report = judged(run, "lifecycle.start@runc<=20ms")
    assert report.verdict == FAIL
    one = report.rules[0]
    assert (one.ratio, one.base, one.limit, one.unit) == (None, None, 20e6, "ns")
    assert one.estimate == pytest.approx(42e6, rel=0.02)
    with pytest.raises(UsageError, match="measured in B/s"):
        judged(run, "memory.triad@kvm<=80ms")
    with pytest.raises(UsageError, match="limits bytes"):
        judged(run, "lifecycle.start@kvm<=10MiB")


def test_percentiles_see_a_tail_that_the_median_does_not() -> None:
    """Every tenth block is three times as long: p95 fails, the median passes."""
    run = synthetic_run(boots=12, rounds=40, workloads=["cpu.zlib"], arms=["bare", "bare-aa", "kvm"])

    def tailed(samples: Samples) -> Samples:
        return Samples(1, tuple(v * 3 if i % 10 == 0 else v for i, v in enumerate(samples.values)))

    visits = tuple(replace(v, samples={**v.samples, "kvm": tailed(v.samples["kvm"])}) for v in run.visits)
    run = replace(run, visits=visits)
    assert judged(run, "cpu.zlib@kvm<=20%").verdict == PASS
    assert judged(run, "cpu.zlib@kvm:p95<=20%").verdict == FAIL
    assert judged(run, "cpu.zlib@kvm:p95<=100us").verdict == FAIL
    assert judged(run, "cpu.zlib@kvm<=100us").verdict == PASS


def test_excluded_visits_do_not_count() -> None:
    """What made the row fail was excluded for a reason: the rest passes, and the exclusion is said."""
    run = variants(workloads=["cpu.zlib"])
    report = judged(
        replace(run, visits=(replace(run.visits[0], excluded="stolen"), *run.visits[1:])), "*@bare<=3% vs base"
    )
    assert report.rules[0].boots == 19
    assert any("1 of 20 visits are excluded" in warning for warning in report.warnings)


def test_pair_that_was_not_measured_is_missing() -> None:
    """Neither samples nor a reason for a skip: incomparable, or what the policy says."""
    run = variants(workloads=["cpu.zlib", "cpu.sha256"])
    visits = tuple(visit for visit in run.visits if visit.workload != "cpu.sha256")
    run = replace(run, visits=visits)
    report = judged(run, "cpu.*@bare<=3% vs base")
    assert report.verdict == INCOMPARABLE
    assert row(report, "cpu.sha256", "bare/head").reason == "it was not measured"
    assert judged(run, "cpu.*@bare<=3% vs base", policy=Policy(missing=FAIL)).verdict == FAIL
    assert judged(run, "cpu.*@bare<=3% vs base", policy=Policy(missing=PASS)).verdict == PASS


def test_policy_for_inconclusive_changes_the_gate_and_not_the_row() -> None:
    """The row stays what it is; the gate counts it as it was told to."""
    run = variants(sigma_boot=0.05, boots=9, workloads=["cpu.zlib"])
    for policy in (PASS, FAIL):
        report = judged(run, "*@bare<=1% vs base", policy=Policy(inconclusive=policy))
        assert (report.verdict, report.rules[0].verdict) == (policy, INCONCLUSIVE)
        assert "by policy" in report.reason


# --- stored runs -------------------------------------------------------------------------------------------------------


def test_baseline_alone_fails_nobody() -> None:
    """A run that is slower than a stored one is inconclusive until it is confirmed; one that is not passes."""
    new = synthetic_run(7, boots=20, workloads=FEW, effects={"runc": 1.2})
    old = synthetic_run(8, boots=20, workloads=FEW)
    report = judged(new, "*@runc<=5% vs baseline", baseline=old)
    assert report.verdict == INCONCLUSIVE
    assert all("--confirm" in one.reason and one.base == "baseline" for one in report.rules)
    assert judged(new, "*@kvm<=5% vs baseline", baseline=old).verdict == PASS


def test_baseline_fails_when_confirmed() -> None:
    """Fresh boots that are slower than the baseline, too, fail."""
    new = synthetic_run(7, boots=20, workloads=FEW, effects={"runc": 1.2})
    fresh = synthetic_run(9, boots=20, workloads=FEW, effects={"runc": 1.2})
    old = synthetic_run(8, boots=20, workloads=FEW)
    report = judged(new, "*@runc<=5% vs baseline", baseline=old, confirm=lambda _: fresh)
    assert report.verdict == FAIL
    assert all(one.confirmed for one in report.rules)


def test_unlike_baseline_is_not_gated() -> None:
    """Another CPU is incomparable, with the difference; --across lets it pass."""
    new = synthetic_run(7, boots=12, workloads=FEW)
    old = replace(
        synthetic_run(8, boots=12, workloads=FEW), fingerprint=replace(FINGERPRINT, cpu="other", kernel="5.10")
    )
    report = judged(new, "*@kvm<=5% vs baseline", baseline=old)
    assert report.verdict == INCOMPARABLE
    assert "CPU: " in report.rules[0].reason
    assert judged(new, "*@kvm<=5% vs baseline", baseline=old, across=frozenset({"cpu"})).verdict == INCOMPARABLE
    assert judged(new, "*@kvm<=5% vs baseline", baseline=old, across=frozenset({"cpu", "kernel"})).verdict == PASS


def test_differences_of_the_baseline_matter_only_to_rules_that_use_it() -> None:
    """Rules within the run are judged as ever."""
    old = replace(synthetic_run(8, boots=12, workloads=FEW), fingerprint=replace(FINGERPRINT, cpu="other"))
    report = judged(synthetic_run(7, boots=12, workloads=FEW), "*@kvm<=10%", baseline=old)
    assert report.verdict == PASS


def test_renamed_workload_and_missing_arm_are_incomparable() -> None:
    """What only one of the two has is a row, on either side."""
    new = synthetic_run(7, boots=6, rounds=4, workloads=["cpu.new", "cpu.zlib"], arms=["bare", "bare-aa", "kvm"])
    old = synthetic_run(8, boots=6, rounds=4, workloads=["cpu.old", "cpu.zlib"], arms=["bare", "bare-aa", "runc"])
    report = judged(new, "*@*<=50% vs baseline", baseline=old)
    reasons = {(one.workload, one.arm): one.reason for one in report.rules if one.verdict == INCOMPARABLE}
    assert reasons == {
        ("cpu.new", "bare"): "the baseline has no workload cpu.new",
        ("cpu.new", "kvm"): "the baseline has no workload cpu.new",
        ("cpu.zlib", "kvm"): "the baseline did not measure it in kvm",
        ("cpu.old", "bare"): "only the baseline has the workload cpu.old",
        ("cpu.old", "runc"): "only the baseline has the workload cpu.old",
        ("cpu.zlib", "runc"): "only the baseline has the arm runc",
    }


# --- confirmation ------------------------------------------------------------------------------------------------------


def test_only_what_fails_twice_fails() -> None:
    """Both rows fail at first; fresh boots confirm one and let the other pass."""
    first = variants(1, effects={"cpu.zlib@bare/head": 1.1, "cpu.sha256@bare/head": 1.1})
    fresh = variants(2, effects={"cpu.zlib@bare/head": 1.1})
    asked: list[tuple[str, str, str | None]] = []

    def confirm(rows: Sequence[RuleResult]) -> Run:
        asked.extend((one.workload, one.arm, one.base) for one in rows)
        return fresh

    report = judged(first, "*@bare<=3% vs base", confirm=confirm)
    assert asked == [("cpu.zlib", "bare/head", "bare/base"), ("cpu.sha256", "bare/head", "bare/base")]
    zlib, sha256 = row(report, "cpu.zlib", "bare/head"), row(report, "cpu.sha256", "bare/head")
    assert (zlib.verdict, zlib.confirmed) == (FAIL, True)
    assert (sha256.verdict, sha256.confirmed) == (PASS, False)
    assert row(report, "memory.triad", "bare/head").confirmed is None


def test_nothing_failed_nothing_is_measured_again() -> None:
    """A passing gate does not start the engine."""

    def confirm(rows: Sequence[RuleResult]) -> Run:
        raise AssertionError

    assert judged(variants(), "*@*<=3% vs base", confirm=confirm).verdict == PASS


def test_confirmation_judges_the_failed_rows_alone() -> None:
    """Holm of the second stage is over the rows that failed, not over all."""
    run = variants(1, effects={"cpu.zlib@bare/head": 1.1})
    report = judged(run, "*@*<=3% vs base", confirm=lambda _: variants(2, effects={"cpu.zlib@bare/head": 1.1}))
    assert row(report, "cpu.zlib", "bare/head").p_adjusted == pytest.approx(2.0**-20)


def test_confirmation_on_another_machine_is_refused() -> None:
    """Fresh boots elsewhere prove nothing of this run."""
    other = replace(variants(2), fingerprint=replace(FINGERPRINT, cpu="other"))
    with pytest.raises(IncomparableError, match="did not measure the run"):
        judged(variants(1, effects={"bare/head": 1.2}), "*@bare<=3% vs base", confirm=lambda _: other)


def test_row_that_cannot_be_measured_again_is_inconclusive() -> None:
    """A failure that could not be repeated is none."""
    fresh = variants(2, workloads=["cpu.sha256"])
    run = variants(1, effects={"cpu.zlib@bare/head": 1.2})
    report = judged(run, "cpu.zlib@bare<=3% vs base", confirm=lambda _: fresh)
    assert (report.verdict, report.rules[0].confirmed) == (INCONCLUSIVE, False)


# --- drift -------------------------------------------------------------------------------------------------------------


def test_a_drift_fails_nobody() -> None:
    """An arm that gets slower from boot to boot is inconclusive, although its middle is far over the limit."""
    run = variants(workloads=["cpu.zlib"], effects={"bare/head": 1.06}, drift={"bare/head": 0.12}, sigma_boot=0.003)
    report = judged(run, "*@bare<=2% vs base")
    assert report.verdict == INCONCLUSIVE
    assert "drift up over the session" in report.rules[0].reason


def test_a_drift_does_not_excuse_what_is_far_beyond() -> None:
    """Twice as slow in every boot is a failure, whatever trend of a percent there is beside it."""
    run = variants(workloads=["cpu.zlib"], effects={"bare/head": 2.0}, drift={"bare/head": 0.02}, sigma_boot=0.001)
    assert judged(run, "*@bare<=2% vs base").verdict == FAIL


def test_correlation_over_the_session_counts_for_each_row() -> None:
    """Twenty series that each alone prove nothing show together that boots resemble the ones before."""
    names = [f"cpu.w{n}" for n in range(20)]
    verdicts = []
    for seed in range(10):
        run = synthetic_run(
            seed, boots=20, rounds=4, workloads=names, arms=["bare/base", "bare/head", "bare-aa"], blocks=False,
            effects={"bare/head": 1.05}, sigma_boot=0.01, correlation=0.6, sigma_round=0.001, sigma_common=0.01,
        )  # fmt: skip
        verdicts += [one.verdict for one in judged(run, "*@bare<=2% vs base").rules]
    beyond = [one for one in verdicts if one != PASS]
    assert len(beyond) > 100
    assert np.mean([one == INCONCLUSIVE for one in beyond]) >= 0.9


# --- adaptive runs -----------------------------------------------------------------------------------------------------


def adaptive(boots: int, **settings: Any) -> Run:
    """A run with looks after 9, 18 and 36 boots that stopped after `boots`."""
    return replace(synthetic_run(boots=boots, **settings), looks=(9, 18, 36))


def test_each_look_spends_its_share() -> None:
    """p of a row is in units of its look's share, and the interval of an early look is wider than that of a fixed run."""
    settings: dict[str, Any] = {"workloads": ["cpu.zlib"], "effects": {"runc": 1.02}}
    fixed, early = synthetic_run(boots=9, **settings), adaptive(9, **settings)
    rule = parse_rule("*@runc<=0%")
    one, other = gate(fixed, [rule]).rules[0], gate(early, [rule]).rules[0]
    assert one.p_adjusted and other.p_adjusted and one.low and other.low and one.high and other.high
    assert other.p_adjusted == pytest.approx(one.p_adjusted / 0.2)
    assert other.low < one.low < one.high < other.high
    late = adaptive(36, workloads=["cpu.zlib"], effects={"runc": 1.2})
    assert gate(late, [rule]).rules[0].p_adjusted == pytest.approx(2.0**-36 / 0.5)


def test_a_workload_that_went_on_alone_has_its_own_share() -> None:
    """One workload stopped at the first look and one at the third: each is judged by its own, and the note says so."""
    run = adaptive(36, workloads=["cpu.zlib", "cpu.sha256"], effects={"runc": 1.02})
    visits = tuple(visit for visit in run.visits if visit.workload == "cpu.sha256" or visit.boot < 9)
    report = gate(replace(run, visits=visits), [parse_rule("*@runc<=0%")])
    found = {row.workload: row for row in report.rules}
    assert (found["cpu.zlib"].boots, found["cpu.sha256"].boots) == (9, 36)
    assert found["cpu.zlib"].p_adjusted == pytest.approx(2.0**-9 / 0.2)
    assert any("adaptive" in warning for warning in report.warnings)


def test_looking_three_times_does_not_cry_wolf_more_often() -> None:
    """Of 200 adaptive sessions of a row in which nothing changed, at most 7 % fail by the end, looked at three times."""
    rule, alarms = parse_rule("*@runc<=0%"), 0
    for seed in range(200):
        whole = synthetic_run(seed, boots=36, rounds=2, arms=["bare", "runc"], workloads=["cpu.zlib"], blocks=False)
        for boots in (9, 18, 36):
            seen = replace(whole, visits=tuple(v for v in whole.visits if v.boot < boots), looks=(9, 18, 36))
            verdict = gate(seen, [rule]).verdict
            if verdict != GateVerdict.INCONCLUSIVE:
                break
        alarms += verdict == GateVerdict.FAIL
    assert alarms <= 14
