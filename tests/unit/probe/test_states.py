"""The states of VT-x and AMD-V, by the rules of the contract."""

from __future__ import annotations

import errno

import pytest

from vprobe.probe.raw import KvmRaw, Origin, Raw, Unread
from vprobe.probe.report import decode
from vprobe.states import State

from .machines import (
    AMD,
    CENTAUR,
    CORE2,
    HASWELL,
    HYGON,
    HYPERVISOR,
    INTEL,
    K8,
    SHANGHAI,
    SKYLAKE,
    SVM,
    VMX,
    ZEN3,
    leaves,
    machine,
    report,
    signature_leaf,
)

FEATURE_CONTROL, VM_CR = 0x3A, 0xC0010114
LOCKED_ON, LOCKED_OFF, UNLOCKED, LOCKED_SMX_ONLY = 0x5, 0x1, 0x0, 0x3


@pytest.mark.parametrize(
    ("ecx", "msrs", "signature", "state"),
    [
        (VMX, {FEATURE_CONTROL: LOCKED_ON}, SKYLAKE, State.PRESENT),
        (VMX, {FEATURE_CONTROL: UNLOCKED}, SKYLAKE, State.PRESENT),
        (VMX, {}, SKYLAKE, State.PRESENT),
        (VMX, {FEATURE_CONTROL: Unread(errno.EIO)}, SKYLAKE, State.PRESENT),
        (VMX, {FEATURE_CONTROL: LOCKED_OFF}, SKYLAKE, State.DISABLED),
        (VMX, {FEATURE_CONTROL: LOCKED_SMX_ONLY}, SKYLAKE, State.DISABLED),
        (VMX | HYPERVISOR, {}, SKYLAKE, State.PRESENT),
        (HYPERVISOR, {}, SKYLAKE, State.HIDDEN),
        (HYPERVISOR, {FEATURE_CONTROL: LOCKED_OFF}, SKYLAKE, State.HIDDEN),
        (0, {FEATURE_CONTROL: LOCKED_OFF}, CORE2, State.DISABLED),
        (0, {}, SKYLAKE, State.DISABLED),
        (0, {}, CORE2, State.ABSENT),
        (0, {FEATURE_CONTROL: UNLOCKED}, CORE2, State.ABSENT),
    ],
)
def test_vtx_follows_flag_lock_hypervisor_and_model(
    ecx: int, msrs: dict[int, int], signature: int, state: State
) -> None:
    """Each row of the contract's rule gives its state."""
    found = report(leaves(INTEL, signature, ecx), msrs).vtx
    assert found.fact.state is state
    assert found.fact.reason


@pytest.mark.parametrize(
    ("svm", "msrs", "signature", "hypervisor", "state"),
    [
        (SVM, {VM_CR: 0}, ZEN3, 0, State.PRESENT),
        (SVM, {}, ZEN3, 0, State.PRESENT),
        (SVM, {VM_CR: 0x18}, ZEN3, 0, State.DISABLED),
        (SVM, {VM_CR: 0x10}, ZEN3, 0, State.DISABLED),
        (0, {}, ZEN3, HYPERVISOR, State.HIDDEN),
        (0, {}, ZEN3, 0, State.DISABLED),
        (0, {}, K8, 0, State.ABSENT),
        (0, {VM_CR: 0x10}, K8, 0, State.DISABLED),
    ],
)
def test_amdv_follows_flag_vm_cr_hypervisor_and_model(
    svm: int, msrs: dict[int, int], signature: int, hypervisor: int, state: State
) -> None:
    """Each row of the contract's rule gives its state, with VM_CR in the place of IA32_FEATURE_CONTROL."""
    assert report(leaves(AMD, signature, hypervisor, svm), msrs).amdv.fact.state is state


@pytest.mark.parametrize(
    ("vendor", "signature", "vtx", "amdv"),
    [
        (INTEL, HASWELL, State.PRESENT, State.ABSENT),
        (CENTAUR, 0x6FE, State.PRESENT, State.ABSENT),
        (SHANGHAI, 0x307B0, State.PRESENT, State.ABSENT),
        (AMD, ZEN3, State.ABSENT, State.PRESENT),
        (HYGON, 0x900F02, State.ABSENT, State.PRESENT),
    ],
)
def test_each_maker_has_one_technology(vendor: str, signature: int, vtx: State, amdv: State) -> None:
    """VIA and Zhaoxin use VT-x, Hygon AMD-V; the other maker's technology is absent even where its flag is set."""
    found = report(leaves(vendor, signature, VMX, SVM))
    assert (found.vtx.fact.state, found.amdv.fact.state) == (vtx, amdv)


def test_nothing_recorded_is_unknown_not_absent() -> None:
    """Without CPUID and without /proc/cpuinfo both technologies are unknown."""
    found = report()
    assert found.vtx.fact.state is State.UNKNOWN
    assert found.amdv.fact.state is State.UNKNOWN
    assert found.hypervisor.fact.state is State.UNKNOWN


@pytest.mark.parametrize(
    ("lost", "vendor", "states"),
    [
        ((1, 0), INTEL, ("unknown", "absent", "unknown")),
        ((7, 0), INTEL, ("present", "absent", "unknown")),
        ((0x80000001, 0), AMD, ("absent", "unknown", "absent")),
    ],
)
def test_a_leaf_that_a_truncated_dump_lost_proves_no_absence(
    lost: tuple[int, int], vendor: str, states: tuple[str, str, str]
) -> None:
    """The leaf is in the range that the processor names, but was not recorded: what it would tell is unknown."""
    whole = leaves(vendor, SKYLAKE if vendor == INTEL else ZEN3, VMX, SVM)
    found = report({key: registers for key, registers in whole.items() if key != lost})
    assert (found.vtx.fact.state, found.amdv.fact.state, found.sgx.state) == states


def test_the_first_cpu_with_features_speaks_for_the_machine() -> None:
    """A dump whose first section is cut short still tells what the processor has."""
    whole = leaves(INTEL, SKYLAKE, VMX)
    found = decode(Raw(Origin.AIDA_TEXT, cpuid={0: {(0, 0): whole[0, 0]}, 1: whole}))
    assert (found.vtx.fact.state, found.cpu.model) == (State.PRESENT, 0x5E)


def test_an_extended_leaf_is_decoded_without_the_first_of_its_range() -> None:
    """A dump whose line of leaf 0x80000000 is damaged still shows AMD-V."""
    whole = leaves(AMD, ZEN3, 0, SVM)
    found = report({key: registers for key, registers in whole.items() if key != (0x80000000, 0)})
    assert found.amdv.fact.state is State.PRESENT


def test_the_lock_that_was_not_read_is_named_with_errno_and_remedy() -> None:
    """EACCES is said, and what would let it be read."""
    found = report(leaves(INTEL, SKYLAKE, VMX), {FEATURE_CONTROL: Unread(errno.EACCES)}, effective_uid=1000).vtx.fact
    assert "firmware lock not read" in found.reason
    assert "EACCES" in found.reason
    assert "root" in found.remedy


def test_the_hyperv_root_partition_is_told_from_a_guest() -> None:
    """A root partition's VT-x is hidden because Hyper-V keeps it, and the reason says so."""
    more = {
        (0x40000000, 0): signature_leaf("Microsoft Hv", 0x4000000B),
        (0x40000001, 0): (0x31237648, 0, 0, 0),
        (0x40000003, 0): (0x3FFF, 0x2BB9FF, 2, 0),
    }
    found = report(leaves(INTEL, SKYLAKE, HYPERVISOR, more=more))
    assert found.hypervisor.role == "root"
    assert found.vtx.fact.state is State.HIDDEN
    assert "root partition" in found.vtx.fact.reason


def test_a_working_kvm_is_mentioned_where_the_flag_is_hidden() -> None:
    """kvm_pvm works without the flag: the reason must not read as if nothing could be virtualized."""
    kvm = KvmRaw(opened=0, api_version=12, create_vm=0)
    found = report(leaves(AMD, ZEN3, HYPERVISOR), kvm=kvm, directories={"/sys/module": ("kvm", "kvm_pvm")})
    assert found.amdv.fact.state is State.HIDDEN
    assert "KVM works here" in found.amdv.fact.reason
    assert found.kvm.backend == "kvm_pvm"


def test_cpuid_wins_over_the_flag_that_linux_cleared() -> None:
    """The vmx flag missing from /proc/cpuinfo is evidence, not the state."""
    cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme nopl\n"
    found = report(leaves(INTEL, SKYLAKE, VMX), files={"/proc/cpuinfo": cpuinfo}).vtx.fact
    assert found.state is State.PRESENT
    assert any("/proc/cpuinfo has no vmx flag" in line for line in found.evidence)


def test_an_old_kernels_flags_do_not_prove_bare_metal() -> None:
    """Flags of a kernel from before the hypervisor flag leave open whether VT-x is hidden."""
    cpuinfo = (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 23\nflags\t\t: fpu vme de pse lm\n"
    )
    raw = machine(files={"/proc/cpuinfo": cpuinfo})
    assert decode(raw).hypervisor.fact.state is State.UNKNOWN
    assert decode(raw).vtx.fact.state is State.UNKNOWN


def test_other_architectures_have_neither() -> None:
    """An Arm machine has neither VT-x nor AMD-V, and that is certain."""
    cpuinfo = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    found = report(files={"/proc/cpuinfo": cpuinfo})
    assert found.cpu.architecture == "aarch64"
    assert {found.vtx.fact.state, found.amdv.fact.state, found.sgx.state} == {State.ABSENT}
