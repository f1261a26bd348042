"""CPUID leaves behind their gates, and who made this processor.

A leaf above the maximum that its range reports is never decoded: processors of Intel answer it with the data of the highest
basic leaf (Intel SDM vol. 2A, CPUID). Hypervisor leaves exist only where CPUID.1:ECX[31] is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from vprobe.probe.raw import Leaves, Registers
from vprobe.states import StrEnum

EAX, EBX, ECX, EDX = range(4)
REGISTER_NUMBERS = {"eax": EAX, "ebx": EBX, "ecx": ECX, "edx": EDX}

BASIC, HYPERVISOR, TRANSMETA, EXTENDED, CENTAUR = 0, 0x40000000, 0x80860000, 0x80000000, 0xC0000000
RANGE_MASK = 0xFFFF0000


class Vendor(StrEnum):
    """Families of processors that share their own leaves and their way to virtualize."""

    INTEL = "intel"
    AMD = "amd"
    CENTAUR = "centaur"  # VIA and Zhaoxin: they implement VT-x
    TRANSMETA = "transmeta"
    OTHER = "other"


VENDORS = {
    "GenuineIntel": Vendor.INTEL,
    "GenuineIotel": Vendor.INTEL,  # the same with one bit flipped: seen on silicon, and in rewriting hypervisors
    "AuthenticAMD": Vendor.AMD,
    "AMDisbetter!": Vendor.AMD,
    "AMD ISBETTER": Vendor.AMD,
    "HygonGenuine": Vendor.AMD,
    "CentaurHauls": Vendor.CENTAUR,
    "  Shanghai  ": Vendor.CENTAUR,
    "VIA VIA VIA ": Vendor.CENTAUR,
    "GenuineTMx86": Vendor.TRANSMETA,
    "TransmetaCPU": Vendor.TRANSMETA,
}


def register_text(*registers: int) -> str:
    """The ASCII that registers spell, byte by byte; bytes that are not printable stand as they are."""
    return b"".join(register.to_bytes(4, "little") for register in registers).decode("latin-1")


class Cpuid:
    """One CPU's leaves, as far as they may be decoded."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    def __bool__(self) -> bool:
        return bool(self.leaves)

    @cached_property
    def maximum(self) -> Mapping[int, int]:
        """Range -> highest leaf that may be decoded in it; a range that does not answer is not in the mapping."""
        found = {BASIC: self.leaves[0, 0][EAX]} if (0, 0) in self.leaves else {BASIC: 0xFFFF}
        if (EXTENDED, 0) not in self.leaves:
            found[EXTENDED] = EXTENDED | 0xFFFF  # a leaf that was recorded without its range's first one is not dropped
        for start in (EXTENDED, TRANSMETA, CENTAUR):
            registers = self.leaves.get((start, 0))
            if registers is not None and registers[EAX] & RANGE_MASK == start:
                found[start] = registers[EAX]
        if self.vendor is not Vendor.CENTAUR:
            found.pop(CENTAUR, None)
        if self.vendor is not Vendor.TRANSMETA:
            found.pop(TRANSMETA, None)
        return found

    def in_range(self, leaf: int) -> bool:
        """The leaf is one that this CPU says it has."""
        if leaf & 0xF0000000 == HYPERVISOR:
            return self.has_hypervisor
        return leaf <= self.maximum.get(leaf & RANGE_MASK, -1)

    def get(self, leaf: int, subleaf: int = 0) -> Registers | None:
        """EAX, EBX, ECX, EDX of a leaf; None where it is out of range, gated off, or was not recorded."""
        registers = self.leaves.get((leaf, subleaf))
        if registers is None or not self.in_range(leaf):
            return None
        return self._defined(leaf, registers)

    def _defined(self, leaf: int, registers: Registers) -> Registers:
        """VIA's processors before the C7 leave EBX and ECX of the feature leaves as they were: noise."""
        if leaf in {1, 0x80000001} and self.is_old_centaur:
            return registers[EAX], 0, 0, registers[EDX]
        return registers

    @cached_property
    def is_old_centaur(self) -> bool:
        """WinChip and C3: before the C7, family 6 model 10."""
        family, model, _ = decode_signature(self.leaves.get((1, 0), (0, 0, 0, 0))[EAX])
        return self.vendor is Vendor.CENTAUR and (family, model) < (6, 0xA)

    def register(self, leaf: int, register: int, subleaf: int = 0) -> int:
        """One register of a leaf; 0 where the leaf is not to be decoded."""
        registers = self.get(leaf, subleaf)
        return registers[register] if registers else 0

    def bit(self, leaf: int, register: int, number: int, subleaf: int = 0) -> bool:
        """One bit of a leaf; false where the leaf is not to be decoded."""
        return bool(self.register(leaf, register, subleaf) >> number & 1)

    @cached_property
    def has_hypervisor(self) -> bool:
        """CPUID.1:ECX[31]: reserved as 0 on every processor, set by every hypervisor that wants to be seen."""
        return self.bit(1, ECX, 31)

    @cached_property
    def vendor_text(self) -> str:
        """The twelve characters of leaf 0; "" where it was not recorded."""
        registers = self.leaves.get((0, 0))
        return register_text(registers[EBX], registers[EDX], registers[ECX]).rstrip("\0") if registers else ""

    @cached_property
    def vendor(self) -> Vendor:
        """Which family of leaves this CPU has."""
        return VENDORS.get(self.vendor_text, Vendor.OTHER)

    @cached_property
    def signature(self) -> tuple[int, int, int]:
        """Family, model and stepping, with the extended fields as both makers define them (SDM vol. 2A; APM vol. 3)."""
        return decode_signature(self.register(1, EAX))

    @cached_property
    def brand(self) -> str:
        """The brand string of leaves 0x80000002 to 0x80000004, without padding."""
        parts = [self.get(EXTENDED + number) for number in (2, 3, 4)]
        text = "".join(register_text(*part) for part in parts if part)
        return " ".join(text.partition("\0")[0].split())

    @cached_property
    def has_svm(self) -> bool:
        """CPUID.80000001H:ECX[2]."""
        return self.bit(0x80000001, ECX, 2)

    @cached_property
    def has_vmx(self) -> bool:
        """CPUID.1:ECX[5]."""
        return self.bit(1, ECX, 5)


def decode_signature(eax: int) -> tuple[int, int, int]:
    """Family, model, stepping of CPUID.1:EAX."""
    family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family == 0xF:
        family += eax >> 20 & 0xFF
    if family >= 6:
        model += (eax >> 16 & 0xF) << 4
    return family, model, eax & 0xF
