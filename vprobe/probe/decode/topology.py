"""How the logical CPUs hang together: packages, cores, threads, and the kinds of core of a hybrid processor."""

from __future__ import annotations

from vprobe.probe.decode.cpuid import EAX, EBX, ECX, EDX, Cpuid, Vendor
from vprobe.probe.decode.flags import cpuinfo_processors
from vprobe.probe.raw import Raw
from vprobe.probe.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


HYBRID_KINDS = {0x20: "efficiency", 0x40: "performance"}
"""Leaf 0x1A EAX[31:24]: 0x20 Intel Atom, 0x40 Intel Core (SDM vol. 2A)."""
AMD_HYBRID_KINDS = {0: "performance", 1: "efficiency"}
HETEROGENEOUS_CORES = 30
"""Bit of leaf 0x80000026 EAX at the level of cores."""
THREAD_LEVEL = 1
MAXIMUM_LEVELS = 8


class Shifts(Record):
    """How many low bits of the APIC id number the threads of a core, and the threads of a package."""

    core: int
    package: int


def decode_topology(raw: Raw, cpuid: Cpuid) -> dict[str, Any]:
    """Counts by APIC ids where every CPU's CPUID was recorded; the kernel's where it was not."""
    if not cpuid:
        return _kernel_topology(raw)
    shifts = _shifts(cpuid)
    apic_ids = {number: _apic_id(Cpuid(leaves)) for number, leaves in raw.cpuid.items()}
    topology: dict[str, Any] = {
        "threads_per_package": 1 << shifts.package if shifts.package < 16 else None,
        "apic_id_bits": {"thread": shifts.core, "package": shifts.package},
    }
    if None not in apic_ids.values() and len(set(apic_ids.values())) == len(apic_ids):
        ids = [number for number in apic_ids.values() if number is not None]
        cores = {number >> shifts.core for number in ids}
        topology |= {
            "packages": len({number >> shifts.package for number in ids}),
            "cores": len(cores),
            "threads": len(ids),
            "threads_per_core": max(sum(number >> shifts.core == core for number in ids) for core in cores),
        }
    kinds = _core_kinds(raw)
    return topology | ({"core_kinds": kinds} if kinds else {})


def _shifts(cpuid: Cpuid) -> Shifts:
    for leaf in (0x80000026, 0x1F, 0xB):
        levels = _level_shifts(cpuid, leaf)
        if levels:
            return Shifts(levels.get(THREAD_LEVEL, 0), max(levels.values()))
    if cpuid.vendor is Vendor.AMD:
        return _amd_shifts(cpuid)
    logical = cpuid.register(1, EBX) >> 16 & 0xFF if cpuid.bit(1, EDX, 28) else 1
    cores = (cpuid.register(4, EAX) >> 26) + 1
    package = max(logical - 1, 0).bit_length()
    return Shifts(max(package - (cores - 1).bit_length(), 0), package)


def _level_shifts(cpuid: Cpuid, leaf: int) -> dict[int, int]:
    """Level type -> shift to the next level's id, of the extended topology leaves (V2: 0x1F, 0x80000026)."""
    shifts: dict[int, int] = {}
    for subleaf in range(MAXIMUM_LEVELS):
        eax, ebx, ecx, _ = cpuid.get(leaf, subleaf) or (0, 0, 0, 0)
        kind = ecx >> 8 & 0xFF
        if kind == 0 or ebx & 0xFFFF == 0:
            break
        shifts[kind] = eax & 0x1F
    return shifts


def _amd_shifts(cpuid: Cpuid) -> Shifts:
    """0x80000008:ECX, and the threads of a core where 0x8000001E tells (APM vol. 3, appendix E.5)."""
    ecx = cpuid.register(0x80000008, ECX)
    package = ecx >> 12 & 0xF or (ecx & 0xFF).bit_length()
    if not ecx and cpuid.bit(1, EDX, 28):
        package = max((cpuid.register(1, EBX) >> 16 & 0xFF) - 1, 0).bit_length()
    family = cpuid.signature[0]
    threads = (cpuid.register(0x8000001E, EBX) >> 8 & 0xFF) + 1 if family >= 0x17 else 1
    return Shifts((threads - 1).bit_length(), package)


def _apic_id(cpuid: Cpuid) -> int | None:
    """The x2APIC id where leaf 0xB is in use, else the initial APIC id of leaf 1."""
    if cpuid.register(0xB, EBX) & 0xFFFF:
        return cpuid.register(0xB, EDX)
    return cpuid.register(1, EBX) >> 24 if cpuid.get(1) else None


def _core_kinds(raw: Raw) -> dict[str, int]:
    """Logical CPUs by kind of core, where the processor is a hybrid one."""
    kinds: dict[str, int] = {}
    for leaves in raw.cpuid.values():
        name = _core_kind(Cpuid(leaves))
        if name:
            kinds[name] = kinds.get(name, 0) + 1
    return kinds


def _core_kind(cpuid: Cpuid) -> str:
    """Intel's leaf 0x1A; on AMD's unlike cores leaf 0x80000026 EBX[31:28] (APM vol. 3, appendix E.4.23). "" for others."""
    if cpuid.vendor is Vendor.AMD:
        unlike = cpuid.register(0x80000026, EAX) >> HETEROGENEOUS_CORES & 1
        code = cpuid.register(0x80000026, EBX) >> 28
        return AMD_HYBRID_KINDS.get(code, f"{code:#x}") if unlike else ""
    code = cpuid.register(0x1A, EAX) >> 24
    return HYBRID_KINDS.get(code, f"{code:#x}") if code else ""


def _kernel_topology(raw: Raw) -> dict[str, Any]:
    """Packages, cores and threads by the fields of /proc/cpuinfo."""
    text = raw.text("/proc/cpuinfo") or ""
    threads = len(cpuinfo_processors(raw))
    # s390 tells of packages and cores in blocks of their own, after its processors.
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]
    packages = {value for name, value in fields if name == "physical id"}
    if not packages or not threads:
        return {"threads": threads} if threads else {}
    cores = _kernel_cores(fields)
    return {
        "packages": len(packages),
        "cores": len(cores),
        "threads": threads,
        "threads_per_core": -(-threads // len(cores)),
    }


def _kernel_cores(fields: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """(package, core) of every processor, in whichever order the two are told."""
    cores: set[tuple[str, str]] = set()
    own: dict[str, str] = {}
    for name, value in (*fields, ("processor", "")):
        if name in {"processor", "cpu number"}:
            if "physical id" in own:
                cores.add((own["physical id"], own.get("core id", "")))
            own = {}
        elif name in {"physical id", "core id"}:
            own.setdefault(name, value)
    return cores
