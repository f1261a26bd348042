"""compare(): rows, bases, noise floor, verdicts, suites, two sessions."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from synthetic import FINGERPRINT, synthetic_run

from vprobe.analysis import compare
from vprobe.analysis.bases import base_arm, default_base
from vprobe.analysis.comparable import LABELS, differences, parse_across
from vprobe.analysis.estimate import Estimate, estimate
from vprobe.analysis.floor import NO_FLOOR, Floor, judged
from vprobe.analysis.suite_means import mean_by_boot
from vprobe.analysis.verdicts import judge
from vprobe.errors import UsageError
from vprobe.model import Arm, Comparison, Comparisons, Run, Samples, Verdict

replace = msgspec.structs.replace
VARIANTS = ["bare/base", "bare/head", "bare-aa", "kvm/base", "kvm/head"]


def row(comparisons: Comparisons, workload: str, arm: str) -> Comparison:
    """The one row of a workload and an arm."""
    (found,) = [one for one in comparisons.comparisons if (one.workload, one.arm) == (workload, arm)]
    return found


def test_known_effects_are_found_in_the_right_direction() -> None:
    """Slower, faster and the same come out as they were put in, for time and for bandwidth."""
    run = synthetic_run(boots=20, effects={"runc": 1.1, "kvm": 0.9})
    found = compare(run)
    for workload in ("cpu.zlib", "memory.triad"):
        assert row(found, workload, "runc").verdict == Verdict.SLOWER
        assert row(found, workload, "runc").ratio == pytest.approx(1.1, rel=0.01)
        assert row(found, workload, "kvm").verdict == Verdict.FASTER
        assert row(found, workload, "namespaces").verdict == Verdict.SAME


def test_every_row_is_complete() -> None:
    """Rows carry what the contract names, and the interval holds the ratio."""
    run = synthetic_run(boots=9, rounds=10)
    for one in compare(run).comparisons:
        assert one.boots == 9
        assert one.rounds == 90
        assert one.confidence == 0.95
        assert one.unit
        assert one.low is not None and one.high is not None
        value = one.estimate if one.ratio is None else one.ratio
        assert value is not None and one.low <= value <= one.high


def test_control_is_a_floor_and_no_row() -> None:
    """bare-aa shows the noise of each workload that bare has; it is not itself compared."""
    run = synthetic_run()
    found = compare(run)
    assert "bare-aa" not in {one.arm for one in found.comparisons}
    assert set(found.noise_floor) == {w.name for w in run.workloads if not w.name.startswith(("exits.", "lifecycle."))}
    for floor in found.noise_floor.values():
        assert floor.low <= floor.ratio <= floor.high


def test_without_a_counterpart_there_is_an_estimate() -> None:
    """exits.* exist only in kvm: no ratio, no verdict, the estimate and its interval in the unit."""
    one = row(compare(synthetic_run(boots=9)), "exits.out", "kvm")
    assert (one.base, one.ratio, one.p, one.verdict) == (None, None, None, None)
    assert one.estimate == pytest.approx(43_000, rel=0.02)
    assert one.low is not None and one.high is not None and one.low < one.estimate < one.high


def test_another_environment_as_base() -> None:
    """--base runc turns the ratios round, and bare becomes a row."""
    run = synthetic_run(boots=9, effects={"runc": 1.25})
    found = compare(run, base="runc")
    assert row(found, "cpu.zlib", "bare").ratio == pytest.approx(0.8, rel=0.02)
    assert "runc" not in {one.arm for one in found.comparisons if one.workload == "cpu.zlib"}


def test_variants_are_compared_inside_their_environment() -> None:
    """By default the first variant is the base, in each environment its own; a slowdown of both environments is seen."""
    run = synthetic_run(boots=9, arms=VARIANTS, effects={"bare/head": 1.2, "kvm/head": 1.2})
    assert default_base(run) == "base"
    found = compare(run)
    assert {(one.arm, one.base) for one in found.comparisons} == {("bare/head", "bare/base"), ("kvm/head", "kvm/base")}
    assert all(one.verdict == Verdict.SLOWER for one in found.comparisons)
    against_bare = compare(run, base="bare")
    assert row(against_bare, "cpu.zlib", "kvm/head").base == "bare/head"
    assert row(against_bare, "cpu.zlib", "kvm/head").ratio == pytest.approx(1.0, abs=0.02)


def test_control_of_variants_is_held_against_its_own_variant() -> None:
    """bare-aa repeats the first variant: the second one's change is no noise."""
    run = synthetic_run(boots=9, arms=VARIANTS, effects={"bare/head": 2.0})
    assert all(0.9 < floor.ratio < 1.1 for floor in compare(run).noise_floor.values())


def test_an_arm_named_like_the_environment_is_the_base() -> None:
    """A second arm of environment bare is compared with the arm called bare."""
    run = synthetic_run(boots=9, arms=["bare", "bare-aa", "kvm"])
    arms = tuple(Arm("loaded", "bare") if arm.name == "kvm" else arm for arm in run.arms)
    assert base_arm(replace(run, arms=arms), arms[2], "bare") == arms[0]


def test_unknown_base_names_what_there_is() -> None:
    """A base that the run lacks is a usage error that lists arms, environments and variants."""
    with pytest.raises(UsageError, match="kvm/head"):
        compare(synthetic_run(boots=6, rounds=4, arms=VARIANTS), base="xen")


def test_too_few_boots_say_nothing() -> None:
    """Five boots give an estimate, and no interval and no verdict; the reason says how many do."""
    one = row(compare(synthetic_run(boots=5, effects={"kvm": 3.0})), "cpu.zlib", "kvm")
    assert one.verdict == Verdict.INCONCLUSIVE
    assert (one.low, one.high, one.minimum_detectable) == (None, None, None)
    assert one.confidence == pytest.approx(1 - 2 / 2**5)
    assert one.reason == "5 boots cannot give a 95 % interval; 6 can"


def test_values_of_zero_have_no_ratio() -> None:
    """A workload that reports 0 is inconclusive with the reason, and breaks nothing."""
    run = synthetic_run(boots=6, rounds=4, arms=["bare", "bare-aa", "kvm"], workloads=["cpu.zlib"])
    visits = tuple(replace(visit, samples={**visit.samples, "kvm": Samples(1, (0.0,) * 4)}) for visit in run.visits)
    one = row(compare(replace(run, visits=visits)), "cpu.zlib", "kvm")
    assert (one.verdict, one.reason, one.ratio) == (Verdict.INCONCLUSIVE, "a value is 0, which has no ratio", None)


def test_no_variation() -> None:
    """A series without variation has an interval of no width."""
    run = synthetic_run(boots=6, rounds=4, sigma_boot=0, sigma_round=0, sigma_common=0, workloads=["cpu.zlib"])
    one = row(compare(run), "cpu.zlib", "kvm")
    assert (one.ratio, one.low, one.high, one.verdict) == (1.0, 1.0, 1.0, Verdict.SAME)
    assert one.minimum_detectable == 0
    assert one.reason == "no variation"


def test_failed_control_silences_the_workload_only() -> None:
    """Where bare-aa differs from bare, that workload's rows are inconclusive, and others are not."""
    run = synthetic_run(boots=20, effects={"cpu.zlib@bare-aa": 1.2, "kvm": 1.1})
    found = compare(run)
    zlib = row(found, "cpu.zlib", "kvm")
    assert zlib.verdict == Verdict.INCONCLUSIVE
    assert "control failed" in zlib.reason
    assert zlib.ratio is not None
    assert row(found, "cpu.sha256", "kvm").verdict == Verdict.SLOWER


def test_missing_control_is_said() -> None:
    """Without bare-aa the floor is empty, with a warning."""
    found = compare(synthetic_run(boots=6, rounds=4, arms=["bare", "kvm"]))
    assert found.noise_floor == {}
    assert any("bare-aa" in warning for warning in found.warnings)


def test_exclusions_are_said() -> None:
    """Excluded visits are counted, and more than a tenth is called that."""
    run = synthetic_run(boots=10, rounds=4, workloads=["cpu.zlib"])
    one = (replace(run.visits[0], excluded="stolen"), *run.visits[1:])
    assert any(w.startswith("1 of 10 visits are excluded;") for w in compare(replace(run, visits=one)).warnings)
    two = (*one[:1], replace(run.visits[1], excluded="stolen"), *run.visits[2:])
    found = compare(replace(run, visits=two))
    assert any("more than 10 %" in warning for warning in found.warnings)
    assert row(found, "cpu.zlib", "kvm").boots == 8


def of(centre: float, low: float, high: float, boots: int = 9) -> Estimate:
    """An estimate with that interval."""
    return Estimate(centre, low, high, 0.01, boots)


@pytest.mark.parametrize(
    ("one", "floor", "verdict"),
    [
        (of(0.0, -0.01, 0.01), 0.0, Verdict.SAME),
        (of(0.01, 0.005, 0.015), 0.0, Verdict.SAME),  # real, and smaller than what counts
        (of(0.03, 0.01, 0.05), 0.0, Verdict.SLOWER),
        (of(-0.03, -0.05, -0.01), 0.0, Verdict.FASTER),
        (of(0.0, -0.05, 0.05), 0.0, Verdict.INCONCLUSIVE),
        (of(0.03, 0.01, 0.05), 0.02, Verdict.INCONCLUSIVE),  # does not clear the floor
        (of(0.03, 0.01, 0.05), 0.06, Verdict.SAME),  # inside the floor
        (of(0.08, 0.061, 0.09), 0.06, Verdict.SLOWER),
    ],
)
def test_verdicts(one: Estimate, floor: float, verdict: Verdict) -> None:
    """`same` inside ±max(floor, margin), a change where the interval clears the floor, else inconclusive."""
    assert judge(one, Floor(of(-floor, -1, 1)), 0.02)[0] == verdict


def test_inconclusive_says_what_would_help() -> None:
    """The reason names the smallest change that these boots show."""
    assert "show changes from" in judge(of(0.0, -0.05, 0.05), NO_FLOOR, 0.02)[1]


def test_a_sure_and_tiny_difference_of_the_control_widens_and_does_not_silence() -> None:
    """0.3 % that 40 boots prove is a floor of 0.3 %; 0.7 % is a failed control."""
    tiny = judged({"a": Estimate(0.003, 0.0029, 0.0031, 1e-9, 40)})["a"]
    assert (tiny.rejected, tiny.size) == (False, 0.003)
    assert judged({"a": Estimate(-0.007, -0.0071, -0.0069, 1e-9, 40)})["a"].rejected


def test_floor_is_judged_over_all_workloads() -> None:
    """One p of 0.005 alone rejects; as the best of ten it does not."""
    suspicious = Estimate(0.01, 0.005, 0.02, 0.005, 9)
    assert judged({"a": suspicious})["a"].rejected
    crowd = {"a": suspicious} | {str(n): Estimate(0, -0.01, 0.01, 0.9, 9) for n in range(9)}
    assert not judged(crowd)["a"].rejected


@pytest.mark.parametrize("boots", [6, 9, 20, 40])
def test_minimum_detectable_effect_is_found_with_power_of_four_in_five(boots: int) -> None:
    """At the effect that is named, the interval excludes 0 in about 80 % of samples."""
    random = np.random.default_rng(boots)
    typical = np.median([estimate(random.normal(size=boots)).minimum_detectable for _ in range(300)])
    found = np.mean([estimate(random.normal(size=boots) + typical).low > 0 for _ in range(300)])
    assert 0.7 <= found <= 0.88


def test_suite_mean_is_the_geometric_mean_over_whole_boots() -> None:
    """Three workloads at 1.1, 1.0 and 1.21 make 1.1; what disturbs a boot as a whole widens the interval."""
    effects = {"cpu.a@kvm": 1.1, "cpu.b@kvm": 1.0, "cpu.c@kvm": 1.21}
    run = synthetic_run(
        boots=20, arms=["bare", "bare-aa", "kvm"], workloads=["cpu.a", "cpu.b", "cpu.c"], effects=effects
    )
    (mean,) = compare(run).suites
    assert (mean.suite, mean.arm, mean.base, mean.workloads, mean.boots) == ("cpu", "kvm", "bare", 3, 20)
    assert mean.ratio == pytest.approx(1.1, rel=0.01)
    assert mean.low is not None and mean.high is not None
    assert mean.low <= 1.1 <= mean.high


def test_boots_stay_whole_in_the_mean() -> None:
    """A shift of all workloads in one boot stays one observation, and a missing workload does not move its boot."""
    columns = {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.1, 1: 0.2}, "c": {0: 0.4}}
    assert mean_by_boot(columns) == pytest.approx([0.2, (0.2 + 0.2 + 0.4) / 3])


def test_two_sessions() -> None:
    """Each arm against itself in the other run, marked cross-session, base called baseline."""
    new = synthetic_run(5, boots=12, effects={"runc": 1.2})
    old = synthetic_run(6, boots=12)
    found = compare(new, old)
    slow = row(found, "cpu.zlib", "runc")
    assert slow.base == "baseline"
    assert slow.ratio == pytest.approx(1.2, rel=0.02)
    assert slow.verdict == Verdict.SLOWER
    assert slow.reason.startswith("cross-session")
    assert row(found, "cpu.zlib", "bare").verdict == Verdict.SAME
    assert row(found, "memory.triad", "runc").ratio == pytest.approx(1.2, rel=0.02)


def test_unlike_sessions_are_shown_and_not_judged() -> None:
    """Another kernel: the difference is a sentence, each row is incomparable and still has its ratio."""
    new = synthetic_run(5)
    old = replace(synthetic_run(6), fingerprint=replace(FINGERPRINT, kernel="5.10"))
    found = compare(new, old)
    assert found.differences == ("kernel: 6.1.0-18-amd64 here, 5.10 there",)
    assert {one.verdict for one in found.comparisons} == {Verdict.INCOMPARABLE}
    assert all(one.ratio is not None and "kernel" in one.reason for one in found.comparisons)


def test_what_only_one_session_has_is_said() -> None:
    """A renamed workload and a missing arm are warnings, and no rows."""
    new = synthetic_run(5, boots=6, rounds=4, workloads=["cpu.new", "cpu.zlib"])
    old = synthetic_run(6, boots=6, rounds=4, workloads=["cpu.old", "cpu.zlib"], arms=["bare", "bare-aa", "xen"])
    warnings = compare(new, old).warnings
    for sentence in ("workload cpu.new is only in the run", "workload cpu.old is only in the baseline"):
        assert sentence in warnings
    assert "arm kvm is only in the run" in warnings
    assert "arm xen is only in the baseline" in warnings


def test_redefined_workload_is_incomparable() -> None:
    """The same name with other parameters is another workload."""
    new, old = synthetic_run(5, boots=6, rounds=4), synthetic_run(6, boots=6, rounds=4)
    changed = tuple(
        replace(one, parameters={"bytes": 4096}) if one.name == "cpu.zlib" else one for one in old.workloads
    )
    found = compare(new, replace(old, workloads=changed))
    assert row(found, "cpu.zlib", "kvm").verdict == Verdict.INCOMPARABLE
    assert "parameters" in row(found, "cpu.zlib", "kvm").reason
    assert row(found, "cpu.sha256", "kvm").verdict != Verdict.INCOMPARABLE


def without_canary(run: Run) -> Run:
    """The run with no canary in any visit."""
    return replace(
        run,
        visits=tuple(
            replace(visit, noise=replace(visit.noise, canary_before=None, canary_after=None)) for visit in run.visits
        ),
    )


def test_sessions_without_a_canary() -> None:
    """Nothing tells how fast the machine itself was: inconclusive, with the reason."""
    one = row(compare(synthetic_run(5), without_canary(synthetic_run(6))), "cpu.zlib", "kvm")
    assert one.verdict == Verdict.INCONCLUSIVE
    assert "canary" in one.reason


@pytest.mark.parametrize("field", [name for name in type(FINGERPRINT).__struct_fields__ if name != "engines"])
def test_each_fact_counts_and_may_be_let_differ(field: str) -> None:
    """Every field of the fingerprint makes two runs differ, unless --across names it; unknown is no equal."""
    other = {"new": "1"} if field == "mitigations" else "other"
    changed = replace(FINGERPRINT, **{field: other})
    assert differences(FINGERPRINT, changed)
    assert differences(FINGERPRINT, changed, parse_across(field)) == ()
    unknown = replace(FINGERPRINT, **{field: None})
    assert "not known there" in differences(FINGERPRINT, unknown)[0]
    assert differences(unknown, unknown) == ()


def test_engines_are_compared_where_both_have_them() -> None:
    """Another runc counts; an engine that only one run used does not."""
    newer = replace(FINGERPRINT, engines={"runc": "1.2.0", "crun": "1.8"})
    assert differences(FINGERPRINT, newer) == ("version of runc: 1.1.5 here, 1.2.0 there",)


def test_each_changed_mitigation_is_named() -> None:
    """Not the whole list, but the one that differs."""
    changed = replace(FINGERPRINT, mitigations={**(FINGERPRINT.mitigations or {}), "meltdown": "Vulnerable"})
    assert differences(FINGERPRINT, changed) == ("mitigation of meltdown: Not affected here, Vulnerable there",)


def test_unknown_fact_of_across() -> None:
    """A typo is a usage error that lists the facts."""
    with pytest.raises(UsageError, match="kernel_code_hash"):
        parse_across("kernal")


def test_hostile_values_do_not_overflow() -> None:
    """Ratios beyond what a float holds come out finite."""
    run = synthetic_run(boots=6, rounds=2, arms=["bare", "bare-aa", "kvm"], workloads=["cpu.zlib"])
    visits = tuple(
        replace(visit, samples={**visit.samples, "kvm": Samples(1, (1e300, 1e300)), "bare": Samples(1, (1e-300,) * 2)})
        for visit in run.visits
    )
    one = row(compare(replace(run, visits=visits)), "cpu.zlib", "kvm")
    assert one.ratio is not None and 1e300 < one.ratio < np.inf


def test_every_field_of_a_fingerprint_has_words() -> None:
    """A fact that is added to the fingerprint is compared, too."""
    assert set(LABELS) == set(type(FINGERPRINT).__struct_fields__)


# --- flags -------------------------------------------------------------------------------------------------------------


def test_a_drift_is_flagged_whatever_the_verdict() -> None:
    """A row that is slower over boots that drift keeps its verdict, says so, and is warned of."""
    run = synthetic_run(
        boots=20, arms=["bare", "bare-aa", "runc"], workloads=["cpu.zlib"], drift={"runc": 0.1}, effects={"runc": 1.3}
    )
    found = compare(run)
    (row,) = found.comparisons
    assert row.verdict == Verdict.SLOWER and "drift up" in row.reason
    assert any("less sure" in warning for warning in found.warnings)
    steady = compare(
        synthetic_run(boots=20, arms=["bare", "bare-aa", "runc"], workloads=["cpu.zlib"], effects={"runc": 1.3})
    )
    assert steady.comparisons[0].reason == "" and not steady.warnings


def test_a_clock_of_another_rate_is_flagged() -> None:
    """An arm whose clock loses 3 % is named; one visit that was delayed is not enough to name an arm."""
    run = synthetic_run(boots=9, arms=["bare", "runc"], workloads=["cpu.zlib"])
    visits = [
        replace(visit, noise=replace(visit.noise, clocks={"bare": 1.05 if visit.boot == 3 else 1.0, "runc": 0.97}))
        for visit in run.visits
    ]
    told = [warning for warning in compare(replace(run, visits=tuple(visits))).warnings if "clock" in warning]
    assert len(told) == 1 and "runc is 3.0 % slow" in told[0]
