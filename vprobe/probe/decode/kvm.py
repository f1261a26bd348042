"""Can KVM be used here, by this user, and if not, exactly why not?

The verdict rests on opening /dev/kvm and creating a VM, not on flags: kvm_pvm needs neither VT-x nor AMD-V.
"""

from __future__ import annotations

import errno

from vprobe.probe.decode.cpuid import ECX
from vprobe.probe.facts import Fact
from vprobe.probe.raw import FileStatus, KvmRaw, Origin, Raw, Unread
from vprobe.probe.record import Record
from vprobe.states import State

BACKENDS = ("kvm_intel", "kvm_amd", "kvm_pvm", "kvm_hv", "kvm_pr")
RIVALS = {"vboxdrv": "VirtualBox", "vmmon": "VMware Workstation", "xen_privcmd": "Xen"}
"""Modules of hypervisors that take VMX or SVM for themselves."""
STABLE_API = 12


class Technologies(Record):
    """What the reasons for a missing KVM are told from."""

    vtx: Fact
    amdv: Fact
    in_container: bool
    hypervisor: str | None
    is_x86: bool | None


class Kvm(Record):
    """The kvm object of the document. `usable` None: not known."""

    fact: Fact
    usable: bool | None
    backend: str | None
    api_version: int | None
    nested: Fact


def decode_kvm(raw: Raw, technologies: Technologies) -> Kvm:
    """KVM's readiness, its backend, and whether its guests may virtualize in turn."""
    backend = _backend(raw, technologies)
    version = raw.kvm.api_version if raw.kvm else None
    usable, fact = _readiness(raw, technologies, backend)
    return Kvm(
        fact=fact,
        usable=usable,
        backend=backend,
        api_version=version if isinstance(version, int) else None,
        nested=_nested(raw, backend, usable=usable),
    )


def _backend(raw: Raw, technologies: Technologies) -> str | None:
    """The vendor module. Built into the kernel, all of them show up in /sys/module: then the processor decides."""
    loaded = [name for name in BACKENDS if name in raw.listing("/sys/module")]
    if raw.kvm and any(0x480 <= index <= 0x493 for index in raw.kvm.feature_msrs):
        return "kvm_intel"
    fitting = {"kvm_intel": technologies.vtx.state, "kvm_amd": technologies.amdv.state}
    usable = [name for name in loaded if fitting.get(name, State.PRESENT) is State.PRESENT]
    return next(iter(usable or loaded), None)


def _readiness(raw: Raw, technologies: Technologies, backend: str | None) -> tuple[bool | None, Fact]:
    kvm = raw.kvm
    if kvm is None:
        return _without_device(raw, technologies, recorded=False)
    if isinstance(kvm.opened, Unread):
        return _not_opened(raw, technologies, kvm.opened)
    if kvm.api_version != STABLE_API:
        reason = f"/dev/kvm speaks API version {_name(kvm.api_version)}, not {STABLE_API}"
        return False, Fact(State.DISABLED, reason, "load a kernel with a current KVM")
    if isinstance(kvm.create_vm, Unread):
        return _no_vm(raw, kvm.create_vm)
    return True, Fact(
        State.PRESENT, _usable_reason(technologies, backend), "", ("/dev/kvm opened", "KVM_CREATE_VM succeeded")
    )


def _name(reading: int | Unread | None) -> str:
    return reading.name if isinstance(reading, Unread) else str(reading)


def _usable_reason(technologies: Technologies, backend: str | None) -> str:
    reason = "a VM was created" + (f" through {backend}" if backend else "")
    if backend == "kvm_pvm" and State.PRESENT not in {technologies.vtx.state, technologies.amdv.state}:
        reason += ", which needs neither VT-x nor AMD-V"
    return reason


def _no_vm(raw: Raw, failure: Unread) -> tuple[bool, Fact]:
    """The device opens, but KVM_CREATE_VM fails."""
    evidence = (f"KVM_CREATE_VM: {failure.name}",)
    if failure.errno == errno.EBUSY:
        rivals = [name for module, name in RIVALS.items() if module in raw.listing("/sys/module")]
        owner = " and ".join(rivals) or "another hypervisor"
        return False, Fact(
            State.DISABLED,
            f"{owner} owns the processor's virtualization",
            "stop its VMs or unload its module",
            evidence,
        )
    if failure.errno == errno.ENOMEM:
        return False, Fact(
            State.UNKNOWN, "there was not enough memory to create a VM", "free memory or raise the limit", evidence
        )
    return False, Fact(
        State.DISABLED, f"/dev/kvm opens, but no VM can be created: {failure.name}", "see the kernel log", evidence
    )


def _not_opened(raw: Raw, technologies: Technologies, failure: Unread) -> tuple[bool | None, Fact]:
    evidence = (f"/dev/kvm: {failure.name}",)
    if failure.refused:
        status = raw.status.get("/dev/kvm")
        group = status.group if isinstance(status, FileStatus) else "kvm"
        remedy = f"become a member of the group {group} (usermod -aG {group} USER, then log in again) or run as root"
        if isinstance(status, FileStatus) and not status.mode & 0o060 and group == "root":
            remedy = "run as root, or give the device a group (chgrp kvm /dev/kvm; chmod g+rw /dev/kvm)"
        if raw.effective_uid == 0:
            remedy = "have the container's device policy allow /dev/kvm"
        return None, Fact(
            State.UNKNOWN, f"/dev/kvm is there, but this user may not open it: {failure.name}", remedy, evidence
        )
    if failure.errno == errno.EBUSY:
        return False, Fact(
            State.DISABLED, "/dev/kvm is busy: another hypervisor owns it", "stop the other hypervisor", evidence
        )
    usable, fact = _without_device(raw, technologies, recorded=True)
    return usable, fact.replace(evidence=evidence + fact.evidence)


def _without_device(raw: Raw, technologies: Technologies, *, recorded: bool) -> tuple[bool | None, Fact]:
    """/dev/kvm is not there, or nobody could try it: what stands in the way?"""
    modules = raw.listing("/sys/module")
    kernel_has_it = "kvm" in raw.listing("/sys/class/misc") or " kvm\n" in (raw.text("/proc/misc") or "") + "\n"
    if recorded and kernel_has_it:
        remedy = (
            "start the container with --device /dev/kvm" if technologies.in_container else "mknod /dev/kvm c 10 232"
        )
        where = "in this container" if technologies.in_container else "in /dev"
        return False, Fact(
            State.HIDDEN, f"the kernel has KVM, but /dev/kvm is not {where}", remedy, ("/sys/class/misc/kvm",)
        )
    blocked = _blocked_by_processor(technologies)
    if blocked and blocked.state is State.HIDDEN and not recorded:
        reason = f"{blocked.reason}; whether KVM works all the same, through kvm_pvm, was not recorded"
        return None, Fact(State.UNKNOWN, reason, "run vprobe on the machine itself")
    if blocked:
        return False, blocked
    if not recorded:
        origin = "a recorded tree" if raw.origin is Origin.TREE else "this record"
        return None, Fact(
            State.UNKNOWN, f"{origin} cannot tell whether /dev/kvm opens", "run vprobe on the machine itself"
        )
    if technologies.vtx.state is State.UNKNOWN and technologies.amdv.state is State.UNKNOWN:
        return None, Fact(State.UNKNOWN, "/dev/kvm is not there, and the processor is not known", "load KVM's module")
    vendor = "kvm_intel" if technologies.vtx.state is State.PRESENT else "kvm_amd"
    if vendor not in modules and "kvm" in modules:
        reason = f"KVM is loaded without its vendor module {vendor}"
    else:
        reason = f"the processor is ready, but the module {vendor} is not loaded"
    return False, Fact(State.DISABLED, reason, f"modprobe {vendor} (see the kernel log if that fails)")


def _blocked_by_processor(technologies: Technologies) -> Fact | None:
    """Neither VT-x nor AMD-V is usable: KVM shares the state of the one that this processor could have."""
    facts = (technologies.vtx, technologies.amdv)
    if technologies.is_x86 is False or any(fact.state in {State.PRESENT, State.UNKNOWN} for fact in facts):
        return None
    for state in (State.DISABLED, State.HIDDEN):
        fact = next((fact for fact in facts if fact.state is state), None)
        if fact:
            return Fact(state, fact.reason, fact.remedy)
    return Fact(State.ABSENT, "the processor has neither VT-x nor AMD-V")


def _nested(raw: Raw, backend: str | None, *, usable: bool | None) -> Fact:
    """May a guest of this KVM be a hypervisor? The module's parameter, and the flag that /dev/kvm offers to guests."""
    evidence = []
    parameter = raw.text(f"/sys/module/{backend}/parameters/nested") if backend else None
    if parameter is not None:
        evidence.append(f"/sys/module/{backend}/parameters/nested: {parameter[:10]}")
    offered = _offered_flag(raw.kvm)
    if offered is not None:
        evidence.append(f"KVM_GET_SUPPORTED_CPUID: {offered or 'neither vmx nor svm'}")
    if offered:
        return Fact(State.PRESENT, f"KVM offers {offered} to its guests", "", tuple(evidence))
    if parameter in {"0", "N"}:
        remedy = f"modprobe -r {backend} && modprobe {backend} nested=1"
        return Fact(State.DISABLED, f"{backend} was loaded with nested={parameter}", remedy, tuple(evidence))
    if offered == "":
        return Fact(State.ABSENT, "KVM offers neither vmx nor svm to its guests", "", tuple(evidence))
    if parameter in {"1", "Y"}:
        return Fact(State.PRESENT, f"{backend} was loaded with nested={parameter}", "", tuple(evidence))
    if usable is None:
        return Fact(State.UNKNOWN, "KVM could not be asked", "make /dev/kvm open first", tuple(evidence))
    return Fact(State.ABSENT, "KVM is not usable here", "", tuple(evidence))


def _offered_flag(kvm: KvmRaw | None) -> str | None:
    """ "vmx" or "svm" where KVM shows it to guests, "" where it shows neither; None where it was not asked."""
    if kvm is None or not kvm.supported_cpuid:
        return None
    if kvm.supported_cpuid.get((1, 0), (0, 0, 0, 0))[ECX] >> 5 & 1:
        return "vmx"
    return "svm" if kvm.supported_cpuid.get((0x80000001, 0), (0, 0, 0, 0))[ECX] >> 2 & 1 else ""
