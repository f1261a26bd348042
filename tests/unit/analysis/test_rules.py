"""The grammar of rules: what parses, to what, and how the rest is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe.analysis.rules import Rule, parse_rule
from vprobe.errors import UsageError
from vprobe.model import Arm


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory.*@kvm<=15%", ("memory.*", "kvm", None, 0.15, None, "", "bare")),
        ("lifecycle.start@runc:p95<=80ms", ("lifecycle.start", "runc", 95.0, None, 80e6, "ns", "bare")),
        ("*@*<=3% vs base", ("*", "*", None, 0.03, None, "", "base")),
        ("*@*<=5% vs baseline", ("*", "*", None, 0.05, None, "", "baseline")),
        ("cpu.zlib@kvm<=300ns", ("cpu.zlib", "kvm", None, None, 300.0, "ns", "bare")),
        ("cpu.zlib@kvm<=1.5s", ("cpu.zlib", "kvm", None, None, 1.5e9, "ns", "bare")),
        ("cpu.zlib@kvm<=2us", ("cpu.zlib", "kvm", None, None, 2e3, "ns", "bare")),
        ("cpu.zlib@kvm<=2µs", ("cpu.zlib", "kvm", None, None, 2e3, "ns", "bare")),
        ("lifecycle.memory@kvm<=10MiB", ("lifecycle.memory", "kvm", None, None, 10 * 2**20, "bytes", "bare")),
        (" a @ b <= 0.5 % ", ("a", "b", None, 0.005, None, "", "bare")),
        ("a@b:p99.9<=0.5 %", ("a", "b", 99.9, 0.005, None, "", "bare")),
        ("memory.chase[64MiB]@kvm<=1%", ("memory.chase[64MiB]", "kvm", None, 0.01, None, "", "bare")),
        ("a@ssh:me@box<=1%", ("a", "ssh:me@box", None, 0.01, None, "", "bare")),
        ("a@ssh:box:p95<=1%", ("a", "ssh:box", 95.0, 0.01, None, "", "bare")),
        ("a<=b@kvm<=1%", ("a<=b", "kvm", None, 0.01, None, "", "bare")),
        ("a@kvm<=1%  vs  my variant ", ("a", "kvm", None, 0.01, None, "", "my variant")),
        ("a@kvm<=0%", ("a", "kvm", None, 0.0, None, "", "bare")),
    ],
)
def test_grammar(text: str, expected: tuple[object, ...]) -> None:
    """Split at the first @ and the last <=; percentile, limit and base as the contract says."""
    rule = parse_rule(text)
    found = (rule.workloads, rule.environment, rule.percentile, rule.share, rule.absolute, rule.unit, rule.base)
    assert found[:3] == expected[:3]
    assert found[3] == (None if expected[3] is None else pytest.approx(expected[3]))
    assert found[4] == (None if expected[4] is None else pytest.approx(expected[4]))
    assert found[5:] == expected[5:]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a rule"),
        ("memory.*@kvm", "is not a rule"),
        ("memory.*<=15%", "is not a rule"),
        ("@kvm<=15%", "is not a rule"),
        ("memory.*@<=15%", "is not a rule"),
        ("memory.*@kvm<=", "is not a limit"),
        ("memory.*@kvm<=15", "is not a limit"),
        ("memory.*@kvm<=-5%", "is not a limit"),
        ("memory.*@kvm<=1e3%", "is not a limit"),
        ("memory.*@kvm<=nan%", "is not a limit"),
        ("memory.*@kvm<=15% of bare", "is not a limit"),
        ("memory.*@kvm<=15 furlongs", "unknown unit"),
        ("memory.*@kvm<=80ms vs base", "has no base"),
    ],
)
def test_refusals(text: str, told: str) -> None:
    """What is no rule is refused in one line that says why and shows one."""
    with pytest.raises(UsageError) as caught:
        parse_rule(text)
    assert told in caught.value.message
    assert caught.value.hint


@given(text=st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text makes the parser fail in another way."""
    try:
        rule = parse_rule(text)
    except UsageError:
        return
    assert (rule.share is None) != (rule.absolute is None)


names = st.text(st.characters(exclude_characters="@", exclude_categories=["Zs", "Cc", "Zl", "Zp"]), min_size=1)


@given(workload=names, environment=names)
def test_an_exact_name_always_matches_itself(workload: str, environment: str) -> None:
    """Brackets, quotes and wild characters in a name do not keep a rule from naming it."""
    rule = Rule("", workload, environment)
    assert rule.takes_workload(workload)
    assert rule.takes_arm(Arm(environment, environment))


def test_only_star_and_question_mark_are_wild() -> None:
    """Brackets are literal: they are part of workloads' names."""
    rule = Rule("", "memory.chase[*]", "qemu-???")
    assert rule.takes_workload("memory.chase[l1]")
    assert not rule.takes_workload("memory.chasel")
    assert not Rule("", "memory.chase[l1]", "*").takes_workload("memory.chasel")
    assert rule.takes_arm(Arm("qemu-kvm/head", "qemu-kvm", "head"))
    assert not rule.takes_arm(Arm("qemu-user", "qemu-user"))


def test_an_arm_may_be_named_itself() -> None:
    """The environment part takes the name of one variant's arm, too."""
    assert Rule("", "*", "kvm/head").takes_arm(Arm("kvm/head", "kvm", "head"))
    assert not Rule("", "*", "kvm/head").takes_arm(Arm("kvm/base", "kvm", "base"))
