"""Hypervisor leaves: every signature from 0x40000000 upwards, its block, and the features that it offers to guests.

Scan: 0x40000000 to 0x4000FF00 in steps of 0x100 (Linux, for_each_possible_cpuid_base_hypervisor). Feature leaves: Linux
uapi/asm/kvm_para.h; the Hyper-V top level functional specification; Xen public/arch-x86/cpuid.h.
"""

from __future__ import annotations

from functools import lru_cache

from vprobe.probe.decode.cpuid import EAX, EBX, ECX, EDX, Cpuid, register_text
from vprobe.probe.record import Record
from vprobe.probe.tables import table

BASES = range(0x40000000, 0x40010000, 0x100)
HV1_INTERFACE = 0x31237648
"""EAX of a Hyper-V interface leaf: "Hv#1"."""

HYPERV_PRIVILEGES = {"create_partitions": 0, "cpu_management": 12, "isolation": 22}
"""Bits of EBX of leaf base+3 that tell a root partition from a guest."""


class Signature(Record):
    """One block of hypervisor leaves. `kind` and `virt_class` are "" where the signature is not known."""

    base: int
    text: str
    maximum: int
    kind: str
    virt_class: str


@lru_cache(maxsize=4)
def find_signatures(cpuid: Cpuid) -> tuple[Signature, ...]:
    """Every block that answers with a signature, lowest base first; mirrors of the first block are left out."""
    if not cpuid.has_hypervisor:
        return ()
    known = {row["signature"]: row for row in table("hypervisor_signatures")["signatures"]}
    first = cpuid.get(BASES.start)
    found = []
    for base in BASES:
        registers = cpuid.get(base)
        if registers is None or not any(registers[1:]) or (base != BASES.start and registers == first):
            continue
        text = register_text(registers[EBX], registers[ECX], registers[EDX])
        row = known.get(text) or _by_prefix(text)
        if row or (_is_printable(text) and base == BASES.start) or _names_own_block(registers[EAX], base, text):
            kind, virt_class = (row["kind"], row["class"]) if row else ("", "")
            found.append(Signature(base, text.rstrip("\0"), registers[EAX], kind, virt_class))
    return tuple(found)


def _by_prefix(text: str) -> dict[str, str] | None:
    """QNX compares only the first eight letters of one of its signatures."""
    rows = table("hypervisor_signatures")["signatures"]
    return next((row for row in rows if row["signature"].startswith("QXNQSBMV") and text.startswith("QXNQSBMV")), None)


def _is_printable(text: str) -> bool:
    letters = text.rstrip("\0")
    return len(letters) >= 4 and letters.isascii() and letters.isprintable()


def _names_own_block(maximum: int, base: int, text: str) -> bool:
    return base <= maximum <= base + 0xFF and _is_printable(text)


def paravirtual_features(cpuid: Cpuid, signatures: tuple[Signature, ...]) -> tuple[str, ...]:
    """What the hypervisor offers to a guest that knows it, by name, in the order of the bits."""
    features: list[str] = []
    for signature in signatures:
        for row in table("paravirtual_features")["words"]:
            if row["kind"] == signature.kind and (row["kind"] != "microsoft" or is_hv1(cpuid, signature)):
                value = cpuid.register(signature.base + row["offset"], REGISTERS[row["register"]])
                features += [name for bit, name in row["bits"].items() if value >> int(bit) & 1]
    return tuple(dict.fromkeys(features))


REGISTERS = {"eax": EAX, "ebx": EBX, "ecx": ECX, "edx": EDX}


def is_hv1(cpuid: Cpuid, signature: Signature) -> bool:
    """The block follows the Hyper-V interface, whoever offers it."""
    return cpuid.register(signature.base + 1, EAX) == HV1_INTERFACE


class HypervPartition(Record):
    """What the Hyper-V leaves say of this partition."""

    is_root: bool
    isolation: str  # "", "vbs", "snp", "tdx"
    paravisor: bool
    nested: bool


ISOLATION = {1: "vbs", 2: "snp", 3: "tdx"}


def hyperv_partition(cpuid: Cpuid, signatures: tuple[Signature, ...]) -> HypervPartition | None:
    """The partition's privileges (base+3), recommendations (base+4) and isolation (base+0xC); None without Hyper-V leaves."""
    for signature in signatures:
        if signature.kind == "microsoft" and 0x40000005 <= signature.maximum <= 0x4000FFFF and is_hv1(cpuid, signature):
            privileges = cpuid.register(signature.base + 3, EBX)
            bits = {name: bool(privileges >> bit & 1) for name, bit in HYPERV_PRIVILEGES.items()}
            isolated = bits["isolation"] and not bits["cpu_management"] and signature.maximum >= signature.base + 0xC
            return HypervPartition(
                is_root=bits["create_partitions"] and bits["cpu_management"] and not bits["isolation"],
                isolation=ISOLATION.get(cpuid.register(signature.base + 0xC, EBX) & 0xF, "") if isolated else "",
                paravisor=isolated and cpuid.bit(signature.base + 0xC, EAX, 0),
                nested=cpuid.bit(signature.base + 4, EAX, 12),
            )
    return None
