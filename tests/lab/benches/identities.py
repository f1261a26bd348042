"""Who a guest believes that it runs under: firmware strings of products, and processors that show no hypervisor."""

from __future__ import annotations

from typing import NamedTuple

from lab.bench import Bench, Row
from lab.qemu import Qemu

UNDER_QEMU = "qemu (full-software)"


class Identity(NamedTuple):
    """One guest, and what the probe has to say of it. `strings`: SMBIOS' as -smbios takes them."""

    name: str
    about: str
    strings: tuple[str, ...] = ()
    cpu: str = "max"
    machine: str = "q35"
    layers: str = UNDER_QEMU
    kind: str = "qemu"
    monitor: str = "qemu"
    platform: str | None = None

    def bench(self) -> Bench:
        """The guest as a bench."""
        row = Row(amdv="present", controls=3, reason="VM_CR does not disable SVM", layers=self.layers, role="guest")
        facts = {
            "hypervisor.kind": self.kind,
            "hypervisor.monitor": self.monitor,
            "hypervisor.platform": self.platform,
        }
        return Bench(
            f"identity-{self.name}",
            self.about,
            Qemu(cpu=self.cpu, machine=self.machine, memory_mib=512, smbios=self.strings),
            "probe guest; tools guest\n",
            {"guest": row},
            facts={"guest": facts},
            in_ci=True,
        )


IDENTITIES = (
    Identity(
        "openstack",
        "OpenStack Nova's strings",
        ("type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=27.1.0",),
        platform="openstack",
    ),
    Identity(
        "cloudstack",
        "Apache CloudStack's strings",
        ("type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor",),
        platform="cloudstack",
    ),
    Identity(
        "vmware",
        "VMware's strings",
        ("type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,version=None",),
        layers=f"vmware (full-hardware), {UNDER_QEMU}",
        kind="vmware",
        monitor="vmware",
    ),
    Identity(
        "vmport",
        "VMware's strings and its backdoor port, no signature: Linux itself says VMware",
        ("type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,serial=VMware-56 4d",),
        cpu="max,-hypervisor,tcg-cpuid=off,model-id=Intel(R) Xeon(R) CPU",
        machine="q35,vmport=on",
        layers="vmware (full-hardware)",
        kind="vmware",
        monitor="vmware",
    ),
    Identity(
        "virtualbox",
        "VirtualBox' strings",
        (
            "type=0,vendor=innotek GmbH,version=VirtualBox",
            "type=1,manufacturer=innotek GmbH,product=VirtualBox,version=1.2",
        ),
        layers=f"oracle (full-hardware), {UNDER_QEMU}",
        kind="oracle",
        monitor="virtualbox",
    ),
    Identity(
        "hyperv",
        "Hyper-V's strings",
        (
            "type=0,vendor=Microsoft Corporation,version=Hyper-V UEFI Release v4.1",
            "type=1,manufacturer=Microsoft Corporation,product=Virtual Machine,version=Hyper-V UEFI Release v4.1",
        ),
    ),
    Identity(
        "ec2",
        "Amazon EC2's strings",
        ("type=0,vendor=Amazon EC2,version=1.0", "type=1,manufacturer=Amazon EC2,product=m5.large"),
        platform="aws",
    ),
    Identity(
        "xen-hvm",
        "the strings of Xen's HVM guests",
        ("type=0,vendor=Xen,version=4.17.3", "type=1,manufacturer=Xen,product=HVM domU,version=4.17.3"),
    ),
    Identity("no-bit", "no hypervisor bit in CPUID", cpu="max,-hypervisor"),
    Identity("no-signature", "the hypervisor bit and empty hypervisor leaves", cpu="max,tcg-cpuid=off"),
)

BENCHES = tuple(identity.bench() for identity in IDENTITIES)
