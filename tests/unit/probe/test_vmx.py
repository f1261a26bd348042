"""VT-x controls, fields and unknown bits, and AMD's feature leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vprobe.probe.decode.vmx import decode_capabilities
from vprobe.probe.raw import KvmRaw, Origin
from vprobe.probe.tables import table

from .machines import AMD, INTEL, SKYLAKE, SVM, VMX, ZEN3, leaves, report

BASIC, PIN, PROC, EXIT, ENTRY, MISC, PROC2, EPT = 0x480, 0x481, 0x482, 0x483, 0x484, 0x485, 0x48B, 0x48C
VMFUNC, PROC3, EXIT2 = 0x491, 0x492, 0x493


def pair(must: int, may: int) -> int:
    """A capability MSR: low half must be 1, high half may be 1."""
    return may << 32 | must


def test_controls_are_pairs_of_may_and_must() -> None:
    """may_be_1 comes from the high half and must_be_1 from the low one, bit by bit."""
    found = decode_capabilities({PIN: pair(0x16 | 1 << 3, 0x16 | 1 << 3 | 1 << 5)}).controls
    assert found["IA32_VMX_PINBASED_CTLS.nmi_exit"] == {"may_be_1": True, "must_be_1": True}
    assert found["IA32_VMX_PINBASED_CTLS.virtual_nmis"] == {"may_be_1": True, "must_be_1": False}
    assert found["IA32_VMX_PINBASED_CTLS.posted_interrupts"] == {"may_be_1": False, "must_be_1": False}


def test_the_true_msrs_use_the_controls_of_the_plain_ones() -> None:
    """IA32_VMX_TRUE_PROCBASED_CTLS reports the same ids under its own name, where IA32_VMX_BASIC[55] allows it."""
    true_proc = pair(0x04006172, 0xFFF9FFFE)
    found = decode_capabilities({BASIC: 1 << 55, 0x48E: true_proc}).controls
    assert found["IA32_VMX_TRUE_PROCBASED_CTLS.cr3_load_exit"] == {"may_be_1": True, "must_be_1": False}
    assert not any(
        name.startswith("IA32_VMX_TRUE") for name in decode_capabilities({BASIC: 0, 0x48E: true_proc}).controls
    )


@pytest.mark.parametrize(
    ("index", "name", "without", "with_"),
    [
        (PROC2, "IA32_VMX_PROCBASED_CTLS2", {PROC: 0}, {PROC: 1 << 63}),
        (VMFUNC, "IA32_VMX_VMFUNC", {PROC: 1 << 63, PROC2: 0}, {PROC: 1 << 63, PROC2: 1 << 45}),
        (PROC3, "IA32_VMX_PROCBASED_CTLS3", {PROC: 1 << 63}, {PROC: 1 << 49}),
        (EXIT2, "IA32_VMX_EXIT_CTLS2", {EXIT: 0}, {EXIT: 1 << 63}),
    ],
)
def test_an_msr_is_decoded_only_where_its_precondition_holds(
    index: int, name: str, without: dict[int, int], with_: dict[int, int]
) -> None:
    """The value of an MSR that does not exist means nothing, whoever recorded it."""
    value = 0x3F
    assert not any(key.startswith(f"{name}.") for key in decode_capabilities({**without, index: value}).controls)
    assert any(key.startswith(f"{name}.") for key in decode_capabilities({**with_, index: value}).controls)


def test_ept_capabilities_need_ept_or_vpid() -> None:
    """0x48C exists where the secondary controls allow EPT or VPID, either of them."""
    for bit in (33, 37):
        assert (
            decode_capabilities({PROC: 1 << 63, PROC2: 1 << bit, EPT: 1 << 17}).fields["IA32_VMX_EPT_VPID_CAP.ept_1g"]
            == 1
        )
    assert not decode_capabilities({PROC: 1 << 63, PROC2: 0, EPT: 1 << 17}).fields


def test_the_youngest_msrs_are_masks_not_pairs() -> None:
    """0x491 to 0x493 hold 64 controls that may be 1: bit 4 of 0x492 is IPI virtualization, and none must be 1."""
    found = decode_capabilities({PROC: 1 << 49, PROC3: 1 << 4 | 1 << 40})
    assert found.controls["IA32_VMX_PROCBASED_CTLS3.ipi_virtualization"] == {"may_be_1": True, "must_be_1": False}
    assert found.controls["IA32_VMX_PROCBASED_CTLS3.hlat"]["may_be_1"] is False
    assert found.unknown_bits == {"IA32_VMX_PROCBASED_CTLS3": [40]}


def test_fields_are_numbers() -> None:
    """Multi-bit fields come as the number that the bits spell."""
    value = 4 | 0x1000 << 32 | 6 << 50 | 1 << 55
    found = decode_capabilities({BASIC: value, MISC: 5 | 4 << 16}).fields
    assert found["IA32_VMX_BASIC.revision"] == 4
    assert found["IA32_VMX_BASIC.region_size"] == 4096
    assert found["IA32_VMX_BASIC.memory_type"] == 6
    assert found["IA32_VMX_MISC.preemption_timer_shift"] == 5
    assert found["IA32_VMX_MISC.cr3_target_count"] == 4


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ({BASIC: 1 << 57}, {"IA32_VMX_BASIC": [57]}),
        ({MISC: 1 << 9}, {"IA32_VMX_MISC": [9]}),
        ({PROC: 1 << 63, PROC2: 1 << 61}, {"IA32_VMX_PROCBASED_CTLS2": [29]}),
        ({PIN: pair(0x16, 0x16 | 1 << 30)}, {"IA32_VMX_PINBASED_CTLS": [30]}),
        ({PIN: pair(0x16, 0x7F)}, {}),
    ],
)
def test_set_bits_without_a_name_are_unknown_not_dropped(values: dict[int, int], unknown: dict[str, list[int]]) -> None:
    """Bits seen on real processors that no manual names; the default1 bits are no news."""
    assert decode_capabilities(values).unknown_bits == unknown


def test_sources_in_order() -> None:
    """The msr device before KVM's feature MSRs before the kernel's line, and a dump is a capture."""
    cpuid, msrs = leaves(INTEL, SKYLAKE, VMX), {BASIC: 4, PIN: pair(0x16, 0x7F)}
    kvm = KvmRaw(opened=0, api_version=12, create_vm=0, feature_msrs={BASIC: 5, PIN: pair(0x16, 0x3F)})
    cpuinfo = {"/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vmx\nvmx flags\t: vnmi ept vpid\n"}
    assert report(cpuid, msrs, cpuinfo, kvm=kvm).vtx.source == "msr"
    assert report(cpuid, {}, cpuinfo, kvm=kvm).vtx.source == "kvm"
    assert report(cpuid, {}, cpuinfo).vtx.source == "cpuinfo"
    assert report(cpuid, {}, cpuinfo).vtx.ept is True
    assert report(cpuid, msrs, origin=Origin.AIDA_TEXT).vtx.source == "capture"
    assert report(cpuid).vtx.source is None
    assert report(cpuid).vtx.ept is None


def test_every_row_of_the_vmx_table_reaches_the_document() -> None:
    """With every MSR recorded and every bit allowed, every id of the table is a control or a field."""
    values = {int(row["msr"], 16): 0xFFFFFFFFFFFFFFFF for row in table("vmx_controls")["msrs"]}
    found = decode_capabilities(values)
    for row in table("vmx_controls")["msrs"]:
        for control in row.get("controls", ()):
            assert f"{row['name']}.{control['id']}" in found.controls
        for field in row.get("fields", ()):
            assert f"{row['name']}.{field['id']}" in found.fields


def test_svm_features_revision_and_asids() -> None:
    """EAX, EBX and every named bit of ECX and EDX; a set bit without a name is unknown."""
    leaf = {(0x8000000A, 0): (1, 32768, 1 << 6, 1 | 1 << 11 | 1 << 25)}
    found = report(leaves(AMD, ZEN3, 0, SVM, leaf, extended=0x80000021)).amdv
    assert (found.revision, found.asids) == (1, 32768)
    assert found.features["npt"] is True
    assert found.features["vnmi"] is True
    assert found.features["avic"] is False
    assert found.features["x2avic_ext"] is True
    assert found.unknown_bits == {"8000000A.EDX": [11]}
    assert not any(name.startswith("reserved_") for name in found.features)


@pytest.mark.parametrize(
    ("vendor", "extended_ecx", "extended"),
    [(INTEL, SVM, 0x80000021), (AMD, 0, 0x80000021), (AMD, SVM, 0x80000008)],
)
def test_svm_leaf_is_decoded_only_behind_its_gate(vendor: str, extended_ecx: int, extended: int) -> None:
    """Another maker, a clear flag, or a maximum below the leaf: its registers mean nothing."""
    leaf = {(0x8000000A, 0): (1, 32768, 0, 0xFF)}
    found = report(leaves(vendor, ZEN3, 0, extended_ecx, leaf, extended=extended)).amdv
    assert (found.revision, found.asids, found.features) == (None, None, {})


def test_sev_features_and_states() -> None:
    """0x8000001F decides SEV on AMD; kvm_amd's parameter turns it off."""
    leaf = {(0x8000001F, 0): (0x0101FD3F, 0x00004173, 0x1FD, 0x80)}
    cpuid = leaves(AMD, ZEN3, 0, SVM, leaf, extended=0x80000023)
    found = report(cpuid).sev
    assert found.fact.state == "present"
    assert found.features["sev_snp"] is True
    assert (found.encryption_bit, found.guests) == (0x33, 0x1FD)
    off = report(cpuid, files={"/sys/module/kvm_amd/parameters/sev": "N\n"}).sev
    assert off.fact.state == "disabled"
    assert report(leaves(INTEL, SKYLAKE)).sev.fact.state == "absent"
    assert report(leaves(AMD, ZEN3, 1 << 31)).sev.fact.state == "hidden"


QEMU = json.loads((Path(__file__).parents[2] / "data" / "probe" / "qemu_vmx.json").read_text())["rows"]
EVERYTHING_ALLOWED = {BASIC: 1 << 55, PROC: 1 << 63, PROC2: 1 << 33 | 1 << 45}


def named_rows() -> dict[tuple[int, int], dict[str, Any]]:
    """(MSR, bit) -> our row, the TRUE MSRs by the rows of the plain ones."""
    msrs = {int(row["msr"], 16): row for row in table("vmx_controls")["msrs"]}
    found = {}
    for index, row in msrs.items():
        shape = msrs[int(row["of"], 16)] if "of" in row else row
        found |= {(index, control["bit"]): control for control in shape.get("controls", ())}
        found |= {(index, field["bits"][0]): field for field in shape.get("fields", ())}
    return found


@pytest.mark.parametrize(("msr", "bit", "name"), QEMU, ids=[name for _, _, name in QEMU])
def test_controls_agree_with_qemus_own_definitions(msr: str, bit: int, name: str) -> None:
    """QEMU names the same bit of the same MSR, by the same name where our table gives QEMU's; alone it sets one id."""
    index = int(msr, 16)
    row = named_rows()[index, bit]
    assert row.get("libvirt_qemu_feature", name) == name
    pairs = index in {0x48B, *range(0x48D, 0x491)}
    value = EVERYTHING_ALLOWED.get(index, 0) | (1 << bit + 32 if pairs else 1 << bit)
    found = decode_capabilities({**EVERYTHING_ALLOWED, index: value})
    prefix = next(entry["name"] for entry in table("vmx_controls")["msrs"] if int(entry["msr"], 16) == index)
    key = f"{prefix}.{row['id']}"
    assert found.controls[key]["may_be_1"] if key in found.controls else found.fields[key] == 1
