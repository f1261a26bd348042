"""Is a technology that the processor has switched on? The rule that VT-x and AMD-V share (contract: states)."""

from __future__ import annotations

from vprobe.probe.facts import Fact
from vprobe.probe.record import Record
from vprobe.states import State


class Lock(Record):
    """What a firmware lock register says. `enabled` None: it was not read, `why` says why not."""

    enabled: bool | None
    reason: str
    remedy: str = ""


class Keeper(Record):
    """The hypervisor that decides what this machine sees. `role` is guest, root or dom0."""

    name: str
    role: str
    known: bool = True  # False: it was not recorded whether there is one
    paravirtual: bool = False  # CPUID is the processor's own here, and its privileged features are not this machine's

    def keeps(self, name: str) -> Fact:
        """The fact that a technology to virtualize is hidden, or may be: hypervisors need it for themselves."""
        if not self.known:
            reason = f"the processor's flags do not show {name}, and it was not recorded whether a hypervisor hides it"
            return Fact(State.UNKNOWN, reason, "record CPUID with `vprobe probe --capture FILE`")
        if self.role == "root":
            remedy = "turn Hyper-V off (on Windows: bcdedit /set hypervisorlaunchtype off), or run VMs under Hyper-V"
            return Fact(State.HIDDEN, f"Hyper-V keeps {name} for itself: this is its root partition", remedy)
        if self.role == "dom0":
            return Fact(State.HIDDEN, f"Xen keeps {name} for itself: this is its dom0", "run VMs under Xen")
        if self.paravirtual:
            reason = f"{self.name} keeps {name} for itself: a paravirtual guest has no use of it, whatever CPUID shows"
            return Fact(State.HIDDEN, reason, "run VMs beside this one, or have the host make it a PVH or HVM guest")
        remedy = f"have the host enable nested virtualization and give this machine a CPU model with {name}"
        return self.hides(name).replace(remedy=remedy)

    def hides(self, name: str) -> Fact:
        """The fact that a feature is hidden, or may be."""
        if not self.known:
            return self.keeps(name)
        return Fact(
            State.HIDDEN, f"{self.name} does not show {name} to this machine; hidden cannot be told from absent here"
        )


class Technology(Record):
    """What the shared rule needs to know of VT-x or AMD-V on this machine."""

    name: str
    flag: bool | None  # None: CPUID was not recorded
    applies: bool  # this processor's maker has the technology
    lock: Lock
    keeper: Keeper | None  # None: no hypervisor was found
    known_model: bool  # every processor of this model has the technology
    kvm_works: bool  # a VM was created here
    witness: str  # who answered for the flag: "CPUID does", "the kernel's flags do"
    evidence: tuple[str, ...]


def technology_state(technology: Technology) -> Fact:
    """Present, absent, hidden, disabled or unknown, with the reason and the remedy."""
    name, evidence = technology.name, technology.evidence
    if not technology.applies:
        return Fact(State.ABSENT, f"this processor's maker does not use {name}", "", evidence)
    if technology.flag is None:
        return Fact(State.UNKNOWN, "CPUID was not recorded", "record it with `vprobe probe --capture FILE`", evidence)
    if technology.flag and not (technology.keeper and technology.keeper.paravirtual):
        return _with_flag(technology)
    if technology.keeper is not None:
        hidden = technology.keeper.keeps(name)
        reason = hidden.reason + ("; KVM works here all the same" if technology.kvm_works else "")
        return hidden.replace(reason=reason, evidence=evidence)
    return _without_flag(technology)


def _with_flag(technology: Technology) -> Fact:
    lock = technology.lock
    if lock.enabled is None:
        return Fact(State.PRESENT, f"firmware lock not read: {lock.reason}", lock.remedy, technology.evidence)
    state = State.PRESENT if lock.enabled else State.DISABLED
    return Fact(state, lock.reason, lock.remedy, technology.evidence)


def _without_flag(technology: Technology) -> Fact:
    name = technology.name
    firmware = f"enable {name} in the firmware set-up, then switch the machine off and on"
    if technology.lock.enabled is False:
        return Fact(State.DISABLED, technology.lock.reason, technology.lock.remedy or firmware, technology.evidence)
    if technology.known_model:
        reason = (
            f"{technology.witness} not show {name}, which every processor of this model has: firmware turned it off"
        )
        return Fact(State.DISABLED, reason, firmware, technology.evidence)
    return Fact(State.ABSENT, f"{technology.witness} not show {name}", "", technology.evidence)
