"""What a file system and the block device below it do, in the scratch directory, which is the same in every environment.

Each arm has a file of its own there, laid out once a run with bytes that neither compress nor repeat. Reads and writes go
past the page cache (O_DIRECT) where the file system has that, and through it where it has not; which of the two is among the
recorded parameters, as are file system and device. One request at a time: a latency, not what a deep queue reaches.

Where an environment brings a block device instead (a guest's raw virtio disk), that is used itself.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import FULL, Block, Place, UnsupportedError, workload

KIB, MIB = 1 << 10, 1 << 20
FILE_BYTES = 64 * MIB
SMALL, LARGE = 4 * KIB, 1 * MIB
NOT_DIRECT = "none"
ACCESSES = 1 << 14
"""Length of the sequence of random places, which then repeats."""


class DataFile:
    """An arm's file, or its block device: open, and of FILE_BYTES."""

    def __init__(self, path: str, direct: str) -> None:
        if not Path(path).exists():
            lay_out(path)
        is_device = Path(path).is_block_device()
        flags = os.O_DIRECT if is_device or direct != NOT_DIRECT else 0
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags)
        except OSError as error:
            raise UnsupportedError(f"{path} cannot be opened: {error.strerror}") from None
        size = os.lseek(self.descriptor, 0, os.SEEK_END)
        reason = ""
        if size < FILE_BYTES:
            reason = f"{path} has {size} bytes, and {FILE_BYTES} are needed"
        elif direct == "strict" and not refuses_unaligned(self.descriptor):
            reason = "O_DIRECT is taken here and not obeyed: the figures would be those of a cache of this environment"
        if reason:
            self.close()
            raise UnsupportedError(reason)

    def close(self) -> None:
        """Close it. It goes with the scratch directory."""
        os.close(self.descriptor)


def refuses_unaligned(descriptor: int) -> bool:
    """Whether a read that is not aligned is refused, as O_DIRECT has it (open(2))."""
    try:
        os.pread(descriptor, 100, 1)
    except OSError:
        return True
    return False


def lay_out(path: str) -> None:
    """Write the file whole and have it on the device: neither holes nor anything that a layer below could shorten.

    Under another name first, so that a file of this name is always a whole one.
    """
    source = random.Random(path)
    unfinished = f"{path}.unfinished"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(FILE_BYTES // LARGE):
            os.write(descriptor, source.randbytes(LARGE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(unfinished).rename(path)


def buffer(size: int) -> mmap.mmap:
    """Memory at the beginning of a page, as O_DIRECT demands, filled."""
    memory = mmap.mmap(-1, size)
    memory.write(random.Random(size).randbytes(size))
    return memory


def places(pattern: str, block_bytes: int) -> list[int]:
    """Offsets of the accesses: one after the other, or drawn at random."""
    offsets = range(0, FILE_BYTES, block_bytes)
    if pattern == "sequential":
        return list(offsets)
    return random.Random(1).choices(offsets, k=ACCESSES)  # a fifth of the time that one draw after the other takes


class Accesses:
    """A block that goes through a sequence of places, and goes on where the last one stopped."""

    def __init__(self, file: DataFile, offsets: list[int], block_bytes: int, operation: str) -> None:
        self.file = file
        self.offsets = offsets
        self.position = 0
        self.memory = [buffer(block_bytes)]
        self.operation: Callable[[int, list[mmap.mmap], int], int] = os.preadv if operation == "read" else os.pwritev
        self.sync = operation == "fsync"

    def __call__(self, iterations: int) -> None:
        operation, descriptor, memory, offsets = self.operation, self.file.descriptor, self.memory, self.offsets
        position, sync = self.position, os.fsync if self.sync else None
        for _ in range(iterations):
            operation(descriptor, memory, offsets[position])
            position += 1
            if position == len(offsets):
                position = 0
            if sync is not None:
                sync(descriptor)
        self.position = position

    def close(self) -> None:
        self.file.close()


def accesses(place: Place, pattern: str, operation: str, block_bytes: int, direct: str) -> Block:
    """A block of one of the workloads below."""
    file = DataFile(place.storage, direct)
    return Accesses(file, places(pattern, block_bytes), block_bytes, operation)


def parameters(pattern: str, operation: str, block_bytes: int) -> dict[str, object]:
    """One row of parameters; what the directory is like comes along from StorageFacts."""
    return {"pattern": pattern, "operation": operation, "block_bytes": block_bytes}


FIO_ACCESSES = 500
"""Of one run of fio: a fraction of a second for reads."""
FIO_MODES = {
    "random_read": ("randread", SMALL, "0"),
    "random_write": ("randwrite", SMALL, "0"),
    "sequential_read": ("read", LARGE, "0"),
    "sequential_write": ("write", LARGE, "0"),
    "fsync": ("randwrite", SMALL, "1"),
}
"""Label to fio's own words: rw, block size, fsync."""


class Fio:
    """fio(1) on the arm's file, by psync: one access at a time, as the workloads above."""

    def __init__(self, place: Place, mode: str, direct: str) -> None:
        program = shutil.which("fio")
        if program is None:
            raise UnsupportedError("fio is not installed there: apt-get install fio")
        DataFile(place.storage, direct).close()  # laid out, and what O_DIRECT is worth there
        words, block_bytes, sync = FIO_MODES[mode]
        self.parts = ["read" if "read" in words else "write", *(["sync"] if sync == "1" else [])]
        self.command = [
            *(program, "--name=vprobe", f"--filename={place.storage}", f"--rw={words}", f"--bs={block_bytes}"),
            *(f"--size={FILE_BYTES}", f"--number_ios={FIO_ACCESSES}", f"--io_size={FIO_ACCESSES * block_bytes}"),
            *("--ioengine=psync", "--thread", "--randrepeat=0", "--norandommap", "--output-format=json"),
            *(f"--direct={int(direct != NOT_DIRECT)}", f"--fsync={sync}"),
        ]

    def __call__(self, iterations: int) -> int:
        return sum(self._access_ns() for _ in range(iterations))

    def _access_ns(self) -> int:
        """ns of an access: fio's own mean, and that of the fsync behind it. Its start and end are not the disk's, and its
        running time, from which its rates come, is told in whole milliseconds."""
        done = subprocess.run(self.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"fio: {(done.stderr or done.stdout).strip()[-300:]}")
        job = json.loads(done.stdout)["jobs"][0]
        return round(sum(float(job[part]["lat_ns"]["mean"]) for part in self.parts))


@workload(
    "storage.fio",
    kind="python",
    needs=("python", "storage", "commands"),
    level=FULL,
    parameters={label: {"mode": label} for label in FIO_MODES},
)
def fio(place: Place, mode: str, direct: str, backing: Mapping[str, str]) -> Block:
    """An access by fio where it is installed, of the same kind and size as the workload of that name: ns of one, of 500."""
    del backing
    return Fio(place, mode, direct)


NEEDS = ("python", "storage")
_declare = functools.partial(workload, kind="python", needs=NEEDS)


@_declare("storage.random_read", parameters={"4KiB": parameters("random", "read", SMALL)})
def random_read(place: Place, direct: str, backing: Mapping[str, str], **how: Any) -> Block:
    """Read 4 KiB at a random place in 64 MiB."""
    del backing  # recorded, and not used
    return accesses(place, direct=direct, **how)


@_declare("storage.random_write", parameters={"4KiB": parameters("random", "write", SMALL)})
def random_write(place: Place, direct: str, backing: Mapping[str, str], **how: Any) -> Block:
    """Write 4 KiB at a random place in 64 MiB."""
    del backing
    return accesses(place, direct=direct, **how)


_declare_bandwidth = functools.partial(_declare, unit="B/s", better="higher")


@_declare_bandwidth("storage.sequential_read", parameters={"1MiB": parameters("sequential", "read", LARGE)})
def sequential_read(place: Place, direct: str, backing: Mapping[str, str], **how: Any) -> Block:
    """Read 64 MiB from end to end, 1 MiB at a time."""
    del backing
    return accesses(place, direct=direct, **how)


@_declare_bandwidth("storage.sequential_write", parameters={"1MiB": parameters("sequential", "write", LARGE)})
def sequential_write(place: Place, direct: str, backing: Mapping[str, str], **how: Any) -> Block:
    """Write 64 MiB from end to end, 1 MiB at a time."""
    del backing
    return accesses(place, direct=direct, **how)


@_declare("storage.fsync", parameters={"": parameters("random", "fsync", SMALL)})
def fsync(place: Place, direct: str, backing: Mapping[str, str], **how: Any) -> Block:
    """Write 4 KiB at a random place in 64 MiB and have it on the device: fsync(2)."""
    del backing
    return accesses(place, direct=direct, **how)
