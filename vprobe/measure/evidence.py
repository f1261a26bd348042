"""What a process sees of the place that it runs in. Standard library only: the agent imports it.

Everything is bounded text: a hostile /proc cannot make a message long.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from typing import Any

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
MAX_TEXT = 512


def _text(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return None


def namespaces() -> dict[str, int]:
    """Inode of each namespace of this process, of those that /proc shows."""
    inodes = {}
    for name in NAMESPACES:
        try:
            inodes[name] = os.stat(f"/proc/self/ns/{name}").st_ino
        except OSError:
            continue
    return inodes


def root_mount() -> str | None:
    """Device, file system type and source of what is mounted on /, as /proc/self/mountinfo says (proc(5))."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    root = None
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 6 and fields[4] == "/" and "-" in fields:
            tail = fields[fields.index("-") + 1 :]
            root = " ".join([fields[2], fields[3], fields[5], *tail[:2]])[:MAX_TEXT]
    return root


def cpuid_signature() -> str | None:
    """The hypervisor's signature in CPUID 0x40000000, "" where no hypervisor shows, None where it cannot be read."""
    try:
        from vprobe import _native  # noqa: PLC0415 - the agent runs without it, too

        cpu = min(os.sched_getaffinity(0))
        if not _native.cpuid(cpu, 1)[2] >> 31 & 1:
            return ""
        _, ebx, ecx, edx = _native.cpuid(cpu, 0x40000000)
    except (ImportError, NotImplementedError, OSError):
        return None
    return struct.pack("<3I", ebx, ecx, edx).rstrip(b"\0").decode("latin-1")


def connection() -> str | None:
    """A digest of what sshd says of the connection that this process came through; None outside of one (ssh(1))."""
    said = os.environ.get("SSH_CONNECTION")
    return hashlib.sha256(said.encode()).hexdigest()[:16] if said else None  # no addresses: run files are shown around


def drivers(device: str) -> str:
    """The drivers of a device in sysfs, each on the next, "" for none: "virtio_blk on virtio-pci"."""
    path, names = os.path.realpath(device), []
    while path.startswith("/sys/devices/"):
        if os.path.islink(f"{path}/driver"):
            names.append(os.path.basename(os.readlink(f"{path}/driver")))
        path = os.path.dirname(path)
    return " on ".join(names)


def guest_devices(storage: str) -> dict[str, str]:
    """What a guest of vprobe's own has to be measured on: how many CPUs, the drivers of its disk and its network card."""
    paths = {"storage": f"/sys/class/block/{os.path.basename(storage)}", "network": "/sys/class/net/eth0"}
    found = {name: drivers(path) for name, path in paths.items() if os.path.exists(path)}
    return {"cpus": str(os.cpu_count()), **found}


def boundary() -> dict[str, Any]:
    """What tells one place from another. Keys that cannot be read hold None."""
    root = os.stat("/")
    return {
        "namespaces": namespaces(),
        "root": f"{root.st_dev}:{root.st_ino}",
        "root_mount": root_mount(),
        "kernel": _text("/proc/version"),
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "cpuid_signature": cpuid_signature(),
        "cgroup": _text("/proc/self/cgroup"),
        "hostname": os.uname().nodename[:64],
        "pid": os.getpid(),
        "connection": connection(),
    }


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _hash(contents: list[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def python_hash() -> str:
    """SHA-256 over the interpreter's version and its executable's bytes."""
    text = hashlib.sha256(sys.version.encode()).hexdigest()
    return hashlib.sha256((text + _hash([_read(os.path.realpath(sys.executable))])).encode()).hexdigest()


def vprobe_hash() -> str:
    """SHA-256 over the agent's own files: suites, agent, native extension."""
    import pkgutil  # noqa: PLC0415 - only this function needs them

    import vprobe.suites  # noqa: PLC0415

    package, suite = (os.path.dirname(os.path.abspath(file)) for file in (__file__, vprobe.suites.__file__))
    names = sorted(module.name for module in pkgutil.iter_modules([suite]))
    paths = [f"{package}/agent.py", f"{package}/evidence.py", *(f"{suite}/{name}.py" for name in ["__init__", *names])]
    contents = [__spec__.loader.get_data(path) for path in paths]  # type: ignore[union-attr] # also out of a zipapp
    native = sys.modules.get("vprobe._native")
    if native is not None and native.__file__:
        contents.append(_read(native.__file__))
    return _hash(contents)
