"""The document, the checks, the comparison of hosts, and the tables behind them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vprobe.probe.checks import CHECKS, Result, run_checks
from vprobe.probe.diff import compare_hosts
from vprobe.probe.raw import KvmRaw, Origin, Raw
from vprobe.probe.record import Record
from vprobe.probe.report import decode
from vprobe.probe.tables import table
from vprobe.states import State, VirtClass

from .machines import AMD, HYPERVISOR, INTEL, SKYLAKE, SVM, VMX, ZEN3, leaves, report, signature_leaf

DATA = Path(__file__).parents[3] / "vprobe" / "probe" / "data"
FACTS = ("vtx", "amdv", "sev", "tdx", "sgx", "iommu")


def test_the_document_has_the_shape_of_the_contract() -> None:
    """Every key that scripts rely on, with plain JSON types."""
    document = report(leaves(INTEL, SKYLAKE, VMX), {0x3A: 5, 0x480: 4}).document()
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "vprobe.probe/1"
    assert list(document) == [
        "schema", "cpu", "virtualization", "hypervisor", "container", "confidential", "kvm", "mitigations", "inconsistent_cpus",
    ]  # fmt: skip
    assert list(document["virtualization"]) == list(FACTS)
    for name in FACTS:
        assert document["virtualization"][name]["state"] in set(State)
    vtx = document["virtualization"]["vtx"]
    assert vtx["feature_control"] == {
        "lock": True, "vmx_in_smx": False, "vmx_outside_smx": True, "senter_global": False, "sgx_lc": False, "sgx": False,
        "lmce": False,
    }  # fmt: skip
    assert vtx["fields"]["IA32_VMX_BASIC.revision"] == 4
    assert set(document["kvm"]) >= {"state", "usable", "backend", "api_version", "nested", "reason", "remedy"}
    assert set(document["cpu"]) >= {
        "architecture",
        "vendor",
        "brand",
        "family",
        "model",
        "stepping",
        "logical_cpus",
        "microcode",
    }


def test_microcode_is_where_each_maker_keeps_it() -> None:
    """Intel: the upper half of MSR 0x8B; AMD: the lower; the kernel's word first."""
    assert report(leaves(INTEL), {0x8B: 0xF8 << 32}).cpu.microcode == "0xf8"
    assert report(leaves(AMD, ZEN3), {0x8B: 0xA0011D5}).cpu.microcode == "0xa0011d5"
    assert report(leaves(INTEL), files={"/proc/cpuinfo": "processor\t: 0\nmicrocode\t: 0x2b\n"}).cpu.microcode == "0x2b"


READY = {
    "kvm": KvmRaw(opened=0, api_version=12, create_vm=0, supported_cpuid={(1, 0): (0, 0, VMX, 0)}),
    "directories": {"/sys/module": ("kvm", "kvm_intel"), "/sys/class/iommu": ("dmar0",)},
    "files": {"/proc/1/cgroup": "0::/init.scope\n"},
}


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("kvm", Result.PASS), ("vtx", Result.PASS), ("ept", Result.PASS), ("nested", Result.PASS), ("iommu", Result.PASS),
        ("amdv", Result.FAIL), ("npt", Result.FAIL), ("sev", Result.FAIL), ("sev-snp", Result.FAIL), ("tdx", Result.FAIL),
        ("sgx", Result.FAIL), ("guest", Result.FAIL), ("bare-metal", Result.PASS), ("container", Result.FAIL),
    ],
)  # fmt: skip
def test_checks_on_a_ready_intel_host(name: str, result: Result) -> None:
    """Every name of the contract answers, with a reason."""
    controls = {0x482: 1 << 63, 0x48B: 1 << 33}
    found = report(leaves(INTEL, SKYLAKE, VMX), {0x3A: 5, **controls}, **READY)
    (check,) = run_checks(found, (name,))
    assert check.result is result
    assert check.reason


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_nothing_recorded_is_never_a_failure(name: str) -> None:
    """Unknown is never reported as no."""
    (check,) = run_checks(decode(Raw(Origin.TREE)), (name,))
    assert check.result is Result.UNKNOWN


def test_checks_of_roles() -> None:
    """A guest is no bare metal, and a root partition is neither."""
    guest = report(leaves(ecx=HYPERVISOR, more={(0x40000000, 0): signature_leaf("KVMKVMKVM", 0x40000001)}))
    assert [check.result for check in run_checks(guest, ("guest", "bare-metal"))] == [Result.PASS, Result.FAIL]
    more = {
        (0x40000000, 0): signature_leaf("Microsoft Hv", 0x40000006),
        (0x40000001, 0): (0x31237648, 0, 0, 0),
        (0x40000003, 0): (0, 0x1001, 0, 0),
    }
    root = report(leaves(ecx=HYPERVISOR, more=more))
    assert [check.result for check in run_checks(root, ("guest", "bare-metal"))] == [Result.FAIL, Result.FAIL]


def test_nested_paging_without_its_register_is_unknown() -> None:
    """EPT cannot be told from CPUID; NPT can."""
    assert run_checks(report(leaves(INTEL, SKYLAKE, VMX)), ("ept",))[0].result is Result.UNKNOWN
    amd = report(leaves(AMD, ZEN3, 0, SVM, {(0x8000000A, 0): (1, 8, 0, 1)}, extended=0x8000000A))
    assert run_checks(amd, ("npt",))[0].result is Result.PASS


def test_the_baseline_of_hosts_is_what_all_have() -> None:
    """Features that any host, or any core of one, lacks are missing, with the name of the host."""
    wide = report(leaves(more={(7, 0): (0, 1 << 5 | 1 << 16, 0, 0)}))
    narrow = report(leaves(more={(7, 0): (0, 1 << 5, 0, 0)}))
    found = compare_hosts({"wide": wide, "narrow": narrow})
    assert found.differ
    assert found.missing == {"avx512f": ("narrow",)}
    assert "avx2" in found.common
    assert not compare_hosts({"a": narrow, "b": narrow}).differ

    hybrid = decode(Raw(Origin.LIVE, cpuid={0: wide.raw.leaves, 1: narrow.raw.leaves}))
    assert "avx512f" in compare_hosts({"hybrid": hybrid, "wide": wide}).missing


def test_what_was_not_read_on_a_host_is_not_missing_there() -> None:
    """VT-x controls of a dump without MSRs, and flags of a record without CPUID, are left out of the comparison and named."""
    controls = report(leaves(INTEL, SKYLAKE, VMX), {0x482: 0xFFF9FFFE0401E172})
    found = compare_hosts({"controls": controls, "dump": report(leaves(INTEL, SKYLAKE, VMX)), "nothing": report()})
    assert found.unknown == {
        "flags": ("nothing",),
        "vtx": ("dump", "nothing"),
        "amdv": ("nothing",),
        "sev": ("nothing",),
    }
    assert not found.differ
    guest = report(leaves(INTEL, SKYLAKE, HYPERVISOR))
    assert not compare_hosts({"controls": controls, "guest": guest}).unknown


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_every_table_names_its_sources(path: Path) -> None:
    """A fact without a source is a rumour."""
    assert table(path.stem)["_sources"]


def test_ids_and_bits_are_unique_within_their_register() -> None:
    """No row of a table hides another."""
    words = table("cpuid_flags")["words"]
    keys = [
        (row["leaf"], row["subleaf"], row["register"], bit, vendor, family)
        for row in words
        for bit in row["bits"]
        for vendor in row.get("vendors", [""])
        for family in row.get("families", [0])
    ]
    assert len(keys) == len(set(keys))
    for register in ("ecx", "edx"):
        bits = [row["bit"] for row in table("svm_features")[register]]
        assert len(bits) == len(set(bits))
    for row in table("vmx_controls")["msrs"]:
        ids = [entry["id"] for entry in (*row.get("controls", ()), *row.get("fields", ()))]
        assert len(ids) == len(set(ids)), row["name"]


def test_classes_of_the_tables_are_the_taxonomys() -> None:
    """Every class that a row names exists."""
    named = {row["class"] for row in table("hypervisor_signatures")["signatures"]}
    named |= set(table("hypervisor_evidence")["classes"].values())
    assert named <= set(VirtClass)


class Sample(Record):
    """A record for the test below."""

    first: int
    second: str = "two"


def test_records_are_frozen_values() -> None:
    """Fields by position and name, defaults, equality, copies; nothing can be set, and mistakes are errors."""
    sample = Sample(1)
    assert (sample, sample.second, hash(sample)) == (Sample(first=1, second="two"), "two", hash(Sample(1)))
    assert sample.replace(second="x") == Sample(1, "x") != sample
    assert sample.as_dict() == {"first": 1, "second": "two"}
    assert repr(sample) == "Sample(first=1, second='two')"
    with pytest.raises(AttributeError):
        sample.first = 2  # type: ignore[misc]
    for arguments, named in (((), {}), ((1, "2", 3), {}), ((1,), {"first": 2}), ((1,), {"third": 3})):
        with pytest.raises(TypeError):
            Sample(*arguments, **named)
