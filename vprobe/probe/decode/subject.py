"""What several decoders ask of the processor, whether CPUID was recorded or only /proc/cpuinfo."""

from __future__ import annotations

from vprobe.probe.decode.cpu import Cpu
from vprobe.probe.decode.cpuid import EXTENDED, VENDORS, Cpuid, Vendor
from vprobe.probe.decode.firmware import Keeper
from vprobe.probe.decode.flags import flag_leaves
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import table

X86 = {"x86_64", "amd64", "i386", "i486", "i586", "i686"}


class Subject(Record):
    """The processor in question. `cpuid` is empty where only the kernel's words are known."""

    raw: Raw
    cpuid: Cpuid
    cpu: Cpu
    keeper: Keeper | None  # the hypervisor that this machine runs under; None: none was found

    @property
    def is_x86(self) -> bool | None:
        """None: the architecture is not known."""
        return self.cpu.architecture in X86 if self.cpu.architecture else None

    @property
    def vendor(self) -> Vendor | None:
        """None: not known."""
        if self.cpuid.vendor_text:
            return self.cpuid.vendor
        return VENDORS.get(self.cpu.vendor, Vendor.OTHER) if self.cpu.vendor else None

    def flag(self, name: str) -> bool | None:
        """A feature flag; None where neither its CPUID leaf nor the kernel's flags were recorded."""
        if name in self.cpu.flags or self.is_x86 is False:
            return name in self.cpu.flags
        if self.cpuid:
            return None if any(self.was_left_out(leaf, subleaf) for leaf, subleaf in flag_leaves(name)) else False
        return False if self.cpu.flags else None

    def was_left_out(self, leaf: int, subleaf: int) -> bool:
        """The processor has the leaf, or may have it, but the record does not: a truncated dump, or none of this leaf."""
        if (leaf, subleaf) in self.cpuid.leaves:
            return False
        if leaf >= EXTENDED and self.vendor is Vendor.OTHER and (EXTENDED, 0) not in self.cpuid.leaves:
            return False  # processors that neither Intel nor AMD made were often sold without the extended leaves
        return self.cpuid.in_range(leaf)

    @property
    def witness(self) -> str:
        """Who answered for the flags."""
        return "CPUID does" if self.cpuid else "the kernel's flags do"

    @property
    def kvm_works(self) -> bool:
        """A VM was created here, whatever the flags say."""
        return self.raw.kvm is not None and self.raw.kvm.create_vm == 0

    def known_model(self, technology: str) -> bool:
        """Every processor of this model has the technology, whatever its name."""
        rows = table("known_models")[technology]
        fitting = (row for row in rows if (row["vendor"], row["family"]) == (self.vendor, self.cpu.family))
        model = "" if self.cpu.model is None else f"{self.cpu.model:#04x}"
        return any("models" not in row or model in row["models"] for row in fitting)


def cleared_by(subject: Subject, technology: str) -> str:
    """Why the kernel does not show a flag that CPUID has."""
    if subject.keeper and subject.keeper.paravirtual:
        return f"a paravirtual guest of {subject.keeper.name} cannot use {technology}"
    return f"Linux clears it where firmware disables {technology}"


def unread_remedy(reading: Unread, effective_uid: int | None) -> str:
    """What makes the msr device readable."""
    if reading.refused and effective_uid != 0:
        return "run as root"
    if reading.missing:
        return "load the msr driver (`modprobe msr`) and run as root"
    return ""
