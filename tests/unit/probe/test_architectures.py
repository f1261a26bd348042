"""Machines that are not x86, and x86 machines of which only /proc/cpuinfo was recorded."""

from __future__ import annotations

import pytest

from vprobe.probe.report import HostReport, decode
from vprobe.states import State

from .machines import machine

ARM = "processor\t: {}\nFeatures\t: fp asimd cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
MIPS = "system type\t\t: Baikal-T1\nprocessor\t\t: 0\ncpu model\t\t: MIPS P5600\nisa\t\t\t: mips1 mips2 mips32r2\n"
ALPHA = "cpu\t\t\t: Alpha\ncpu model\t\t: EV67\nsystem type\t\t: Tsunami\n"
LOONGARCH = "system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\nCPU Family\t\t: Loongson-64bit\n"
RISCV = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nuarch\t\t: sifive,u74-mc\n"
ITANIUM = "processor  : 0\nvendor     : GenuineIntel\narch       : IA-64\nfamily     : Itanium 2\narchrev    : 0\n"
SPARC = "cpu\t\t: UltraSparc T5 (Niagara5)\ntype\t\t: sun4v\nncpus probed\t: 192\nncpus active\t: 24\n"
S390 = (
    "vendor_id       : IBM/S390\n# processors    : 4\nfeatures\t: esan3 zarch\n"
    + "".join(f"processor {cpu}: version = 00,  identification = FFFFFF,  machine = 3906\n" for cpu in range(4))
    + "".join(f"\ncpu number      : {cpu}\nphysical id     : 1\ncore id         : {cpu // 2}\n" for cpu in range(4))
)


def recorded(cpuinfo: str, **fields: object) -> HostReport:
    """The facts of a tree that holds /proc/cpuinfo."""
    return decode(machine(files={"/proc/cpuinfo": cpuinfo}, **fields))


def x86(vendor: str, family: int, model: int, flags: str) -> str:
    """/proc/cpuinfo of one x86 processor."""
    return (
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
        f"flags\t\t: fpu lm nopl {flags}\n"
    )


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "logical_cpus"),
    [
        (ARM.format(0), "aarch64", 1),
        (MIPS, "mips", 1),
        (ALPHA, "alpha", None),
        (LOONGARCH, "loongarch64", 1),
        (RISCV, "riscv64", 1),
        (ITANIUM, "ia64", 1),
        (SPARC, "sparc64", 24),
        (S390, "s390x", 4),
    ],
)
def test_architectures_and_what_they_never_have(cpuinfo: str, architecture: str, logical_cpus: int | None) -> None:
    """Each architecture is named; what only x86 has is absent on all of them, and no flag tells a guest from the machine."""
    found = recorded(cpuinfo)
    assert (found.cpu.architecture, found.cpu.logical_cpus) == (architecture, logical_cpus)
    technologies = (found.vtx.fact, found.amdv.fact, found.sev.fact, found.tdx, found.sgx)
    assert {fact.state for fact in technologies} == {State.ABSENT}
    if architecture != "sparc64":  # sun4v is a logical domain
        assert found.hypervisor.fact.state is State.UNKNOWN
        assert found.confidential.fact.state is State.UNKNOWN


@pytest.mark.parametrize("kept", range(1, 6))
@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD", "CentaurHauls"])
def test_a_truncated_cpuinfo_breaks_nothing(kept: int, vendor: str) -> None:
    """Any line may be the last one: family without model, maker without family."""
    text = "\n".join(x86(vendor, 6, 0x9E, "vmx svm").splitlines()[:kept])
    assert recorded(text).document()["cpu"]["architecture"] in {"x86_64", "i686", None}


def test_user_mode_linux_is_of_the_x86_kind() -> None:
    """Its /proc/cpuinfo has no family; that it runs on other processors than x86 is not known."""
    found = recorded("processor\t: 0\nvendor_id\t: User Mode Linux\nmodel name\t: UML\nflags\t\t: fpu lm nopl\n")
    assert (found.cpu.architecture, found.hypervisor.kind, found.vtx.fact.state) == ("x86_64", "uml", State.HIDDEN)


def test_processors_without_blank_lines_between_them() -> None:
    """Some kernels list Arm's processors without a blank line between them."""
    assert recorded("".join(ARM.format(cpu) for cpu in range(4))).cpu.topology == {"threads": 4}


def test_s390_tells_of_cores_after_its_processors() -> None:
    """Packages and cores are counted although they stand in blocks of their own."""
    assert recorded(S390).cpu.topology == {"packages": 1, "cores": 2, "threads": 4, "threads_per_core": 2}


@pytest.mark.parametrize(
    ("cpuinfo", "technology", "state"),
    [
        (x86("GenuineIntel", 6, 0x8F, "vmx clflushopt"), "sgx", State.UNKNOWN),
        (x86("GenuineIntel", 6, 0x8F, "vmx clflushopt sgx"), "sgx", State.PRESENT),
        (x86("GenuineIntel", 6, 0x3C, "vmx"), "sgx", State.ABSENT),
        (x86("AuthenticAMD", 0x19, 0x11, "svm"), "sev", State.UNKNOWN),
        (x86("AuthenticAMD", 0x19, 0x11, "svm sev"), "sev", State.PRESENT),
        (x86("AuthenticAMD", 0x15, 2, "svm"), "sev", State.ABSENT),
    ],
)
def test_a_flag_that_the_kernel_may_hide_is_not_absent(cpuinfo: str, technology: str, state: State) -> None:
    """Old kernels do not know `sgx` and `sev`, newer ones clear them with the firmware: only a processor too old is certain."""
    fact = {"sgx": lambda found: found.sgx, "sev": lambda found: found.sev.fact}[technology](recorded(cpuinfo))
    assert fact.state is state
    assert "CPUID does not" not in fact.reason


def test_two_strings_one_of_the_hypervisor_one_of_the_platform() -> None:
    """A cloud's name in the asset tag does not hide whose virtual machine it is."""
    dmi = {"sys_vendor": "VMware, Inc.", "product_name": "VMware20,1", "chassis_asset_tag": "OpenStack Compute"}
    files = {f"/sys/class/dmi/id/{name}": text for name, text in dmi.items()}
    found = decode(machine(files=files)).hypervisor
    assert (found.kind, found.monitor, found.platform) == ("vmware", "vmware", "openstack")


def test_smbios_alone_says_that_this_is_a_virtual_machine() -> None:
    """The bit of the BIOS structure counts where nobody names the hypervisor, and no flag could be read."""
    bios = bytes([0, 24, 0, 0]) + bytes(15) + bytes([0x10]) + bytes(4) + b"\0\0"
    files = {"/sys/firmware/dmi/entries/0-0/raw": bios, "/sys/class/dmi/id/sys_vendor": "Example Ltd."}
    assert decode(machine(files=files)).hypervisor.kind == "vm-other"
