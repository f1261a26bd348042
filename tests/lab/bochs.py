"""Machines of Bochs: an emulated PC whose processor has VT-x or AMD-V and that owns up to no hypervisor."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments.guest_kernel import Kernel

from . import disk, guest
from .packages import LabError, libraries, unpacked
from .processes import run_to_end

PACKAGES = ("bochs", "bochs-term", "bochsbios", "vgabios")
COMMAND_LINE = (
    "console=ttyS0,115200 cryptomgr.notests initcall_blacklist=trace_eval_init,load_system_certificate_list rodata=off nosmp"
    " nokaslr mitigations=off tsc=reliable no_timer_check audit=0 apparmor=0 selinux=0 random.trust_cpu=on lpj=200000 panic=-1"
    " clearcpuid=221,321,323"
)
"""What costs an emulated processor seconds and decides nothing is left out; and what Bochs 2.7 claims and does not do.

XSAVEC (321) and XSAVES (323) write the upper halves of the YMM registers over the header of the saved state, where XRSTORS does
not look for them: as soon as one of YMM7 to YMM9 is in use, Linux finds its own state invalid. MWAITX (221): only AMD's have it.
"""

CONFIGURATION = """config_interface: textconfig
display_library: rfb, options="timeout=0"
memory: guest={memory}, host={memory}
romimage: file={bios}, options=fastboot
vgaromimage: file={share}/VGABIOS-lgpl-latest
cpu: model={model}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs={ignore}, msrs={place}/msrs
clock: sync=none, time0=utc
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=0
ata0-master: type=disk, mode=volatile, path={place}/disk, cylinders=0, journal={place}/journal
boot: disk
com1: enabled=1, mode=file, dev={place}/console
com2: enabled=1, mode=file, dev={place}/answer
plugin_ctrl: speaker=0, gameport=0, extfpuirq=0, parallel=0
log: {place}/log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""

# Address, type, reset (high, low), reserved bits, ignored bits. IA32_MISC_ENABLE has fast strings on, IA32_BIOS_SIGN_ID a
# microcode revision: Linux takes them for granted.
MSRS = ((0x1A0, 0, 1), (0x08B, 1, 0))
STRICT_MSRS = (*MSRS, *((index, 0, 0) for index in (0xE7, 0xE8, 0x179, 0x19B, 0x19C, 0x1B2, 0x1D9, 0x17A, 0x140, 0x4E)))
"""What Linux reads without asking, where an MSR that Bochs does not have shall fault."""


@dataclass(frozen=True)
class Bochs:
    """One processor model. `strict`: MSRs that it does not have fault, instead of reading 0."""

    model: str
    strict: bool = False
    vmx_disabled: bool = False  # by the BIOS
    memory_mib: int = 512
    limit_s: float = 600

    @property
    def host_root(self) -> bool:
        return False

    @property
    def power_off(self) -> str:
        return guest.BOCHS_POWER_OFF

    def check(self) -> None:
        disk.check()
        own_network()

    def boot(self, place: Path, kernel: Kernel, initramfs: Path, tools: Path | None = None) -> float:
        """Run it to its end; the guest's words are in place/console and place/answer. Wall time in s."""
        tree = unpacked("bochs", PACKAGES, closure=True)
        share = tree / "usr/share/bochs"
        bios = share / "BIOS-bochs-latest"
        if self.vmx_disabled:
            bios = place / "bios"
            bios.write_bytes(without_vmx((share / "BIOS-bochs-latest").read_bytes()))
        disk.write_disk(place / "disk", kernel.image, initramfs, memory_mib=self.memory_mib, command_line=COMMAND_LINE)
        rows = STRICT_MSRS if self.strict else MSRS
        (place / "msrs").write_text(
            "".join(f"{index:#x} 0 {high:08x} {low:08x} 0 0 0 0\n" for index, high, low in rows)
        )
        (place / "configuration").write_text(
            CONFIGURATION.format(
                memory=self.memory_mib,
                bios=bios,
                share=share,
                model=self.model,
                ignore=int(not self.strict),
                place=place,
            )
        )
        (place / "commands").write_text("c\nquit\n")  # Debian's build starts in its debugger
        command = [str(tree / "usr/bin/bochs-bin"), "-q", "-unlock", "-f", "configuration", "-rc", "commands"]
        environment = dict(
            os.environ,
            BXSHARE=str(share),
            LTDL_LIBRARY_PATH=str(tree / "usr/lib/x86_64-linux-gnu/bochs/plugins"),
            LD_LIBRARY_PATH=libraries(tree),
        )
        return run_to_end(
            command,
            place,
            limit_s=self.limit_s,
            good=(0, 1),
            environment=environment,
            prefix=own_network(),
        )


def own_network() -> list[str]:
    """What starts a program in a network of its own: the one display without terminal or X listens on every interface."""
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        raise LabError(
            "Bochs needs a network namespace of its own: run as root, or allow user namespaces (sysctl"
            " user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; a chroot never does)"
        )
    return command


def without_vmx(bios: bytes) -> bytes:
    """The BIOS with VT-x switched off in its setup: it locks IA32_FEATURE_CONTROL (MSR 0x3A) without the VMX bit.

    The BIOS of Bochs sets that MSR in two places, for the first processor and for the others, by `or eax, 5` (83 C8 05).
    """
    patched, found = bytearray(bios), 0
    for opcode in (b"\xb9", b"\xbb", b"\xbe", b"\xbf"):  # mov ecx / ebx / esi / edi, 0x3A
        at = bios.find(opcode + b"\x3a\0\0\0")
        while at >= 0:
            change = bios.find(b"\x83\xc8\x05", max(at - 24, 0), at + 40)
            if change >= 0:
                patched[change + 2] = 1
                found += 1
            at = bios.find(opcode + b"\x3a\0\0\0", at + 1)
    if found != 2:
        raise LabError(
            f"this BIOS sets IA32_FEATURE_CONTROL in {found} places instead of 2: it is not the one that is known"
        )
    return bytes(patched)
