"""Reads this machine: CPUID of every CPU, the MSRs where the msr device allows it, /dev/kvm, and the manifest's files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping

from vprobe.probe.raw import Leaves, Origin, Raw, Unread
from vprobe.probe.sources import paths
from vprobe.probe.sources.kvm import read_kvm
from vprobe.probe.sources.tree import read_tree


def read_live(*, with_identifiers: bool = False) -> Raw:
    """Everything that this process may read of the machine that it runs on."""
    cpus = _allowed_cpus()
    cpuid = _read_cpuid(cpus)
    tree = read_tree("/", with_cpuid=bool(cpuid), with_identifiers=with_identifiers)
    machine = os.uname().machine
    return tree.replace(
        files={**tree.files, **_other_systems()},
        origin=Origin.LIVE,
        machine=machine,
        cpuid=cpuid,
        msrs=_read_msrs(cpus) if _is_x86(machine) else {},
        kvm=read_kvm(),
        effective_uid=os.geteuid(),
        cpu_count=os.cpu_count(),
    )


OTHER_SYSTEMS = {
    "freebsd": ("/sysctl/security.jail.jailed", ("sysctl", "-n", "security.jail.jailed")),
    "sunos": ("/zonename", ("zonename",)),
}
"""sys.platform -> where a recorded tree holds the answer, and the command that gives it."""


def _other_systems() -> dict[str, bytes]:
    """What FreeBSD says of jails and Solaris of zones. Recorded evidence is tested; live, it has not been tried."""
    for name, (path, command) in OTHER_SYSTEMS.items():
        if sys.platform.startswith(name):
            import subprocess  # noqa: PLC0415 - not on Linux

            answer = subprocess.run(command, capture_output=True, check=False, timeout=10)
            return {path: answer.stdout[:4096]}
    return {}


def _is_x86(machine: str) -> bool:
    return machine in {"x86_64", "amd64", "i386", "i486", "i586", "i686"}


def _allowed_cpus() -> list[int]:
    """CPUs that this process may run on: in a container's cpuset the others cannot be asked."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def _read_cpuid(cpus: list[int]) -> dict[int, Leaves]:
    """CPUID of every allowed CPU; empty where the instruction or the extension is not there."""
    try:
        from vprobe._native import cpuid_dump  # noqa: PLC0415 - a broken or missing extension is a fact, not a crash
    except ImportError:
        return {}
    dumps: dict[int, Leaves] = {}
    for cpu in cpus:
        try:
            dumps[cpu] = {(leaf, subleaf): (a, b, c, d) for leaf, subleaf, a, b, c, d in cpuid_dump(cpu)}
        except NotImplementedError:
            return {}
        except OSError:
            continue  # taken offline, or out of our cpuset, since we asked
    return dumps


def _read_msrs(cpus: list[int]) -> Mapping[int, Mapping[int, int | Unread]]:
    """The known MSRs of every CPU. Where the first CPU's device cannot be opened, its errno stands for all."""
    failure = _msr_device_failure(cpus[0])
    if failure is not None:
        return {cpus[0]: dict.fromkeys(paths.MSRS, failure)}
    return {cpu: {index: _read_msr(cpu, index) for index in paths.MSRS} for cpu in cpus}


def _msr_device_failure(cpu: int) -> Unread | None:
    try:
        os.close(os.open(f"/dev/cpu/{cpu}/msr", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return Unread(error.errno or errno.EIO)
    return None


def _read_msr(cpu: int, index: int) -> int | Unread:
    from vprobe._native import read_msr  # noqa: PLC0415 - only where the device opens

    try:
        return read_msr(cpu, index)
    except OSError as error:
        return Unread(error.errno or errno.EIO)
