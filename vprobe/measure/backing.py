"""What storage workloads run on: file system and block device below the scratch directory, as the kernel tells.

Sources: proc_pid_mountinfo(5), sysfs-block, open(2) on O_DIRECT. What cannot be read is left out.
"""

from __future__ import annotations

import os
from pathlib import Path

from vprobe.environments import sessions
from vprobe.suites import StorageFacts
from vprobe.suites.storage import SMALL, buffer, refuses_unaligned

SECTOR_BYTES = 512
"""Unit of /sys/dev/block/*/size whatever the device's own sectors are."""
QUEUE = ("rotational", "scheduler", "write_cache", "logical_block_size")
MAXIMUM_TEXT = 128


def direct(directory: Path) -> str:
    """How the file system takes O_DIRECT, found out with a file without a name: "none", "lenient" or "strict".

    A strict one refuses a read that is not aligned, by which an environment that takes the flag and does not obey it gives
    itself away.
    """
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    except OSError:
        return "none"
    try:
        os.pwritev(descriptor, [buffer(SMALL)], 0)
        return "strict" if refuses_unaligned(descriptor) else "lenient"
    except OSError:
        return "none"
    finally:
        os.close(descriptor)


def block_device(directory: Path) -> dict[str, str]:
    """Name, size and queue of the block device that the file system is on; {} for one that is on none of its own."""
    number = directory.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not device.exists():
        return {}
    device = device.resolve()
    whole = device.parent if (device / "partition").exists() else device
    facts = {"device": device.name}
    paths = {"model": whole / "device" / "model", **{name: whole / "queue" / name for name in QUEUE}}
    for name, path in paths.items():
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()[:MAXIMUM_TEXT]
        except OSError:
            continue
        facts[name] = "".join(c if c.isprintable() else "?" for c in text)
    return facts


def describe(directory: Path) -> StorageFacts:
    """Of a directory: what is below it, and how much is free for this user."""
    kind, source = sessions.file_system(directory)
    space = os.statvfs(directory)
    memory = kind in sessions.IN_MEMORY
    return StorageFacts(
        backing={"file_system": kind, "source": source, **block_device(directory)},
        direct="none" if memory else direct(directory),  # tmpfs takes the flag and has nothing that it could pass by
        free_bytes=space.f_bavail * space.f_frsize,
        directory=str(directory),
    )
