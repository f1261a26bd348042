"""IOMMU, SGX, TDX, confidential guests, mitigations, and differences between CPUs."""

from __future__ import annotations

import errno

import pytest

from vprobe.probe.decode.consistency import cpu_list, inconsistent_cpus
from vprobe.probe.raw import Origin, Raw, Unread
from vprobe.probe.report import decode

from .machines import (
    AMD,
    HYPERVISOR,
    INTEL,
    SAPPHIRE_RAPIDS,
    SKYLAKE,
    ZEN3,
    leaves,
    machine,
    report,
    signature_leaf,
    word,
)

ACPI, UNITS, GROUPS = "/sys/firmware/acpi/tables", "/sys/class/iommu", "/sys/kernel/iommu_groups"


@pytest.mark.parametrize(
    ("directories", "state", "kind"),
    [
        ({ACPI: ("DMAR", "FACP"), UNITS: ("dmar0",), GROUPS: ("0", "1")}, "present", "vtd"),
        ({ACPI: ("IVRS",), UNITS: ("ivhd0",)}, "present", "amdvi"),
        ({UNITS: ("smmu3.0x1",), GROUPS: ("0",)}, "present", None),
        ({ACPI: ("DMAR",), UNITS: ()}, "disabled", "vtd"),
        ({ACPI: ("IVRS",)}, "disabled", "amdvi"),
        ({ACPI: ("FACP",)}, "absent", None),
        ({}, "unknown", None),
    ],
)
def test_iommu(directories: dict[str, tuple[str, ...]], state: str, kind: str | None) -> None:
    """Used, described but unused, not described, not recorded."""
    found = report(directories=directories).iommu
    assert (found.fact.state, found.kind) == (state, kind)


SGX_FLAG = {(7, 0): (0, 1 << 2, 0, 0)}


@pytest.mark.parametrize(
    ("more", "msrs", "ecx", "state"),
    [
        ({**SGX_FLAG, (0x12, 0): (1, 0, 0, 0)}, {0x3A: 0x40005}, 0, "present"),
        ({**SGX_FLAG, (0x12, 0): (1, 0, 0, 0)}, {}, 0, "present"),
        ({**SGX_FLAG, (0x12, 0): (1, 0, 0, 0)}, {0x3A: 0x5}, 0, "disabled"),
        ({**SGX_FLAG, (0x12, 0): (0, 0, 0, 0)}, {}, 0, "disabled"),
        ({}, {}, 0, "absent"),
        ({}, {}, HYPERVISOR, "hidden"),
    ],
)
def test_sgx(more: dict, msrs: dict[int, int], ecx: int, state: str) -> None:
    """The flag, the enclave leaf, the lock register, and a hypervisor in between."""
    assert report(leaves(INTEL, SKYLAKE, ecx, more=more), msrs).sgx.state == state


TDX_LEAF = {(0x21, 0): (0, word("Inte"), word("    "), word("lTDX"))}


@pytest.mark.parametrize(
    ("cpuid", "msrs", "files", "state"),
    [
        (leaves(INTEL, SAPPHIRE_RAPIDS, HYPERVISOR, more=TDX_LEAF, maximum=0x21), {}, {}, "present"),
        (leaves(INTEL, SAPPHIRE_RAPIDS), {0x87: 0x40 << 32}, {}, "present"),
        (leaves(INTEL, SAPPHIRE_RAPIDS), {0x87: 0}, {}, "absent"),
        (leaves(INTEL, SAPPHIRE_RAPIDS), {0x87: Unread(errno.EIO)}, {}, "unknown"),
        (leaves(INTEL, SAPPHIRE_RAPIDS, HYPERVISOR), {}, {}, "hidden"),
        (leaves(INTEL, SKYLAKE), {}, {}, "absent"),
        (leaves(AMD, ZEN3), {}, {}, "absent"),
        (
            leaves(INTEL, SAPPHIRE_RAPIDS),
            {},
            {"/proc/cpuinfo": "processor\t: 0\nflags\t: fpu tdx_host_platform\n"},
            "present",
        ),
    ],
)
def test_tdx(cpuid: dict, msrs: dict, files: dict[str, str], state: str) -> None:
    """A guest by its leaf, a host by the kernel's flag or the key ids, unknown where only an MSR could tell."""
    assert report(cpuid, msrs, files).tdx.state == state


@pytest.mark.parametrize(("status", "kind"), [(1, "sev"), (3, "sev-es"), (7, "sev-snp")])
def test_sev_guests_by_their_status_register(status: int, kind: str) -> None:
    """SEV_STATUS, the strongest bit first."""
    cpuid = leaves(AMD, ZEN3, HYPERVISOR, more={(0x8000001F, 0): (2, 0x33, 0, 0)}, extended=0x80000021)
    assert report(cpuid, {0xC0010131: status}).confidential.kind == kind
    unread = report(cpuid, {0xC0010131: Unread(errno.EACCES)}).confidential
    assert (unread.kind, unread.fact.state) == (None, "unknown")


def test_confidential_guests_by_leaf_device_and_file() -> None:
    """TDX, s390's protected virtualization, and the devices of guests."""
    tdx = report(leaves(INTEL, SAPPHIRE_RAPIDS, HYPERVISOR, more=TDX_LEAF, maximum=0x21))
    assert tdx.confidential.kind == "tdx"
    assert report(files={"/sys/firmware/uv/prot_virt_guest": "1\n"}).confidential.kind == "protvirt"
    assert report(leaves()).confidential.fact.state == "absent"
    plain = report(leaves(ecx=HYPERVISOR, more={(0x40000000, 0): signature_leaf("KVMKVMKVM", 0x40000001)}))
    assert (plain.confidential.kind, plain.confidential.fact.state) == (None, "absent")


def test_mitigations_are_the_kernels_own_words() -> None:
    """Text for text, and the errno of one that could not be read."""
    base = "/sys/devices/system/cpu/vulnerabilities"
    raw = machine(
        files={f"{base}/mds": "Mitigation: Clear CPU buffers; SMT vulnerable\n"}, directories={base: ("mds", "l1tf")}
    )
    raw = raw.replace(files={**raw.files, f"{base}/l1tf": Unread(errno.EACCES)})
    assert decode(raw).mitigations == {
        "mds": "Mitigation: Clear CPU buffers; SMT vulnerable",
        "l1tf": "unknown (EACCES)",
    }


def test_identities_are_no_differences() -> None:
    """APIC ids, serial numbers, feedback rows and Xen's vCPU number differ by design."""
    cpus = {}
    for cpu in range(4):
        cpus[cpu] = {
            (1, 0): (SKYLAKE, cpu << 24 | 0x10800, 0, 0),
            (3, 0): (0, 0, cpu, cpu),
            (6, 0): (0, 0, 0, cpu << 16),
            (0xB, 0): (1, 2, 0x100, cpu),
            (0x40000004, 0): (0x1C, cpu, 7, 0),
            (0x8000001E, 0): (cpu, 0x100 | cpu, cpu, 0),
        }
    assert inconsistent_cpus(Raw(Origin.LIVE, cpuid=cpus)) == []


def test_differences_are_listed_by_cpus() -> None:
    """A microcode that one CPU lacks, and a leaf of efficiency cores; what one CPU did not record is no difference."""
    cpus = {cpu: {(7, 0): (0, 0x100 if cpu < 2 else 0x300, 0, 0)} for cpu in range(4)}
    cpus[3][0x16, 0] = (1, 2, 3, 4)
    msrs = {cpu: {0x8B: (0xF8 if cpu else 0xF0) << 32, 0x10: cpu} for cpu in range(4)}
    found = inconsistent_cpus(Raw(Origin.LIVE, cpuid=cpus, msrs=msrs))
    assert [difference["what"] for difference in found] == ["CPUID 0x7.0x0", "MSR 0x8b"]
    assert list(found[0]["values"]) == ["0-1", "2-3"]
    assert list(found[1]["values"]) == ["0", "1-3"]


@pytest.mark.parametrize(
    ("cpus", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 9], "0,2-3,9"), ([3, 1, 2], "1-3")]
)
def test_cpu_lists(cpus: list[int], text: str) -> None:
    """As taskset and the kernel write them."""
    assert cpu_list(cpus) == text
