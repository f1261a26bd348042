"""Who the processor is: names, numbers, flags, caches, topology, microcode."""

from __future__ import annotations

from vprobe.probe.decode.caches import Cache, decode_caches
from vprobe.probe.decode.cpuid import EAX, Cpuid, Vendor
from vprobe.probe.decode.flags import cpuid_flags, cpuinfo_fields, cpuinfo_processors, kernel_flags
from vprobe.probe.decode.topology import decode_topology
from vprobe.probe.raw import Raw
from vprobe.probe.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Cpu(Record):
    """The cpu object of the document. None: not known."""

    architecture: str | None
    vendor: str | None
    brand: str | None
    family: int | None
    model: int | None
    stepping: int | None
    logical_cpus: int | None
    microcode: str | None
    flags: tuple[str, ...]
    caches: tuple[Cache, ...]
    topology: dict[str, Any]
    physical_bits: int | None
    virtual_bits: int | None


VENDOR_FIELDS = ("vendor_id", "vendor", "CPU implementer")
"""Who made the processor: x86 and s390, Itanium, Arm."""


def decode_cpu(raw: Raw) -> Cpu:
    """CPUID where it was recorded; else what /proc/cpuinfo says."""
    cpuid = Cpuid(raw.leaves)
    fields = cpuinfo_fields(raw)
    flags = cpuid_flags(cpuid) if cpuid else kernel_flags(raw)
    family, model, stepping = _signature(cpuid, fields)
    physical, virtual = _address_bits(cpuid, flags, fields)
    return Cpu(
        architecture=_architecture(raw, cpuid, flags, fields),
        vendor=cpuid.vendor_text or next((fields[name] for name in VENDOR_FIELDS if fields.get(name)), None),
        brand=cpuid.brand or _brand(fields),
        family=family,
        model=model,
        stepping=stepping,
        logical_cpus=_logical_cpus(raw),
        microcode=_microcode(raw, cpuid, fields),
        flags=flags,
        caches=decode_caches(raw, cpuid),
        topology=decode_topology(raw, cpuid),
        physical_bits=physical,
        virtual_bits=virtual,
    )


def _architecture(raw: Raw, cpuid: Cpuid, flags: tuple[str, ...], fields: dict[str, str]) -> str | None:
    if raw.machine:
        return raw.machine
    if cpuid or ("vendor_id" in fields and "cpu family" in fields) or fields.get("vendor_id") == "User Mode Linux":
        return "x86_64" if "lm" in flags else "i686"
    if "CPU implementer" in fields:
        return "aarch64" if fields.get("CPU architecture") in {"8", "AArch64"} else "arm"
    vendor = fields.get("vendor_id", "")
    if vendor.startswith("IBM/S390"):
        return "s390x"
    if "cpu" in fields and ("POWER" in fields["cpu"] or "PPC" in fields["cpu"]):
        return "ppc64"
    rows = ((name, fields.get(field), prefix) for name, field, prefix in ARCHITECTURE_FIELDS)
    return next((name for name, value, prefix in rows if value is not None and value.startswith(prefix)), None)


ARCHITECTURE_FIELDS = (
    ("riscv64", "isa", "rv64"),
    ("riscv32", "isa", "rv32"),
    ("ia64", "archrev", ""),
    ("sparc64", "ncpus probed", ""),
    ("sparc64", "Cpu0ClkTck", ""),
    ("loongarch64", "CPU Family", "Loongson"),
    ("alpha", "cpu", "Alpha"),
    ("mips", "system type", ""),
    ("parisc", "PDC version", ""),
    ("ppc", "timebase", ""),
)
"""Architecture, a field of its /proc/cpuinfo, and how the value begins; the first row that fits decides."""


def _brand(fields: dict[str, str]) -> str | None:
    name = fields.get("model name") or fields.get("Model Name") or fields.get("cpu model") or fields.get("uarch")
    return name or fields.get("cpu") or fields.get("Processor") or (fields.get("family") if "arch" in fields else None)


def _signature(cpuid: Cpuid, fields: dict[str, str]) -> tuple[int | None, int | None, int | None]:
    if cpuid.get(1):
        return cpuid.signature
    family, model, stepping = (_number(fields.get(name)) for name in ("cpu family", "model", "stepping"))
    return family, model, stepping


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _logical_cpus(raw: Raw) -> int | None:
    if raw.cpu_count is not None:
        return raw.cpu_count
    online = cpuinfo_fields(raw).get("ncpus active")  # SPARC lists its processors otherwise
    return len(cpuinfo_processors(raw)) or _number(online)


def _microcode(raw: Raw, cpuid: Cpuid, fields: dict[str, str]) -> str | None:
    """The kernel's word, else MSR 0x8B: Intel keeps the revision in the upper half, AMD in the lower."""
    if fields.get("microcode"):
        return fields["microcode"]
    value = raw.msr(0x8B)
    if not isinstance(value, int):
        return raw.text("/sys/devices/system/cpu/cpu0/microcode/version") or None
    revision = value & 0xFFFFFFFF if cpuid.vendor is Vendor.AMD else value >> 32
    return f"{revision:#x}" if revision else None


def _address_bits(cpuid: Cpuid, flags: tuple[str, ...], fields: dict[str, str]) -> tuple[int | None, int | None]:
    eax = cpuid.register(0x80000008, EAX)
    if eax & 0xFF:
        return eax & 0xFF, eax >> 8 & 0xFF
    words = fields.get("address sizes", "").split()
    if len(words) >= 5 and words[0].isdigit() and words[3].isdigit():
        return int(words[0]), int(words[3])
    if not cpuid:
        return None, None
    return 36 if "pae" in flags or "pse36" in flags else 32, 48 if "lm" in flags else 32
