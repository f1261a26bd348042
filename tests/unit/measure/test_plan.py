"""Plans: what is selected, which arms there are, who skips what."""

from __future__ import annotations

from typing import Any

import pytest
from vprobe.suites import HostFacts

from vprobe.environments import get
from vprobe.errors import UsageError
from vprobe.measure.plan import COMMAND, PRESETS, Plan, command_task, make_arms, make_tasks, matches, select
from vprobe.measure.variants import parse_variants

from .stand_in import StandIn

FACTS = HostFacts({1: 32 << 10, 2: 1 << 20, 3: 32 << 20})
BARE, CONTROL = StandIn("bare"), StandIn("bare-aa")
VM = StandIn("kvm", frozenset({"kernels", "microvm"}))


def test_globs_take_brackets_literally() -> None:
    """Only * and ? are wild: a workload's brackets name itself and nothing else."""
    assert matches("memory.chase[l1]", "memory.chase[l1]")
    assert matches("memory.chase[l1]", "memory.chase[*]")
    assert matches("memory.chase[64MiB,2MiB]", "memory.*")
    assert not matches("memory.chasel", "memory.chase[l1]")
    assert not matches("memory.chase[l2]", "memory.chase[l1]")


def test_selection_refuses_what_matches_nothing() -> None:
    """A mistyped workload is an error and not an empty run."""
    assert [workload.name for workload in select(["cpu.z*"], False)] == ["cpu.zlib"]
    assert select([], True) == ()
    with pytest.raises(UsageError, match=r"no workload matches 'cpu\.sha1'"):
        select(["cpu.sha1"], False)


def test_quick_measures_a_core_and_the_rest_by_name() -> None:
    """Without patterns a quick run takes the workloads of its level only; a pattern reaches all."""
    core = {workload.name for workload in select([], False, preset=PRESETS["quick"])}
    everything = {workload.name for workload in select([], False)}
    assert "cpu.integer_chain" in core < everything and "memory.copy" not in core
    assert [workload.name for workload in select(["memory.copy"], False, preset=PRESETS["quick"])] == ["memory.copy"]


def test_few_workloads_are_measured_more_finely() -> None:
    """A boot of few visits gives each more time than one of many, and none less than the preset's least."""
    quick = PRESETS["quick"]
    assert (
        quick.budget_ns(1) == quick.boot_budget_ns > quick.budget_ns(3) > quick.budget_ns(100) == quick.visit_budget_ns
    )


def test_arms_are_environment_by_variant_with_one_control() -> None:
    """Every environment gets every variant, the A/A control only the first one."""
    variants = parse_variants(["base=true", "head=false"], None)
    names = [arm.name for arm in make_arms([BASE_ENV, CONTROL, VM], variants)]
    assert names == ["bare/base", "bare/head", "bare-aa", "kvm/base", "kvm/head"]
    assert [arm.name for arm in make_arms([BASE_ENV, CONTROL], [])] == ["bare", "bare-aa"]


BASE_ENV = BARE


def test_skips_say_why() -> None:
    """An arm that lacks what a workload needs is skipped with a sentence that names the environment."""
    arms = make_arms([BARE, VM], [])
    tasks, skipped = make_tasks(select(["system.getpid", "exits.out", "cpu.integer_chain"], False), FACTS, arms)
    reasons = {(skip.arm, skip.workload): skip.reason for skip in skipped}
    assert set(reasons) == {("kvm", "system.getpid"), ("bare", "exits.out")}
    assert "kvm" in reasons["kvm", "system.getpid"] and "operating system" in reasons["kvm", "system.getpid"]
    assert len(tasks) == 3


def test_a_second_cpu_only_where_a_workload_works_on_it() -> None:
    """A guest gets a second virtual CPU in such runs alone, and none where the second CPU is among the measured ones."""
    arms = make_arms([BARE], [])
    contended, _ = make_tasks(select(["memory.atomic[contended]"], False), FACTS, arms, (), 1)
    alone, _ = make_tasks(select(["memory.atomic"], False), FACTS, arms, (), 1)
    rest: Any = {"arms": arms, "skipped": (), "preset": PRESETS["quick"], "seed": 1, "second_cpu": 1}
    assert Plan(tasks=contended, cpus=(0,), **rest).other_cpus == (1,)
    assert Plan(tasks=contended, cpus=(0, 1), **rest).other_cpus == ()
    assert Plan(tasks=alone, cpus=(0,), **rest).other_cpus == ()


def test_an_environment_gives_a_reason_of_its_own() -> None:
    """qemu-user has an operating system and Python: it is not said to run native kernels only where commands are needed."""
    arms = make_arms([BARE, get("qemu-user")], [])
    tasks, skipped = make_tasks(select(["system.fork_exec", "applications.sqlite"], False), FACTS, arms)
    reasons = {skip.workload: skip.reason for skip in skipped if skip.arm == "qemu-user"}
    assert reasons == {
        "system.fork_exec": "what the agent executes anew would run on the CPU itself, and not in the emulator"
    }
    assert len(tasks) == 2


def test_a_cache_that_is_not_known_skips_its_workload_everywhere() -> None:
    """Sizes that the machine does not tell are not guessed."""
    arms = make_arms([BARE], [])
    tasks, skipped = make_tasks(select(["memory.chase[l3]"], False), HostFacts({1: 32 << 10}), arms)
    assert tasks == () and "L3" in skipped[0].reason


@pytest.mark.parametrize(
    ("texts", "command", "words"),
    [
        (["head"], None, "is not NAME=SPEC"),
        (["a=true"], None, "nothing to be compared"),
        (["a=true", "a=false"], None, "twice"),
        (["baseline=true", "b=false"], None, "means something else"),
        (["a=true", "bare=false"], None, "means something else"),
        (["a=true", "b=git:HEAD"], None, "some variants are commands"),
        (["a=git:main", "b=git:HEAD"], None, "need --command"),
        (["a=true", "b=false"], "make", "no place for --command"),
        (["a=env:X", "b=env:Y=1"], "make", "VAR=VALUE"),
        (["a=kernel:", "b=kernel:/l"], None, "takes a file"),
        (["a=kernel:/k", "b=env:X=1"], None, "some variants are guests'"),
    ],
)
def test_variants_that_make_no_sense_are_refused(texts: list[str], command: str | None, words: str) -> None:
    """Each misuse of --variant gets its own sentence."""
    with pytest.raises(UsageError, match=words):
        parse_variants(texts, command)


def test_variants_of_guests_need_a_guest_and_leave_others_alone() -> None:
    """kernel: and qemu: make arms of Linux guests; bare stays one arm; without any guest that is said."""
    variants = parse_variants(["q1=qemu:sh", "q2=qemu:cat"], None)
    with pytest.raises(UsageError, match="need a Linux guest"):
        make_arms([BARE, CONTROL, VM], variants)
    guest = StandIn("guest", frozenset({"os", "kernels", "boots"}))
    arms = make_arms([BARE, CONTROL, guest], variants)
    assert [(arm.name, arm.arm.variant) for arm in arms] == [
        ("bare", None),
        ("bare-aa", None),
        ("guest/q1", "q1"),
        ("guest/q2", "q2"),
    ]


def test_the_commands_text_is_part_of_the_run_file() -> None:
    """A reader of the run file sees what was measured."""
    record = command_task("make -j2").record
    assert (record.name, record.parameters) == (COMMAND, {"command": "make -j2"})
