"""kvm: the native micro-VM on /dev/kvm alone. A host process owns it, so to the schedule it is a session like any other."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import platform
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, process
from vprobe.model import VirtClass

DEVICE = Path("/dev/kvm")
# <linux/kvm.h>: _IO(KVMIO, 0x00) and _IO(KVMIO, 0x01)
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
API_VERSION = 12
"""The only one there is since Linux 2.6.22 (Documentation/virt/kvm/api.rst, 4.1)."""


def no_device() -> Unavailable:
    """Why /dev/kvm is missing, as far as that shows."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    if Path("/sys/class/misc/kvm").exists():
        return Unavailable("/dev/kvm is not there, though the kernel has KVM", "in a container: pass --device /dev/kvm")
    if "vmx" in flags or "svm" in flags:
        module = "kvm_intel" if "vmx" in flags else "kvm_amd"
        return Unavailable(
            "/dev/kvm is not there: KVM's module is not loaded", f"as root: modprobe {module}; see 'vprobe check kvm'"
        )
    return Unavailable(
        "/dev/kvm is not there, and the CPU shows neither VT-x nor AMD-V",
        "enable virtualization in the firmware, or nesting in the hypervisor above; see 'vprobe check kvm'",
    )


def forbidden() -> Unavailable:
    """/dev/kvm is there, and not for us."""
    status = DEVICE.stat()
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    if status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP:
        remedy = f"as root: usermod -aG {group} USER, then log in again"
    else:
        remedy = f"run as root, or as root: chgrp kvm /dev/kvm && chmod 660 /dev/kvm (it is {group}'s now)"
    return Unavailable("/dev/kvm: permission denied", remedy)


def refused(error: OSError) -> Unavailable:
    """What KVM means by an errno."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return forbidden()
    if error.errno == errno.ENOENT:
        return no_device()
    said = f"/dev/kvm: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP):
        return Unavailable(said, "the device is there and the driver is not: load kvm_intel or kvm_amd")
    if error.errno == errno.EBUSY:
        return Unavailable(said, "another hypervisor (VirtualBox, VMware) holds VT-x or AMD-V: stop its machines")
    if error.errno == errno.ENOMEM:
        return Unavailable(said, "free memory, or raise the limits of this user or container")
    return Unavailable(said, "see 'vprobe check kvm'")


def create_vm() -> None:
    """Open /dev/kvm, create a VM and close it again. OSError with KVM's errno."""
    device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        found = fcntl.ioctl(device, KVM_GET_API_VERSION)
        if found != API_VERSION:
            raise OSError(errno.EPROTO, f"KVM API version {found}")
        os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
    finally:
        os.close(device)


def not_running() -> Unavailable | None:
    """Why guest code does not run although KVM creates VMs; None if it does."""
    try:
        from vprobe import _native  # noqa: PLC0415 - where it was not built, that is a reason and not a crash

        with _native.MicroVM(0) as machine:
            machine.evidence()
    except ImportError as error:
        return Unavailable(
            f"vprobe's native extension does not load: {error}", "install vprobe again with a C compiler"
        )
    except (OSError, RuntimeError) as error:
        return Unavailable(f"KVM creates a VM and cannot run it: {error}"[:300], "see 'vprobe check kvm'")
    return None


@dataclass(frozen=True)
class Kvm:
    """Kernels in guests of one vCPU at ring 3; the agent around them is a plain host process."""

    name: str = "kvm"
    virt_class: VirtClass = VirtClass.FULL_HARDWARE
    capabilities: frozenset[str] = frozenset({"kernels", "microvm"})
    boundary: frozenset[str] = frozenset({"microvm.nonce"})

    def availability(self) -> Available | Unavailable:
        if platform.machine() != "x86_64":
            return Unavailable(f"the micro-VM is written for x86-64, this is {platform.machine()}", "")
        try:
            create_vm()
        except OSError as error:
            return refused(error)
        return not_running() or Available(f"KVM API {API_VERSION}, Linux {platform.release()}")

    def agent_options(self) -> Mapping[str, str]:
        return {"executor": "microvm"}

    def start(self, launch: Launch) -> process.ProcessSession:
        return process.start(process.plain(launch), launch)


def environment(name: str) -> Kvm:
    """The environment of that name."""
    return Kvm(name)
