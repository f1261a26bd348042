"""KVM's readiness: usable, or exactly why not, with the state, the reason and the remedy."""

from __future__ import annotations

import errno

import pytest

from vprobe.probe.decode.kvm import Kvm
from vprobe.probe.raw import FileStatus, KvmRaw, Leaves, Registers, Unread
from vprobe.states import State

from .machines import (
    AMD,
    CORE2,
    HYPERVISOR,
    INITIAL_NAMESPACES,
    INTEL,
    PRIVATE_NAMESPACES,
    SKYLAKE,
    SVM,
    VMX,
    ZEN3,
    leaves,
    report,
)

WORKS = KvmRaw(opened=0, api_version=12, create_vm=0)
CONTAINER = {"/proc/self/mountinfo": "5 4 0:1 / / rw - overlay overlay rw\n"}


def kvm(cpuid: Leaves | None = None, raw: KvmRaw | None = None, modules: tuple[str, ...] = (), **fields: object) -> Kvm:
    """The verdict for a machine with these modules loaded."""
    directories = {"/sys/module": modules, **fields.pop("directories", {})}  # type: ignore[dict-item]
    return report(cpuid, kvm=raw, directories=directories, **fields).kvm


def test_usable() -> None:
    """The device opens, speaks version 12, and a VM is created."""
    found = kvm(leaves(INTEL, SKYLAKE, VMX), WORKS, ("kvm", "kvm_intel"))
    assert (found.usable, found.fact.state, found.backend, found.api_version) == (True, State.PRESENT, "kvm_intel", 12)


@pytest.mark.parametrize(
    ("cpuid", "modules", "backend"),
    [
        (leaves(INTEL, SKYLAKE, VMX), ("kvm", "kvm_amd", "kvm_intel"), "kvm_intel"),
        (leaves(AMD, ZEN3, 0, SVM), ("kvm", "kvm_amd", "kvm_intel"), "kvm_amd"),
        (leaves(AMD, ZEN3, HYPERVISOR), ("kvm", "kvm_pvm"), "kvm_pvm"),
        (leaves(AMD, ZEN3, HYPERVISOR), ("kvm", "kvm_amd", "kvm_pvm"), "kvm_pvm"),
        (leaves(INTEL, SKYLAKE, VMX), ("kvm",), None),
    ],
)
def test_the_backend_is_the_module_that_fits_the_processor(
    cpuid: Leaves, modules: tuple[str, ...], backend: str | None
) -> None:
    """Built into the kernel every module shows in /sys/module; kvm_pvm needs no flag."""
    assert kvm(cpuid, WORKS, modules).backend == backend


def test_a_normal_user_is_told_the_group() -> None:
    """EACCES is unknown, not absent, and names the group that owns the device."""
    status = {"/dev/kvm": FileStatus(1, 2, 0o20660, "kvm")}
    raw = KvmRaw(opened=Unread(errno.EACCES))
    found = kvm(leaves(INTEL, SKYLAKE, VMX), raw, ("kvm", "kvm_intel"), status=status, effective_uid=1000)
    assert (found.usable, found.fact.state) == (None, State.UNKNOWN)
    assert "EACCES" in found.fact.reason
    assert "group kvm" in found.fact.remedy
    assert found.nested.state is State.UNKNOWN


def test_root_without_permission_blames_the_device_policy() -> None:
    """EPERM for root comes from a container's device cgroup."""
    found = kvm(leaves(INTEL, SKYLAKE, VMX), KvmRaw(opened=Unread(errno.EPERM)), effective_uid=0)
    assert found.fact.state is State.UNKNOWN
    assert "device policy" in found.fact.remedy


@pytest.mark.parametrize(
    ("links", "files", "remedy"),
    [(PRIVATE_NAMESPACES, CONTAINER, "--device /dev/kvm"), (INITIAL_NAMESPACES, {}, "mknod")],
)
def test_the_device_is_missing_although_the_kernel_has_it(
    links: dict[str, str], files: dict[str, str], remedy: str
) -> None:
    """In a container the engine has to pass it in; elsewhere the node has to be made."""
    raw = KvmRaw(opened=Unread(errno.ENOENT))
    misc = {"/sys/class/misc": ("kvm", "tun")}
    found = kvm(leaves(INTEL, SKYLAKE, VMX), raw, ("kvm",), directories=misc, links=links, files=files)
    assert (found.usable, found.fact.state) == (False, State.HIDDEN)
    assert remedy in found.fact.remedy


def test_a_guests_dump_does_not_tell_whether_kvm_works() -> None:
    """kvm_pvm needs neither flag: a record in which nobody tried /dev/kvm is no "cannot be used"."""
    found = report(leaves(INTEL, SKYLAKE, HYPERVISOR)).kvm
    assert (found.usable, found.fact.state) == (None, State.UNKNOWN)
    assert "does not show VT-x" in found.fact.reason
    assert report(leaves(INTEL, CORE2)).kvm.usable is False


@pytest.mark.parametrize(
    ("cpuid", "msrs", "modules", "state", "words"),
    [
        (leaves(INTEL, SKYLAKE, VMX), {}, (), State.DISABLED, "kvm_intel is not loaded"),
        (leaves(AMD, ZEN3, 0, SVM), {}, (), State.DISABLED, "kvm_amd is not loaded"),
        (leaves(INTEL, SKYLAKE, VMX), {}, ("kvm",), State.DISABLED, "without its vendor module kvm_intel"),
        (leaves(INTEL, SKYLAKE, VMX), {0x3A: 1}, (), State.DISABLED, "locked IA32_FEATURE_CONTROL without VMX"),
        (leaves(AMD, ZEN3, 0, SVM), {0xC0010114: 0x18}, (), State.DISABLED, "disabled SVM"),
        (leaves(INTEL, SKYLAKE, HYPERVISOR), {}, (), State.HIDDEN, "does not show VT-x"),
        (leaves(INTEL, CORE2), {}, (), State.ABSENT, "neither VT-x nor AMD-V"),
        (None, {}, (), State.UNKNOWN, "processor is not known"),
    ],
)
def test_no_device_at_all(
    cpuid: Leaves | None, msrs: dict[int, int], modules: tuple[str, ...], state: State, words: str
) -> None:
    """Module, vendor module, firmware, hypervisor, processor: the first that stands in the way is named."""
    directories = {"/sys/module": modules}
    found = report(cpuid, msrs, kvm=KvmRaw(opened=Unread(errno.ENOENT)), directories=directories).kvm
    assert found.fact.state is state
    assert words in found.fact.reason
    assert any("/dev/kvm: ENOENT" in line for line in found.fact.evidence)


@pytest.mark.parametrize(
    ("modules", "owner"), [(("vboxdrv",), "VirtualBox"), (("vmmon",), "VMware"), ((), "another hypervisor")]
)
def test_another_hypervisor_owns_the_processor(modules: tuple[str, ...], owner: str) -> None:
    """EBUSY of KVM_CREATE_VM, with the rival's name where its module is loaded."""
    raw = KvmRaw(opened=0, api_version=12, create_vm=Unread(errno.EBUSY))
    found = kvm(leaves(INTEL, SKYLAKE, VMX), raw, ("kvm", "kvm_intel", *modules))
    assert (found.usable, found.fact.state) == (False, State.DISABLED)
    assert owner in found.fact.reason


def test_a_foreign_api_version_is_not_used() -> None:
    """Only version 12 is stable."""
    found = kvm(leaves(INTEL, SKYLAKE, VMX), KvmRaw(opened=0, api_version=10))
    assert (found.usable, found.fact.state) == (False, State.DISABLED)


def test_a_record_cannot_tell() -> None:
    """A dump of CPUID alone: whether /dev/kvm opens is unknown; where the processor forbids it, it is not."""
    assert kvm(leaves(INTEL, SKYLAKE, VMX)).usable is None
    assert kvm(leaves(INTEL, CORE2)).usable is False


@pytest.mark.parametrize(
    ("supported", "files", "state"),
    [
        ({(1, 0): (0, 0, VMX, 0)}, {}, State.PRESENT),
        ({(0x80000001, 0): (0, 0, SVM, 0)}, {}, State.PRESENT),
        ({(1, 0): (0, 0, 0, 0)}, {"/sys/module/kvm_intel/parameters/nested": "N\n"}, State.DISABLED),
        ({(1, 0): (0, 0, 0, 0)}, {}, State.ABSENT),
        ({}, {"/sys/module/kvm_intel/parameters/nested": "1\n"}, State.PRESENT),
        ({}, {"/sys/module/kvm_intel/parameters/nested": "0\n"}, State.DISABLED),
    ],
)
def test_nested_by_parameter_and_by_what_kvm_offers(
    supported: dict[tuple[int, int], Registers], files: dict[str, str], state: State
) -> None:
    """KVM_GET_SUPPORTED_CPUID outweighs the module's parameter."""
    raw = WORKS.replace(supported_cpuid=supported)
    assert kvm(leaves(INTEL, SKYLAKE, VMX), raw, ("kvm", "kvm_intel"), files=files).nested.state is state
