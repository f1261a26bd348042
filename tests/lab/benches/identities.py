"""Who a guest believes that it runs under: firmware strings of products, and processors that show no hypervisor."""

from __future__ import annotations

from lab.bench import Bench, Row
from lab.qemu import Qemu

SCRIPT = "probe guest; tools guest\n"
QEMU = {
    "amdv": "present",
    "controls": 3,
    "reason": "VM_CR does not disable SVM",
    "layers": "qemu (full-software)",
    "role": "guest",
}


def identity(
    name: str,
    about: str,
    machine: Qemu,
    row: Row,
    *,
    kind: str = "qemu",
    monitor: str = "qemu",
    platform: str | None = None,
) -> Bench:
    """One guest and what the probe has to say of it."""
    facts = {"hypervisor.kind": kind, "hypervisor.monitor": monitor, "hypervisor.platform": platform}
    return Bench(f"identity-{name}", about, machine, SCRIPT, {"guest": row}, facts={"guest": facts}, in_ci=True)


def product(*strings: str, cpu: str = "max", machine: str = "q35") -> Qemu:
    """A guest with those SMBIOS strings."""
    return Qemu(cpu=cpu, machine=machine, memory_mib=512, smbios=strings)


BENCHES = (
    identity(
        "openstack",
        "OpenStack Nova's strings",
        product("type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=27.1.0"),
        Row(**QEMU),
        platform="openstack",
    ),
    identity(
        "cloudstack",
        "Apache CloudStack's strings",
        product("type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor"),
        Row(**QEMU),
        platform="cloudstack",
    ),
    identity(
        "vmware",
        "VMware's strings",
        product("type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,version=None"),
        Row(**QEMU | {"layers": "vmware (full-hardware), qemu (full-software)"}),
        kind="vmware",
        monitor="vmware",
    ),
    identity(
        "vmport",
        "VMware's strings and its backdoor port, no signature: Linux itself says VMware",
        product(
            "type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,serial=VMware-56 4d",
            machine="q35,vmport=on",
            cpu="max,-hypervisor,tcg-cpuid=off,model-id=Intel(R) Xeon(R) CPU",
        ),
        Row(**QEMU | {"layers": "vmware (full-hardware)"}),
        kind="vmware",
        monitor="vmware",
    ),
    identity(
        "virtualbox",
        "VirtualBox' strings",
        product(
            "type=0,vendor=innotek GmbH,version=VirtualBox",
            "type=1,manufacturer=innotek GmbH,product=VirtualBox,version=1.2",
        ),
        Row(**QEMU | {"layers": "oracle (full-hardware), qemu (full-software)"}),
        kind="oracle",
        monitor="virtualbox",
    ),
    identity(
        "hyperv",
        "Hyper-V's strings",
        product(
            "type=0,vendor=Microsoft Corporation,version=Hyper-V UEFI Release v4.1",
            "type=1,manufacturer=Microsoft Corporation,product=Virtual Machine,version=Hyper-V UEFI Release v4.1",
        ),
        Row(**QEMU),
    ),
    identity(
        "ec2",
        "Amazon EC2's strings",
        product("type=0,vendor=Amazon EC2,version=1.0", "type=1,manufacturer=Amazon EC2,product=m5.large"),
        Row(**QEMU),
        platform="aws",
    ),
    identity(
        "xen-hvm",
        "the strings of Xen's HVM guests",
        product("type=0,vendor=Xen,version=4.17.3", "type=1,manufacturer=Xen,product=HVM domU,version=4.17.3"),
        Row(**QEMU),
    ),
    identity("no-bit", "no hypervisor bit in CPUID", product(cpu="max,-hypervisor"), Row(**QEMU)),
    identity(
        "no-signature", "the hypervisor bit and empty hypervisor leaves", product(cpu="max,tcg-cpuid=off"), Row(**QEMU)
    ),
)
