"""Caches: sizes in bytes, by the leaves of each maker, or by what the kernel says where there is no CPUID.

Intel and Zhaoxin: leaf 4, else the descriptors of leaf 2 (Intel SDM vol. 2A). AMD: leaf 0x8000001D, else 0x80000005 and
0x80000006 (AMD APM vol. 3, appendix E.4).
"""

from __future__ import annotations

from vprobe.probe.decode.cpuid import EAX, ECX, Cpuid, Vendor
from vprobe.probe.raw import Raw, Registers
from vprobe.probe.record import Record
from vprobe.probe.tables import table

TYPES = {1: "data", 2: "instruction", 3: "unified"}
TOPOLOGY_EXTENSIONS = 22
"""CPUID.80000001H:ECX: the leaves 0x8000001D and 0x8000001E are there."""
MAXIMUM_SUBLEAVES = 16
AMD_WAYS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 16, 10: 32, 11: 48, 12: 64, 13: 96, 14: 128}
"""Associativity codes of 0x80000006; 15 is fully associative, 9 points to 0x8000001D."""


class Cache(Record):
    """One cache. None: the source does not tell. `shared_by` counts the logical CPUs that the hardware may share it among."""

    level: int
    type: str  # data, instruction, unified
    size_bytes: int
    ways: int | None = None
    line_bytes: int | None = None
    sets: int | None = None
    shared_by: int | None = None


def decode_caches(raw: Raw, cpuid: Cpuid) -> tuple[Cache, ...]:
    """The caches that the first CPU sees, by level."""
    if not cpuid:
        return _kernel_caches(raw)
    caches: tuple[Cache, ...] = ()
    if cpuid.vendor is not Vendor.AMD:
        caches = _parameter_caches(cpuid, 4)
    elif cpuid.bit(0x80000001, ECX, TOPOLOGY_EXTENSIONS):
        caches = _parameter_caches(cpuid, 0x8000001D)
    caches = caches or _extended_caches(cpuid) or _descriptor_caches(cpuid)
    return tuple(sorted(caches, key=lambda cache: (cache.level, cache.type)))


def _parameter_caches(cpuid: Cpuid, leaf: int) -> tuple[Cache, ...]:
    """Deterministic cache parameters: one subleaf a cache, until a type of 0."""
    caches = []
    for subleaf in range(MAXIMUM_SUBLEAVES):
        registers = cpuid.get(leaf, subleaf)
        if registers is None or registers[EAX] & 0x1F not in TYPES:
            break
        caches.append(_parameter_cache(registers))
    return tuple(caches)


def _parameter_cache(registers: Registers) -> Cache:
    eax, ebx, ecx, _ = registers
    ways, partitions, line, sets = (ebx >> 22) + 1, (ebx >> 12 & 0x3FF) + 1, (ebx & 0xFFF) + 1, ecx + 1
    return Cache(
        level=eax >> 5 & 7,
        type=TYPES[eax & 0x1F],
        size_bytes=ways * partitions * line * sets,
        ways=ways,
        line_bytes=line,
        sets=sets,
        shared_by=(eax >> 14 & 0xFFF) + 1,
    )


def _extended_caches(cpuid: Cpuid) -> tuple[Cache, ...]:
    """0x80000005 (L1) and 0x80000006 (L2; L3 in units of 512 KiB on AMD). Intel fills in the L2 alone."""
    _, _, data, instruction = cpuid.get(0x80000005) or (0, 0, 0, 0)
    _, _, second, third = cpuid.get(0x80000006) or (0, 0, 0, 0)
    rows = [
        (1, "data", (data >> 24) * 1024, data >> 16 & 0xFF, data & 0xFF),
        (1, "instruction", (instruction >> 24) * 1024, instruction >> 16 & 0xFF, instruction & 0xFF),
        (2, "unified", _second_level_kib(cpuid, second) * 1024, AMD_WAYS.get(second >> 12 & 0xF), second & 0xFF),
    ]
    if cpuid.vendor is Vendor.AMD:
        rows.append((3, "unified", (third >> 18) * 512 * 1024, AMD_WAYS.get(third >> 12 & 0xF), third & 0xFF))
    elif not data:
        return ()
    return tuple(
        Cache(level, kind, size, ways if ways != 0xFF else None, line or None)
        for level, kind, size, ways, line in rows
        if size
    )


def _second_level_kib(cpuid: Cpuid, register: int) -> int:
    """VIA's C3 of models 7 and 8 give the size one byte further up than all others do (Linux, cpu/centaur.c)."""
    family, model, _ = cpuid.signature
    shifted = cpuid.vendor is Vendor.CENTAUR and family == 6 and model in {7, 8}
    return register >> 24 if shifted else register >> 16


def _descriptor_caches(cpuid: Cpuid) -> tuple[Cache, ...]:
    """Leaf 2: one descriptor a byte; a register with bit 31 set holds none, and AL is the number of calls."""
    registers = cpuid.get(2)
    if registers is None:
        return ()
    rows = {int(row["descriptor"], 16): row for row in table("cache_descriptors")["descriptors"]}
    found: dict[tuple[int, str], Cache] = {}
    for position, register in enumerate(registers):
        if register >> 31:
            continue
        for descriptor in register.to_bytes(4, "little")[1 if position == 0 else 0 :]:
            row = rows.get(descriptor)
            if row is not None:
                cache = Cache(row["level"], row["type"], row["size_kib"] * 1024, row["ways"], row["line_bytes"])
                found.setdefault((cache.level, cache.type), cache)
    return tuple(found.values())


def _kernel_caches(raw: Raw) -> tuple[Cache, ...]:
    """/sys/devices/system/cpu/cpu0/cache/indexN."""
    caches = []
    for index in range(8):
        base = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        level, kind, size = (raw.text(f"{base}/{name}") for name in ("level", "type", "size"))
        if level is None or size is None or not level.isdigit():
            continue
        caches.append(
            Cache(
                level=int(level),
                type=(kind or "unified").lower(),
                size_bytes=_size_bytes(size),
                ways=_optional_number(raw.text(f"{base}/ways_of_associativity")),
                line_bytes=_optional_number(raw.text(f"{base}/coherency_line_size")),
                sets=_optional_number(raw.text(f"{base}/number_of_sets")),
                shared_by=_count(raw.text(f"{base}/shared_cpu_list")),
            )
        )
    return tuple(caches)


def _size_bytes(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    factor = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(unit)
    if factor is None:
        number, factor = text, 1
    return int(number) * factor if number.isascii() and number.isdigit() else 0


def _optional_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and int(text) else None


def _count(text: str | None) -> int | None:
    """Number of CPUs in a list such as "0-3,8"."""
    total = 0
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            return None
        total += int(last or first) - int(first) + 1
    return total or None
