"""What differs between the CPUs of one machine: of CPUID and MSRs, identities excepted.

A guest that is moved between unlike CPUs, or a hypervisor that trusts the first one, breaks on such differences.
"""

from __future__ import annotations

from collections.abc import Mapping

from vprobe.probe.raw import Raw, Registers, Unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


ALL = 0xFFFFFFFF
IDENTITIES: dict[int, Registers] = {
    0x1: (0, 0xFF000000, 0, 0),  # initial APIC id
    0x3: (ALL, ALL, ALL, ALL),  # serial number
    0x6: (0, 0, 0, 0xFFFF0000),  # row in the hardware feedback table
    0xB: (0, 0, 0, ALL),  # x2APIC id
    0x1F: (0, 0, 0, ALL),
    0x8000001E: (ALL, 0x000000FF, 0x000000FF, 0),  # extended APIC id, core id, node id
    0x80000026: (0, 0, 0, ALL),
    0xC0000002: (ALL, ALL, ALL, ALL),  # VIA's sensors: temperature and voltage
    0xC0000004: (ALL, ALL, ALL, ALL),
}
"""Leaf -> bits of each register that name the CPU itself and differ by design."""
XEN_LEAF_MASK, XEN_LEAF, XEN_VIRTUAL_CPU = 0xFFFF00FF, 0x40000004, (0, ALL, 0, 0)
"""Xen's leaf base+4 EBX is the number of the virtual CPU; on other hypervisors the register does not tell CPUs apart."""
STABLE_MSRS = {0x3A, 0x8B, 0x10A, 0xCE, 0xFE, 0x87} | set(range(0x480, 0x494)) | {0xC0010010, 0xC0010114, 0xC0010131}
"""MSRs that do not change while the machine runs."""
MAXIMUM_DIFFERENCES = 256


def inconsistent_cpus(raw: Raw) -> list[dict[str, Any]]:
    """Every leaf and MSR with more than one value: {"what", "values": {"0-3": "…", "4": "…"}}."""
    differences = []
    for key in sorted({key for leaves in raw.cpuid.values() for key in leaves}):
        recorded = {cpu: leaves[key] for cpu, leaves in raw.cpuid.items() if key in leaves}
        if len(set(recorded.values())) == 1:
            continue
        values = {cpu: _masked(key[0], registers) for cpu, registers in recorded.items()}
        if len(set(values.values())) > 1:
            texts = {cpu: " ".join(f"{register:08x}" for register in registers) for cpu, registers in values.items()}
            differences.append(_difference(f"CPUID {key[0]:#x}.{key[1]:#x}", texts))
    for index in sorted({index for values in raw.msrs.values() for index in values} & STABLE_MSRS):
        readings = {cpu: values[index] for cpu, values in raw.msrs.items() if index in values}
        texts = {cpu: value.name if isinstance(value, Unread) else f"{value:#x}" for cpu, value in readings.items()}
        if len(set(texts.values())) > 1:
            differences.append(_difference(f"MSR {index:#x}", texts))
    return differences[:MAXIMUM_DIFFERENCES]


def _masked(leaf: int, registers: Registers) -> Registers:
    hidden = XEN_VIRTUAL_CPU if leaf & XEN_LEAF_MASK == XEN_LEAF else IDENTITIES.get(leaf, (0, 0, 0, 0))
    a, b, c, d = (registers[i] & ~hidden[i] & ALL for i in range(4))
    return a, b, c, d


def _difference(what: str, texts: Mapping[int, str]) -> dict[str, Any]:
    by_text: dict[str, list[int]] = {}
    for cpu, text in texts.items():
        by_text.setdefault(text, []).append(cpu)
    return {"what": what, "values": {cpu_list(cpus): text for text, cpus in by_text.items()}}


def cpu_list(cpus: list[int]) -> str:
    """[0, 1, 2, 3, 8] -> "0-3,8"."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
