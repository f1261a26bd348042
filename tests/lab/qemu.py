"""Machines of QEMU's software emulation: AMD-V, firmware of products, and Xen under a Linux of its own."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments.guest_kernel import Kernel, quick_image

from .packages import LabError, unpacked
from .processes import run_to_end

QEMU = "qemu-system-x86_64"
XEN = "xen-hypervisor-4.17-amd64"


@dataclass(frozen=True)
class Xen:
    """The hypervisor under the guest's kernel, which becomes its first domain."""

    options: str = "dom0_mem=1280M,max:1280M"
    virtio: str = ""
    """What is added to virtio devices: a PVH domain reaches them through an IOMMU."""


@dataclass(frozen=True)
class Qemu:
    """One machine. `smbios`: `type=…` strings as -smbios takes them, a comma within a value written twice."""

    cpu: str = "max"
    machine: str = "q35"
    memory_mib: int = 1024
    smbios: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    command_line: str = ""
    xen: Xen | None = None
    limit_s: float = 240

    @property
    def host_root(self) -> bool:
        return True

    @property
    def power_off(self) -> str:
        return ""

    def check(self) -> None:
        if not shutil.which(QEMU):
            raise LabError(f"{QEMU} is not installed: the package qemu-system-x86 brings it")

    def boot(self, place: Path, kernel: Kernel, initramfs: Path, tools: Path | None = None) -> float:
        """Run it to its end; the guest's words are in place/console and place/answer. Wall time in s."""
        options = [*self._machine(place, tools), *self._kernel(kernel, initramfs)]
        return run_to_end([QEMU, *options], place, limit_s=self.limit_s)

    def _machine(self, place: Path, tools: Path | None) -> list[str]:
        virtio = self.xen.virtio if self.xen else ""
        options = ["-M", self.machine, "-accel", "tcg", "-cpu", self.cpu, "-m", str(self.memory_mib), "-smp", "1"]
        options += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        options += ["-serial", f"file:{place / 'console'}", "-serial", f"file:{place / 'answer'}"]
        for tag, path in (("host", Path("/")), ("tools", tools)):
            if path is not None:
                options += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap"]
                options += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}{virtio}"]
        options += [word for text in self.smbios for word in ("-smbios", text)]
        return options + [word for device in self.devices for word in ("-device", device)]

    def _kernel(self, kernel: Kernel, initramfs: Path) -> list[str]:
        console = "hvc0" if self.xen else "ttyS0"
        # Linux counts timer interrupts while it boots; on a busy host an emulator cannot deliver them in time.
        words = f"console={console} quiet panic=-1 no_timer_check {self.command_line}".strip()
        if self.xen is None:
            return ["-kernel", str(quick_image(kernel)), "-initrd", str(initramfs), "-append", f"{words} reboot=t"]
        hypervisor = initramfs.with_name("xen")
        hypervisor.write_bytes(gzip.decompress(next(xen_tree().glob("boot/xen-*.gz")).read_bytes()))
        loaded = ["-kernel", str(hypervisor), "-append", f"com1=115200,8n1 console=com1 {self.xen.options}"]
        return [*loaded, "-initrd", f"{kernel.image} {words},{initramfs}"]


def xen_tree() -> Path:
    """The hypervisor's package, unpacked."""
    return unpacked("xen", [XEN])
