"""A disk from which Bochs boots Linux: loader, boot parameters, the kernel uncompressed, initramfs."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from vprobe.environments import guest_kernel

from .packages import LabError

LOADER = Path(__file__).with_name("loader.S")
SECTOR = 512
BOOT_PARAMS, ENTRY, INITRAMFS = 0x30000, 0x1000000, 0x8000000
MIB = 1 << 20
CYLINDER = 16 * 63 * SECTOR


def check() -> None:
    """LabError where the boot sector cannot be built here."""
    missing = [name for name in ("as", "ld") if shutil.which(name) is None]
    if missing:
        raise LabError(f"{' and '.join(missing)} not found: the package binutils brings them")


def write_disk(target: Path, kernel: Path, initramfs: Path, *, memory_mib: int, command_line: str) -> Path:
    """The image of a disk; its size is whole cylinders."""
    packed = kernel.read_bytes()
    elf = guest_kernel.payload(packed)
    if elf is None:
        raise LabError(f"{kernel} is compressed in a way that is not known here")
    flat = flatten(elf)
    root = initramfs.read_bytes()
    if INITRAMFS + len(root) > memory_mib * MIB - MIB or ENTRY + len(flat) > INITRAMFS:
        raise LabError(f"kernel and initramfs do not fit into {memory_mib} MiB")
    parameters = _boot_params(packed, len(root), memory_mib, command_line)
    blobs = ((parameters, BOOT_PARAMS), (flat, ENTRY), (root, INITRAMFS))
    table = b""
    with target.open("wb") as stream:
        stream.seek(SECTOR)
        position = 1
        for blob, destination in blobs:
            sectors = -(-len(blob) // SECTOR)
            table += struct.pack("<III", position, sectors, destination)
            stream.write(blob + b"\0" * (sectors * SECTOR - len(blob)))
            position += sectors
        stream.truncate(-(-position * SECTOR // CYLINDER) * CYLINDER)
        stream.seek(0)
        data = _loader() + table + bytes(12)
        assert len(data) <= SECTOR - 2, len(data)
        stream.write(data.ljust(SECTOR - 2, b"\0") + b"\x55\xaa")
    return target


def _loader() -> bytes:
    """The boot sector's code, assembled."""
    with tempfile.TemporaryDirectory(prefix="vprobe-lab-") as directory:
        item, image = f"{directory}/loader.o", Path(directory) / "loader"
        subprocess.run(["as", "--32", "-o", item, str(LOADER)], check=True)
        link = ["ld", "-m", "elf_i386", "-Ttext=0x7c00", "-e", "start", "--oformat", "binary"]
        subprocess.run([*link, "-o", str(image), item], check=True)
        return image.read_bytes()


def flatten(elf: bytes) -> bytes:
    """What the loadable segments put into physical memory, from the entry point on."""
    (headers,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    segments = []
    for number in range(count):
        kind, _, offset, _, physical, length = struct.unpack_from("<IIQQQQ", elf, headers + number * size)
        if kind == 1:
            segments.append((physical, elf[offset : offset + length]))
    memory = bytearray(max(physical + len(content) for physical, content in segments) - ENTRY)
    for physical, content in segments:
        memory[physical - ENTRY : physical - ENTRY + len(content)] = content
    return bytes(memory).rstrip(b"\0")


def _boot_params(kernel: bytes, initramfs_bytes: int, memory_mib: int, command_line: str) -> bytes:
    """struct boot_params and the command line behind it (Documentation/arch/x86/zero-page.rst)."""
    page = bytearray(8192)
    header = slice(0x1F1, 0x202 + kernel[0x201])
    page[header] = kernel[header]
    page[0x210] = 0xFF  # type_of_loader: none that has a number
    struct.pack_into("<II", page, 0x218, INITRAMFS, initramfs_bytes)
    struct.pack_into("<I", page, 0x228, BOOT_PARAMS + 4096)
    top = memory_mib * MIB - 0x10000
    ranges = [(0, 0x9F000, 1), (0x9F000, 0x61000, 2), (MIB, top - MIB, 1), (top, 0x10000, 3)]
    page[0x1E8] = len(ranges)
    for number, (start, length, kind) in enumerate(ranges):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * number, start, length, kind)
    page[4096 : 4096 + len(command_line)] = command_line.encode()
    return bytes(page)
