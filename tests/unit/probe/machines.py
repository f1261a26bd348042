"""Small machines for the tests: leaves, MSRs and files as a source would have read them."""

from __future__ import annotations

from collections.abc import Mapping

from vprobe.probe.raw import Leaves, Origin, Raw, Registers, Unread
from vprobe.probe.report import HostReport, decode

INTEL, AMD, HYGON, CENTAUR, SHANGHAI = "GenuineIntel", "AuthenticAMD", "HygonGenuine", "CentaurHauls", "  Shanghai  "
VMX, HYPERVISOR, SVM = 1 << 5, 1 << 31, 1 << 2
SKYLAKE, CORE2, HASWELL, SAPPHIRE_RAPIDS = 0x506E3, 0x6F6, 0x306C3, 0x806F8
ZEN3, K8 = 0xA00F11, 0x60FB1
EDX1 = 0x178BFBFF  # what every 64-bit processor has, hyper-threading flag included

INITIAL_NAMESPACES = {
    "/proc/self/ns/ipc": "ipc:[4026531839]",
    "/proc/self/ns/uts": "uts:[4026531838]",
    "/proc/self/ns/user": "user:[4026531837]",
    "/proc/self/ns/pid": "pid:[4026531836]",
    "/proc/self/ns/cgroup": "cgroup:[4026531835]",
}
PRIVATE_NAMESPACES = {path: target.replace("40265318", "40265325") for path, target in INITIAL_NAMESPACES.items()}


def word(text: str) -> int:
    """Four letters as a register holds them."""
    return int.from_bytes(text.encode("latin-1"), "little")


def vendor_leaf(vendor: str, maximum: int) -> Registers:
    """Leaf 0, or 0x80000000 of AMD: EBX, EDX, ECX spell the maker."""
    return maximum, word(vendor[:4]), word(vendor[8:]), word(vendor[4:8])


def signature_leaf(text: str, maximum: int) -> Registers:
    """A hypervisor's leaf: EBX, ECX, EDX spell the signature."""
    padded = text.ljust(12, "\0")
    return maximum, word(padded[:4]), word(padded[4:8]), word(padded[8:])


def leaves(
    vendor: str = INTEL,
    signature: int = SKYLAKE,
    ecx: int = 0,
    extended_ecx: int = 0,
    more: Mapping[tuple[int, int], Registers] | None = None,
    maximum: int = 0x16,
    extended: int = 0x80000008,
) -> Leaves:
    """CPUID of one CPU: identification, features, and whatever `more` adds."""
    found = {
        (0, 0): vendor_leaf(vendor, maximum),
        (1, 0): (signature, 0x00010800, ecx, EDX1),
        **({(7, 0): (0, 0, 0, 0)} if maximum >= 7 else {}),
        (0x80000000, 0): (extended, 0, 0, 0),
        (0x80000001, 0): (signature, 0, extended_ecx, 0x2C100800),
        **(more or {}),
    }
    return dict(sorted(found.items()))


def machine(
    cpuid: Leaves | None = None,
    msrs: Mapping[int, int | Unread] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    origin: Origin = Origin.LIVE,
    **fields: object,
) -> Raw:
    """A Raw of one CPU. Files are text or bytes; directories, links and the rest by keyword."""
    return Raw(
        origin=origin,
        cpuid={0: cpuid} if cpuid else {},
        msrs={0: dict(msrs)} if msrs else {},
        files={path: text.encode() if isinstance(text, str) else text for path, text in (files or {}).items()},
        **fields,
    )


def report(*arguments: object, **fields: object) -> HostReport:
    """The facts of machine(…)."""
    return decode(machine(*arguments, **fields))  # type: ignore[arg-type]


def aida_text(cpus: Mapping[int, Leaves], msrs: Mapping[int, int | Unread] | None = None) -> str:
    """A dump as AIDA64 writes it."""
    lines = []
    for cpu, own in cpus.items():
        lines += [
            f"------[ CPUID Registers / Logical CPU #{cpu} ]------",
            "",
            f"allcpu: Package 0 / Core {cpu}: Valid",
            "",
        ]
        for (leaf, subleaf), registers in own.items():
            mark = f" [SL {subleaf:02X}]" if subleaf or leaf in {4, 0xB, 0xD} else ""
            lines.append(f"CPUID {leaf:08X}: " + "-".join(f"{value:08X}" for value in registers) + mark)
        lines.append("")
    if msrs:
        lines += ["------[ MSR Registers / Logical CPU #0 ]------", ""]
        for index, value in msrs.items():
            text = (
                "< FAILED >"
                if isinstance(value, Unread)
                else "-".join(f"{value:016X}"[at : at + 4] for at in range(0, 16, 4))
            )
            lines.append(f"MSR {index:08X}: {text}")
    return "\n".join(lines) + "\n"
