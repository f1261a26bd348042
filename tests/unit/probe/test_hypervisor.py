"""Which hypervisor, monitor, platform and role, from signatures, DMI, ACPI and the kernel's files."""

from __future__ import annotations

import errno

import pytest

from vprobe.probe.checks import run_checks
from vprobe.probe.raw import Registers, Unread
from vprobe.probe.tables import table

from .machines import AMD, HYPERVISOR, INTEL, SKYLAKE, ZEN3, leaves, report, signature_leaf

DMI = "/sys/class/dmi/id/"
HV1 = 0x31237648
ROOT_PRIVILEGES, GUEST_PRIVILEGES, ISOLATED_PRIVILEGES = 0x2BB9FF, 0x3B8030, 0x7B8030


def signatures(**texts: str) -> dict[tuple[int, int], Registers]:
    """Hypervisor blocks: at40000000="KVMKVMKVM"."""
    return {(int(base[2:], 16), 0): signature_leaf(text, int(base[2:], 16) + 1) for base, text in texts.items()}


def hyperv(privileges: int, **more: Registers) -> dict[tuple[int, int], Registers]:
    """Hyper-V's leaves with the privileges of a partition."""
    return {
        (0x40000000, 0): signature_leaf("Microsoft Hv", 0x4000000C),
        (0x40000001, 0): (HV1, 0, 0, 0),
        (0x40000003, 0): (0x2E7F, privileges, 2, 0),
        **{(int(leaf[2:], 16), 0): registers for leaf, registers in more.items()},
    }


def dmi(**strings: str) -> dict[str, str]:
    """Files of /sys/class/dmi/id."""
    return {DMI + name: text + "\n" for name, text in strings.items()}


def fadt(oem: str, table_id: str, identity: str = "") -> bytes:
    """An ACPI FADT with a maker, and with a hypervisor vendor identity."""
    content = bytearray(276)
    content[:4], content[10:16], content[16:24] = b"FACP", oem.ljust(6).encode(), table_id.ljust(8).encode()
    content[268:276] = identity.encode().ljust(8, b"\0")
    return bytes(content)


@pytest.mark.parametrize(
    "row", table("hypervisor_signatures")["signatures"], ids=lambda row: row["signature"].strip("\0 ")
)
def test_every_signature_of_the_table_is_found(row: dict[str, str]) -> None:
    """The registers of each row give its kind, as do its three hexadecimal words."""
    words = tuple(int(row[name], 16) for name in ("ebx", "ecx", "edx"))
    more = {(0x40000000, 0): (0x40000001, *words)}
    found = report(leaves(ecx=HYPERVISOR, more=more)).hypervisor
    assert found.kind == row["kind"]
    assert found.layers[0].virt_class == row["class"]
    assert found.layers[0].base == "0x40000000"


@pytest.mark.parametrize(
    ("blocks", "kind", "kinds"),
    [
        (signatures(at40000000="KVMKVMKVM"), "kvm", ["kvm"]),
        (signatures(at40000000="TCGTCGTCGTCG"), "qemu", ["qemu"]),
        (signatures(at40000000="Microsoft Hv", at40000100="KVMKVMKVM"), "kvm", ["kvm", "microsoft"]),
        (signatures(at40000000="Microsoft Hv", at40000100="XenVMMXenVMM"), "xen", ["xen", "microsoft"]),
        (signatures(at40000000="Microsoft Hv", at40000100="VMwareVMware"), "vmware", ["vmware", "microsoft"]),
        (signatures(at40000000="Linux KVM Hv", at40000100="KVMKVMKVM"), "kvm", ["kvm", "kvm"]),
        (signatures(at40000000="NobodyKnows!"), "vm-other", ["vm-other"]),
        ({(0x40000000, 0): (0, 0, 0, 0)}, "vm-other", ["vm-other"]),
    ],
)
def test_facades_are_told_from_the_real_hypervisor(
    blocks: dict[tuple[int, int], Registers], kind: str, kinds: list[str]
) -> None:
    """The highest known signature is real, Hyper-V's in front of it a facade; an unknown one is vm-other."""
    found = report(leaves(ecx=HYPERVISOR, more=blocks)).hypervisor
    assert found.kind == kind
    assert [layer.kind for layer in found.layers] == kinds
    assert found.role == "guest"


def test_a_hypervisor_that_mirrors_its_first_block_is_found_once() -> None:
    """bhyve answers every leaf from 0x40000000 on with the same registers."""
    first = signature_leaf("bhyve bhyve ", 0x40000001)
    more = {(base, 0): first for base in range(0x40000000, 0x40001000, 0x100)}
    assert len(report(leaves(ecx=HYPERVISOR, more=more)).hypervisor.layers) == 1


@pytest.mark.parametrize(
    ("privileges", "role"), [(ROOT_PRIVILEGES, "root"), (GUEST_PRIVILEGES, "guest"), (ISOLATED_PRIVILEGES, "guest")]
)
def test_the_privileges_of_a_hyperv_partition_give_its_role(privileges: int, role: str) -> None:
    """CreatePartitions and CpuManagement without isolation make the root partition."""
    found = report(leaves(ecx=HYPERVISOR, more=hyperv(privileges))).hypervisor
    assert (found.kind, found.role) == ("microsoft", role)


def test_a_hyperv_inside_hyperv_is_two_layers() -> None:
    """Bit 12 of the recommendations: this root partition's Hyper-V is a guest itself."""
    more = hyperv(ROOT_PRIVILEGES, at40000004=(1 << 12, 0, 0, 0))
    found = report(leaves(ecx=HYPERVISOR, more=more)).hypervisor
    assert (found.role, [layer.kind for layer in found.layers]) == ("root", ["microsoft", "microsoft"])


def test_an_emulators_name_in_the_place_of_a_makers_is_evidence() -> None:
    """Rosetta and its like run single programs: no hypervisor, but worth saying, and once."""
    found = report(leaves("VirtualApple")).hypervisor
    assert found.fact.state == "absent"
    assert ["Rosetta" in line for line in found.fact.evidence].count(True) == 1


@pytest.mark.parametrize(("code", "kind"), [(1, "vbs"), (2, "sev-snp"), (3, "tdx")])
def test_hyperv_isolation_names_the_confidential_guest(code: int, kind: str) -> None:
    """Leaf 0x4000000C of an isolated partition."""
    more = hyperv(ISOLATED_PRIVILEGES, at4000000C=(1, code, 0, 0))
    assert report(leaves(ecx=HYPERVISOR, more=more)).confidential.kind == kind


@pytest.mark.parametrize(
    ("strings", "signature", "kind", "monitor", "platform"),
    [
        (dmi(sys_vendor="QEMU", product_name="Standard PC (Q35 + ICH9, 2009)"), "KVMKVMKVM", "kvm", "qemu", None),
        (dmi(sys_vendor="QEMU", product_name="Standard PC"), "TCGTCGTCGTCG", "qemu", "qemu", None),
        (dmi(sys_vendor="OpenStack Foundation", product_name="OpenStack Nova"), "KVMKVMKVM", "kvm", None, "openstack"),
        (dmi(sys_vendor="RDO", product_name="OpenStack Compute"), "KVMKVMKVM", "kvm", None, "openstack"),
        (
            dmi(sys_vendor="Apache Software Foundation", product_name="CloudStack KVM Hypervisor"),
            "KVMKVMKVM", "kvm", "qemu", "cloudstack",
        ),
        (dmi(sys_vendor="innotek GmbH", product_name="VirtualBox"), "KVMKVMKVM", "oracle", "virtualbox", None),
        (dmi(sys_vendor="VMware, Inc.", product_name="VMware7,1"), "VMwareVMware", "vmware", "vmware", None),
        (dmi(sys_vendor="Amazon EC2", product_name="c5.large"), "KVMKVMKVM", "kvm", "nitro", "aws"),
        (dmi(sys_vendor="Xen", product_name="HVM domU", bios_version="4.2.amazon"), "XenVMMXenVMM", "xen", None, "aws"),
        (dmi(sys_vendor="Google", product_name="Google Compute Engine"), "KVMKVMKVM", "kvm", "google", "gcp"),
        (
            dmi(
                sys_vendor="Microsoft Corporation", product_name="Virtual Machine",
                chassis_asset_tag="7783-7084-3265-9085-8269-3286-77",
            ),
            "Microsoft Hv", "microsoft", None, "azure",
        ),
        (dmi(sys_vendor="Microsoft Corporation", product_name="Virtual Machine"), "Microsoft Hv", "microsoft", None, None),
        (dmi(sys_vendor="Nutanix", product_name="AHV"), "KVMKVMKVM", "kvm", "qemu", "nutanix"),
        (dmi(sys_vendor="oVirt", product_name="oVirt Node"), "KVMKVMKVM", "kvm", "qemu", "ovirt"),
        (dmi(sys_vendor="Parallels Software International Inc."), "KVMKVMKVM", "parallels", "parallels", None),
        (dmi(sys_vendor="QEMU", product_name="Standard PC"), "Microsoft Hv", "kvm", "qemu", None),
        (dmi(sys_vendor="Dell Inc.", product_name="PowerEdge R640"), "KVMKVMKVM", "kvm", None, None),
    ],
)  # fmt: skip
def test_dmi_names_monitor_and_platform(
    strings: dict[str, str], signature: str, kind: str, monitor: str | None, platform: str | None
) -> None:
    """Strings and signature together, as the products really combine them."""
    found = report(leaves(ecx=HYPERVISOR, more=signatures(at40000000=signature)), files=strings).hypervisor
    assert (found.kind, found.monitor, found.platform) == (kind, monitor, platform)


@pytest.mark.parametrize(
    ("strings", "platform"),
    [
        (dmi(sys_vendor="Amazon EC2", product_name="m5.metal"), "aws"),
        (dmi(sys_vendor="Alibaba Cloud", product_name="Alibaba Cloud ECS"), "alibaba-cloud"),
        (dmi(sys_vendor="Oracle Corporation", product_name="ORACLE SERVER X7-2"), None),
        (dmi(sys_vendor="Dell Inc.", product_name="PowerEdge"), None),
    ],
)
def test_a_makers_name_on_bare_metal_is_no_hypervisor(strings: dict[str, str], platform: str | None) -> None:
    """Without the hypervisor bit the strings of a cloud's metal machines and of Oracle's servers name no guest."""
    found = report(leaves(), files=strings).hypervisor
    assert (found.kind, found.platform, found.fact.state) == (None, platform, "absent")


def test_acpi_names_firecracker() -> None:
    """The FADT's hypervisor vendor identity and its OEM ids."""
    files = {"/sys/firmware/acpi/tables/FACP": fadt("FIRECK", "FCVMFADT", "FIRECKVM")}
    directories = {"/sys/firmware/acpi/tables": ("FACP",)}
    found = report(
        leaves(AMD, ZEN3, HYPERVISOR, more=signatures(at40000000="KVMKVMKVM")), files=files, directories=directories
    )
    assert (found.hypervisor.kind, found.hypervisor.monitor) == ("kvm", "firecracker")


@pytest.mark.parametrize(
    ("oem", "monitor"), [("CLOUDH", "cloud-hypervisor"), ("CROSVM", "crosvm"), ("BOCHS ", "qemu"), ("AMAZON", "nitro")]
)
def test_acpi_oem_ids_name_the_monitor(oem: str, monitor: str) -> None:
    """The maker of any table will do."""
    files = {"/sys/firmware/acpi/tables/APIC": fadt(oem, "X")}
    cpuid = leaves(ecx=HYPERVISOR, more=signatures(at40000000="KVMKVMKVM"))
    found = report(cpuid, files=files, directories={"/sys/firmware/acpi/tables": ("APIC",)})
    assert found.hypervisor.monitor == monitor


def test_unreadable_acpi_tables_are_said() -> None:
    """A normal user learns that the monitor is unknown, why, and what to do."""
    raw = leaves(ecx=HYPERVISOR, more=signatures(at40000000="KVMKVMKVM"))
    from vprobe.probe.report import decode

    from .machines import machine

    record = machine(raw, directories={"/sys/firmware/acpi/tables": ("FACP",)})
    record = record.replace(files={"/sys/firmware/acpi/tables/FACP": Unread(errno.EACCES)})
    found = decode(record).hypervisor
    assert found.monitor is None
    assert "EACCES" in found.fact.reason
    assert found.fact.remedy == "run as root"


@pytest.mark.parametrize(
    ("files", "directories", "kind", "role", "virt_class"),
    [
        ({"/proc/xen/capabilities": "control_d\n"}, {"/proc/xen": ("capabilities",)}, "xen", "dom0", "paravirtual"),
        ({"/proc/xen/capabilities": ""}, {"/proc/xen": ("capabilities",)}, "xen", "guest", "paravirtual"),
        (
            {"/sys/hypervisor/type": "xen\n", "/sys/hypervisor/properties/features": "00000800\n"},
            {}, "xen", "dom0", "full-hardware",
        ),
        ({"/sys/hypervisor/type": "xen\n", "/sys/hypervisor/guest_type": "PVH\n"}, {}, "xen", "guest", "full-hardware"),
        ({"/sys/hypervisor/type": "xen\n", "/sys/hypervisor/guest_type": "PV\n"}, {}, "xen", "guest", "paravirtual"),
        ({"/proc/cpuinfo": "processor\t: 0\nvendor_id\t: User Mode Linux\n"}, {}, "uml", "guest", "user-space-kernel"),
        ({"/proc/sysinfo": "LPAR Name: X\nVM00 Control Program: z/VM    6.4.0\n"}, {}, "zvm", "guest", "full-hardware"),
        ({"/proc/sysinfo": "LPAR Name: X\nVM00 Control Program: KVM/Linux\n"}, {}, "kvm", "guest", "full-hardware"),
        ({"/proc/cpuinfo": "processor\t: 0\ncpu\t: POWER9\n\nplatform\t: pSeries\n"}, {}, "powervm", "guest", "paravirtual"),
        (
            {"/proc/cpuinfo": "processor\t: 0\ncpu\t: POWER9\n\nplatform\t: pSeries\nmodel\t: IBM pSeries (emulated by qemu)\n"},
            {}, "kvm", "guest", "full-hardware",
        ),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, {}, "kvm", "guest", "full-hardware"),
        ({"/proc/device-tree/hypervisor/compatible": "xen,xen-4.11\0xen,xen\0"}, {}, "xen", "guest", "full-hardware"),
        ({}, {"/proc/device-tree": ("fw-cfg@9020000", "cpus")}, "qemu", "guest", "full-software"),
        ({"/proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2\n"}, {}, "microsoft", "guest", "full-hardware"),
        (
            {"/sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc acpi_pm\n"},
            {}, "kvm", "guest", "full-hardware",
        ),
        ({"/proc/bus/pci/devices": "0010\t80eebeef\t0\n"}, {}, "oracle", "guest", "full-hardware"),
        ({"/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor\n"}, {}, "vm-other", "guest", "full-hardware"),
    ],
)  # fmt: skip
def test_the_kernels_files_tell_without_cpuid(
    files: dict[str, str], directories: dict[str, tuple[str, ...]], kind: str, role: str, virt_class: str
) -> None:
    """Recorded trees of guests: Xen in its kinds, s390, POWER, device trees, UML, WSL2, clock sources, PCI."""
    found = report(files=files, directories=directories).hypervisor
    assert (found.kind, found.role, found.layers[0].virt_class) == (kind, role, virt_class)


@pytest.mark.parametrize(
    "files",
    [
        {"/proc/cpuinfo": "processor\t: 0\ncpu\t: POWER9\n\nplatform\t: PowerNV\n"},
        {"/proc/sysinfo": "LPAR Name: LP1\n"},
        {"/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu nopl vmx\n"},
        {DMI + "sys_vendor": "HUAWEI\n", DMI + "product_name": "TaiShan 200\n"},
    ],
)
def test_bare_metal_without_cpuid(files: dict[str, str]) -> None:
    """The kernel's own word for hardware, a modern kernel's flags without the guest's one, a maker's strings."""
    assert report(files=files).hypervisor.fact.state == "absent"


@pytest.mark.parametrize(("used", "kind"), [("devices", "xen"), ("drivers", "xen"), (None, None)])
def test_xens_bus_alone_proves_nothing(used: str | None, kind: str | None) -> None:
    """Kernels with Xen built in register the bus everywhere; drivers and devices are there in a domain only."""
    directories = {"/sys/bus": ("pci", "xen")} | ({f"/sys/bus/xen/{used}": ("vbd",)} if used else {})
    assert report(directories=directories).hypervisor.kind == kind


def test_dom0_under_another_hypervisor_shows_both_layers() -> None:
    """Xen's dom0 inside a KVM guest: neither layer is a facade."""
    cpuid = leaves(INTEL, SKYLAKE, HYPERVISOR, more=signatures(at40000000="KVMKVMKVM"))
    found = report(cpuid, files={"/proc/xen/capabilities": "control_d"}, directories={"/proc/xen": ("capabilities",)})
    assert (found.hypervisor.kind, found.hypervisor.role) == ("xen", "dom0")
    assert [(layer.kind, layer.facade) for layer in found.hypervisor.layers] == [("xen", False), ("kvm", False)]


def test_kvm_paravirtual_features_by_name() -> None:
    """The feature leaf is found at the block that carries the signature, also behind a facade."""
    more = signatures(at40000000="Microsoft Hv", at40000100="KVMKVMKVM") | {(0x40000101, 0): (1 << 3 | 1 << 5, 0, 0, 1)}
    found = report(leaves(ecx=HYPERVISOR, more=more)).hypervisor.paravirtual_features
    assert found == ("clocksource2", "steal_time", "hints_realtime")


def test_smbios_table_in_place_of_the_class_files() -> None:
    """A tree that recorded only the raw table: BIOS, system and chassis structures, and the virtual machine bit."""
    bios = bytes([0, 24, 0, 0, 1, 2]) + bytes(12) + bytes([0, 0b00010000]) + bytes(4) + b"SeaBIOS\0 1.16\0\0"
    system = bytes([1, 27, 1, 0, 1, 2]) + bytes(21) + b"OpenStack Foundation\0OpenStack Nova\0\0"
    found = report(files={"/sys/firmware/dmi/tables/DMI": bios + system}).hypervisor
    assert (found.kind, found.platform) == ("kvm", "openstack")
    assert any("virtual machine" in line for line in found.fact.evidence)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "vm-other"),
        ({(0x40000000, 0): signature_leaf("Microsoft Hv", 0x4000000B), (0x40000001, 0): (HV1, 0, 0, 0)}, "microsoft"),
    ],
)
def test_a_role_that_was_not_recorded_is_not_guest(more: dict, kind: str) -> None:
    """Old dumps hold the flag of a hypervisor without its leaves, or without the one that names the root partition."""
    found = report(leaves(ecx=HYPERVISOR, more=more))
    assert (found.hypervisor.kind, found.hypervisor.role) == (kind, None)
    results = {check.name: check.result.value for check in run_checks(found, ("guest", "bare-metal"))}
    assert results == {"guest": "unknown", "bare-metal": "fail"}
