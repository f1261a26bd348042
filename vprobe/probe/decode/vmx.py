"""VT-x: the feature control lock, the capability MSRs with every control and field, and the verdict.

Intel SDM vol. 3D, appendix A (capability MSRs) and vol. 3C, section 25.7 (enabling VMX).
"""

from __future__ import annotations

from collections.abc import Mapping

from vprobe.probe.decode.cpuid import Vendor
from vprobe.probe.decode.firmware import Lock, Technology, technology_state
from vprobe.probe.decode.flags import cpuinfo_fields, kernel_flags
from vprobe.probe.decode.subject import Subject, cleared_by, unread_remedy
from vprobe.probe.facts import Fact
from vprobe.probe.raw import NOT_RECORDED, NOTHING, Origin, Raw, Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


FEATURE_CONTROL = 0x3A
CAPABILITY_MSRS = range(0x480, 0x494)
BASIC, PROCBASED, EXIT, PROCBASED2 = 0x480, 0x482, 0x483, 0x48B
PRECONDITIONS: dict[int, tuple[tuple[int, tuple[int, ...]], ...]] = {
    0x48B: ((PROCBASED, (63,)),),
    0x48C: ((PROCBASED, (63,)), (PROCBASED2, (33, 37))),
    0x48D: ((BASIC, (55,)),),
    0x48E: ((BASIC, (55,)),),
    0x48F: ((BASIC, (55,)),),
    0x490: ((BASIC, (55,)),),
    0x491: ((PROCBASED, (63,)), (PROCBASED2, (45,))),
    0x492: ((PROCBASED, (49,)),),
    0x493: ((EXIT, (63,)),),
}
"""MSR -> all of (MSR, any of these bits set) must hold, or the MSR does not exist (SDM vol. 3D, A.3 to A.11)."""


class Capabilities(Record):
    """The capability MSRs decoded. Keys are "MSR_NAME.id"; unknown bits are set bits that have no name."""

    controls: dict[str, dict[str, bool]]
    fields: dict[str, int]
    unknown_bits: dict[str, list[int]]


class Vtx(Record):
    """The vtx object of the document."""

    fact: Fact
    source: str | None
    feature_control: dict[str, bool] | None
    capabilities: Capabilities
    kernel_flags: tuple[str, ...]  # the "vmx flags" line of /proc/cpuinfo

    def control(self, name: str, identifier: str) -> bool | None:
        """May the control be 1? Asked of the TRUE MSR first. None: its MSR was not read."""
        for key in (f"IA32_VMX_TRUE_{name}.{identifier}", f"IA32_VMX_{name}.{identifier}"):
            if key in self.capabilities.controls:
                return self.capabilities.controls[key]["may_be_1"]
        return None

    @property
    def ept(self) -> bool | None:
        """Extended page tables; None: neither MSR nor kernel flag was read."""
        value = self.control("PROCBASED_CTLS2", "ept")
        if value is None and "IA32_VMX_PROCBASED_CTLS.activate_secondary" in self.capabilities.controls:
            value = False
        return "ept" in self.kernel_flags if value is None and self.kernel_flags else value


def decode_vtx(subject: Subject) -> Vtx:
    """VT-x on this machine. Sources in order: the msr device, KVM's feature MSRs, the kernel's vmx flags."""
    raw = subject.raw
    values, source = _capability_values(raw)
    kernel = tuple(cpuinfo_fields(raw).get("vmx flags", "").split())
    feature_control = raw.msr(FEATURE_CONTROL)
    technology = Technology(
        name="VT-x",
        flag=subject.flag("vmx"),
        applies=_applies(subject),
        lock=_lock(raw, feature_control),
        keeper=subject.keeper,
        known_model=subject.known_model("vtx"),
        kvm_works=subject.kvm_works,
        witness=subject.witness,
        evidence=_evidence(subject, feature_control),
    )
    return Vtx(
        fact=technology_state(technology),
        source=source or ("cpuinfo" if kernel else None),
        feature_control=decode_feature_control(feature_control) if isinstance(feature_control, int) else None,
        capabilities=decode_capabilities(values),
        kernel_flags=kernel,
    )


def _applies(subject: Subject) -> bool:
    if subject.is_x86 is False:
        return False
    return subject.vendor not in {Vendor.AMD, Vendor.TRANSMETA}


def decode_feature_control(value: int) -> dict[str, bool]:
    """IA32_FEATURE_CONTROL's single-bit fields by id."""
    fields = table("vmx_controls")["feature_control"]["fields"]
    return {
        field["id"]: bool(value >> field["bits"][0] & 1) for field in fields if field["bits"][0] == field["bits"][1]
    }


def _lock(raw: Raw, value: int | Unread) -> Lock:
    """The verdict that follows from IA32_FEATURE_CONTROL."""
    if isinstance(value, Unread):
        why = "not recorded" if value.errno == 0 else f"MSR 0x3a: {value.name}"
        return Lock(None, why, unread_remedy(value, raw.effective_uid))
    bits = decode_feature_control(value)
    firmware = "enable VT-x in the firmware set-up, then switch the machine off and on"
    if not bits["lock"]:
        return Lock(True, "IA32_FEATURE_CONTROL is not locked: the kernel can enable VMX itself")
    if bits["vmx_outside_smx"]:
        return Lock(True, "IA32_FEATURE_CONTROL is locked with VMX enabled")
    if bits["vmx_in_smx"]:
        return Lock(False, "IA32_FEATURE_CONTROL is locked with VMX inside SMX only (a measured launch)", firmware)
    return Lock(False, "firmware locked IA32_FEATURE_CONTROL without VMX", firmware)


def _evidence(subject: Subject, feature_control: int | Unread) -> tuple[str, ...]:
    evidence = []
    if subject.cpuid.get(1):
        evidence.append(f"CPUID 0x1 ECX[5] = {int(subject.cpuid.has_vmx)}")
        kernel = kernel_flags(subject.raw)
        if kernel and subject.cpuid.has_vmx and "vmx" not in kernel:
            evidence.append(f"/proc/cpuinfo has no vmx flag: {cleared_by(subject, 'VMX')}")
    elif subject.cpu.flags:
        evidence.append(f"/proc/cpuinfo flag vmx = {int('vmx' in subject.cpu.flags)}")
    if isinstance(feature_control, int):
        evidence.append(f"MSR 0x3a = {feature_control:#x}")
    elif feature_control.errno:
        evidence.append(f"MSR 0x3a: {feature_control.name}")
    return tuple(evidence)


def _capability_values(raw: Raw) -> tuple[dict[int, int], str | None]:
    """The capability MSRs of the best source, and its name in the document."""
    found = {index: value for index in CAPABILITY_MSRS if isinstance(value := raw.msr(index), int)}
    if any(found.values()):
        return found, "capture" if raw.origin in {Origin.AIDA_TEXT, Origin.CPUID_TEXT} else "msr"
    offered = raw.kvm.feature_msrs if raw.kvm else NOTHING
    found = {index: value for index in CAPABILITY_MSRS if isinstance(value := offered.get(index, NOT_RECORDED), int)}
    return (found, "kvm") if found else ({}, None)


def decode_capabilities(values: Mapping[int, int]) -> Capabilities:
    """Every control and field of the MSRs whose preconditions hold."""
    result = Capabilities({}, {}, {})
    if not values:
        return result
    rows = {int(row["msr"], 16): row for row in table("vmx_controls")["msrs"]}
    for index, row in rows.items():
        if index in values and _exists(index, values):
            shape = rows[int(row["of"], 16)] | {"name": row["name"]} if "of" in row else row
            _DECODERS[shape["kind"]](shape, values[index], result)
    return result


def _exists(index: int, values: Mapping[int, int]) -> bool:
    return all(
        condition not in values or any(values[condition] >> bit & 1 for bit in bits)
        for condition, bits in PRECONDITIONS.get(index, ())
    )


def _decode_fields(row: dict[str, Any], value: int, result: Capabilities) -> None:
    named = 0
    for field in row["fields"]:
        low, high = field["bits"]
        mask = (1 << high - low + 1) - 1
        if not field["id"].startswith("reserved_"):
            result.fields[f"{row['name']}.{field['id']}"] = value >> low & mask
            named |= mask << low
    _note_unknown(row["name"], value & ~named, result)


def _decode_pair(row: dict[str, Any], value: int, result: Capabilities) -> None:
    """Low half: bits that must be 1. High half: bits that may be 1 (SDM vol. 3D, A.3.1)."""
    must, may = value & 0xFFFFFFFF, value >> 32
    named = sum(1 << bit for bit in row.get("default1_bits", ()))
    for control in row["controls"]:
        bit = control["bit"]
        if not control["id"].startswith("reserved_"):
            named |= 1 << bit
            key = f"{row['name']}.{control['id']}"
            result.controls[key] = {"may_be_1": bool(may >> bit & 1), "must_be_1": bool(must >> bit & 1)}
    _note_unknown(row["name"], (must | may) & ~named, result)


def _decode_allowed(row: dict[str, Any], value: int, result: Capabilities) -> None:
    """A plain mask of 64 controls that may be 1; none must be."""
    named = 0
    for control in row["controls"]:
        named |= 1 << control["bit"]
        key = f"{row['name']}.{control['id']}"
        result.controls[key] = {"may_be_1": bool(value >> control["bit"] & 1), "must_be_1": False}
    _note_unknown(row["name"], value & ~named, result)


def _decode_fixed(row: dict[str, Any], value: int, result: Capabilities) -> None:
    """Bits of CR0 or CR4 that are fixed in VMX operation: the mask as it is."""
    result.fields[f"{row['name']}.value"] = value


def _note_unknown(name: str, bits: int, result: Capabilities) -> None:
    if bits:
        result.unknown_bits[name] = [bit for bit in range(64) if bits >> bit & 1]


_DECODERS = {
    "fields": _decode_fields,
    "allowed_pair": _decode_pair,
    "allowed1_64": _decode_allowed,
    "fixed0": _decode_fixed,
    "fixed1": _decode_fixed,
}
