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


def boundary() -> dict[str, Any]:
    """What tells one place from another. Keys that cannot be read hold None."""
    root = os.stat("/")
    return {
        "namespaces": namespaces(),
        "root": f"{root.st_dev}:{root.st_ino}",
        "root_mount": root_mount(),
        "kernel": _text("/proc/version"),
        "cpuid_signature": cpuid_signature(),
        "cgroup": _text("/proc/self/cgroup"),
        "hostname": os.uname().nodename[:64],
        "pid": os.getpid(),
    }


def _hash_files(paths: list[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def python_hash() -> str:
    """SHA-256 over the interpreter's version and its executable's bytes."""
    text = hashlib.sha256(sys.version.encode()).hexdigest()
    return hashlib.sha256((text + _hash_files([os.path.realpath(sys.executable)])).encode()).hexdigest()


def vprobe_hash() -> str:
    """SHA-256 over the agent's own files: suites, agent, native extension."""
    import vprobe.suites  # noqa: PLC0415 - only this function needs it

    package = os.path.dirname(os.path.abspath(__file__))
    suite = os.path.dirname(os.path.abspath(vprobe.suites.__file__))
    paths = [os.path.join(package, name) for name in ("agent.py", "evidence.py")]
    paths += sorted(os.path.join(suite, name) for name in os.listdir(suite) if name.endswith(".py"))
    native = sys.modules.get("vprobe._native")
    if native is not None and native.__file__:
        paths.append(native.__file__)
    return _hash_files(paths)
