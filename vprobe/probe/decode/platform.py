"""IOMMU and mitigations: what firmware describes and the kernel says about it, in the kernel's own words."""

from __future__ import annotations

from vprobe.probe.facts import Fact
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.states import State

ACPI = "/sys/firmware/acpi/tables"
TABLES = {"DMAR": "vtd", "IVRS": "amdvi"}
"""ACPI tables that describe an IOMMU: Intel VT-d specification, chapter 8; AMD I/O virtualization specification, chapter 5."""
UNITS = {"dmar": "vtd", "ivhd": "amdvi"}
VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities"


class Iommu(Record):
    """The iommu object of the document."""

    fact: Fact
    kind: str | None
    groups: int


def decode_iommu(raw: Raw) -> Iommu:
    """Present: the kernel uses one. Disabled: firmware describes one that the kernel does not use."""
    units = raw.listing("/sys/class/iommu")
    groups = len(raw.listing("/sys/kernel/iommu_groups"))
    described = next((name for name in TABLES if name in raw.listing(ACPI)), None)
    kind = next((kind for unit in units for prefix, kind in UNITS.items() if unit.startswith(prefix)), None)
    kind = kind or TABLES.get(described or "")
    evidence = _evidence(units, groups, described)
    if units or groups:
        return Iommu(Fact(State.PRESENT, "", "", evidence), kind, groups)
    if described:
        option = "intel_iommu=on" if kind == "vtd" else "amd_iommu=on"
        reason = f"firmware describes one (ACPI {described}), but the kernel does not use it"
        return Iommu(Fact(State.DISABLED, reason, f"boot with {option}", evidence), kind, groups)
    if isinstance(raw.directories.get(ACPI), tuple):
        reason = "firmware describes none (no ACPI DMAR or IVRS): there is none, or the firmware set-up turned it off"
        return Iommu(Fact(State.ABSENT, reason, "", evidence), None, groups)
    return Iommu(Fact(State.UNKNOWN, "neither ACPI tables nor IOMMU units were recorded", "", evidence), None, groups)


def _evidence(units: tuple[str, ...], groups: int, described: str | None) -> tuple[str, ...]:
    evidence = []
    if described:
        evidence.append(f"ACPI {described}")
    if units:
        evidence.append("/sys/class/iommu: " + ", ".join(unit[:20] for unit in units[:8]))
    if groups:
        evidence.append(f"/sys/kernel/iommu_groups: {groups} groups")
    return tuple(evidence)


def decode_mitigations(raw: Raw) -> dict[str, str]:
    """Vulnerability -> the kernel's text; an unreadable one says why."""
    texts: dict[str, str] = {}
    for name in raw.listing(VULNERABILITIES):
        content = raw.read(f"{VULNERABILITIES}/{name}")
        texts[name] = (
            f"unknown ({content.name})" if isinstance(content, Unread) else content.decode("utf-8", "replace").strip()
        )
    return texts
