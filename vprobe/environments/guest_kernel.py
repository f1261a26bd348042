"""The kernel of a Linux guest: which one, where its modules are, and its image without compression.

Looked for in this order: the file that the user names; the host's own in /boot, where it may be read and its modules are
there; the newest that `vprobe guest prepare` unpacked into the cache (see guest_package.py).
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vprobe.errors import UsageError

BOOT = Path("/boot")
MODULES = Path("/lib/modules")
ELF_MAGIC = b"\x7fELF"
UNPACK_TIMEOUT_S = 60
PT_NOTE = 4
XEN_ELFNOTE_PHYS32_ENTRY = 18
"""The note of a kernel that can be entered without its loader (include/xen/interface/elfnote.h of Linux)."""


def cache() -> Path:
    """Where kernels are unpacked: XDG_CACHE_HOME/vprobe/guest. Not made here."""
    home = os.environ.get("XDG_CACHE_HOME")  # relative ones are to be ignored (XDG Base Directory Specification)
    root = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return root / "vprobe" / "guest"


@dataclass(frozen=True)
class Module:
    """A module of a kernel."""

    name: str
    path: Path

    def read(self) -> bytes:
        """Its bytes as the kernel takes them. UsageError where the compression is not known here."""
        raw = self.path.read_bytes()
        if raw.startswith(ELF_MAGIC):
            return raw
        plain = decompressed(raw)
        if plain is None:
            raise UsageError(f"{self.path} cannot be unpacked", "install zstd")
        return plain


@dataclass(frozen=True)
class Kernel:
    """A kernel image and its modules. `modules` is None where none were found: then all has to be built in."""

    image: Path
    release: str
    modules: Path | None

    def resolve(self, names: Iterable[str]) -> tuple[Module, ...]:
        """The named modules with all that they need, each after what it needs; those that are built in are left out.

        UsageError for one that is neither a file nor built in. Without any modules at all every one is taken as built in.
        """
        if self.modules is None:
            return ()
        files, built_in = module_files(self.modules), built_in_modules(self.modules)
        found: dict[str, Module] = {}

        def add(name: str) -> None:
            if name in found or name in built_in:
                return
            if name not in files:
                raise UsageError(
                    f"kernel {self.release} has no module {name}", "take another kernel; cloud flavours lack some"
                )
            module = Module(name, files[name])
            for needed in depends(module):
                add(needed)
            found[name] = module

        for name in names:
            add(name.replace("-", "_"))
        return tuple(found.values())


@functools.cache
def module_files(directory: Path) -> dict[str, Path]:
    """Every module below a directory of modules, by its name."""
    return {
        name.partition(".ko")[0].replace("-", "_"): Path(place, name)
        for place, _, names in os.walk(directory)
        for name in names
        if ".ko" in name
    }


@functools.cache
def built_in_modules(directory: Path) -> frozenset[str]:
    """The names in modules.builtin."""
    try:
        lines = (directory / "modules.builtin").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(Path(line).name.partition(".ko")[0].replace("-", "_") for line in lines)


def depends(module: Module) -> tuple[str, ...]:
    """What a module needs, from its section .modinfo: packages bring no modules.dep, depmod(8) makes it at installation."""
    match = re.search(rb"\0depends=([\w,-]*)\0", module.read())
    names = match[1].decode().split(",") if match else []
    return tuple(name.replace("-", "_") for name in names if name)


def decompressed(raw: bytes) -> bytes | None:
    """What a kernel or a module holds, by the compression's own mark; None where that is none that can be undone here.

    Bytes after the end of the compressed data are passed over: a kernel's payload ends with its size.
    """
    try:
        if raw.startswith(b"\xfd7zXZ\0"):
            return lzma.LZMADecompressor().decompress(raw)
        if raw.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw)
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile):
        return None
    program = shutil.which("zstd") if raw.startswith(b"\x28\xb5\x2f\xfd") else None
    if program is None:
        return None
    # It complains about the bytes after the end, after it has written all that there is.
    done = subprocess.run([program, "-dc"], input=raw, capture_output=True, timeout=UNPACK_TIMEOUT_S, check=False)
    return done.stdout or None


def release_of(image: Path) -> str:
    """The release that a kernel image names. UsageError where the file is no kernel.

    Source: Documentation/arch/x86/boot.rst, field kernel_version of the setup header.
    """
    try:
        with image.open("rb") as file:
            head = file.read(1 << 16)
            if head[0x202:0x206] == b"HdrS":
                (offset,) = struct.unpack_from("<H", head, 0x20E)
                return head[offset + 0x200 :].split(b"\0", 1)[0].split(b" ")[0].decode("ascii", "replace")
            match = (
                re.search(rb"Linux version ([\w.+~-]{1,64}) ", head + file.read())
                if head.startswith(ELF_MAGIC)
                else None
            )
    except OSError as error:
        raise UsageError(f"{image}: {error.strerror}", "name a kernel that you may read") from None
    if match is None:
        raise UsageError(f"{image} is not a kernel for x86-64", "a file such as /boot/vmlinuz-VERSION is meant")
    return match[1].decode()


def _modules_of(image: Path, release: str) -> Path | None:
    """Modules of a kernel: beside it as in an unpacked package, the host's own, or in the cache."""
    beside = image.resolve().parent.parent  # PACKAGE/boot/vmlinuz-RELEASE, or MODULES/RELEASE/vmlinuz
    places = [beside / "lib/modules", beside / "usr/lib/modules", beside, MODULES, *_cached_modules()]
    return next((place / release for place in places if (place / release / "kernel").is_dir()), None)


def _cached_modules() -> Iterator[Path]:
    for package in prepared():
        yield from (package / "lib/modules", package / "usr/lib/modules")


def prepared() -> tuple[Path, ...]:
    """What `vprobe guest prepare` has unpacked, the newest first."""
    found = [path for path in cache().glob("kernel-*") if path.is_dir()]
    return tuple(sorted(found, key=lambda path: path.stat().st_mtime, reverse=True))


def named(image: Path) -> Kernel:
    """The kernel that the user names. UsageError where it is none."""
    release = release_of(image)
    return Kernel(image, release, _modules_of(image, release))


def find(image: Path | None = None) -> Kernel | None:
    """The kernel for guests: the named one, the host's own, the newest in the cache, None if there is none."""
    if image is not None:
        return named(image)
    own = BOOT / f"vmlinuz-{platform.release()}"
    if os.access(own, os.R_OK) and (MODULES / platform.release() / "kernel").is_dir():
        return Kernel(own, platform.release(), MODULES / platform.release())
    return next((kernel for package in prepared() if (kernel := find_in(package))), None)


def find_in(package: Path) -> Kernel | None:
    """The kernel of an unpacked package, or None. Fedora keeps the image among the modules."""
    for pattern in ("boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz"):
        for found in sorted(package.glob(pattern)):
            return named(found)
    return None


def has_direct_entry(elf: bytes) -> bool:
    """Whether a kernel in ELF can be entered directly (PVH): QEMU then needs no loader, and nothing is unpacked in the guest."""
    if not elf.startswith(ELF_MAGIC) or len(elf) < 64:
        return False
    table, count = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    for number in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", elf, table + 56 * number)
        if kind == PT_NOTE and _has_entry_note(elf[offset : offset + size]):
            return True
    return False


def _has_entry_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_bytes, text_bytes, kind = struct.unpack_from("<III", notes, at)
        if kind == XEN_ELFNOTE_PHYS32_ENTRY and notes[at + 12 :].startswith(b"Xen\0"):
            return True
        at += 12 + (name_bytes + 3) // 4 * 4 + (text_bytes + 3) // 4 * 4
    return False


def payload(image: bytes) -> bytes | None:
    """The kernel in ELF inside a compressed image (bzImage), or None where it cannot be had.

    Source: Documentation/arch/x86/boot.rst, fields setup_sects, payload_offset and payload_length.
    """
    if image[0x202:0x206] != b"HdrS":
        return None
    offset, size = struct.unpack_from("<II", image, 0x248)
    begin = ((image[0x1F1] or 4) + 1) * 512 + offset
    return decompressed(image[begin : begin + size])


def quick_image(kernel: Kernel) -> Path:
    """The image to boot: the kernel without compression where it can be entered directly, else as it is.

    An emulated CPU takes seconds to unpack a kernel. The unpacked image is kept in the cache, by its image's hash.
    """
    raw = kernel.image.read_bytes()
    if raw.startswith(ELF_MAGIC):
        return kernel.image
    kept = cache() / f"vmlinux-{hashlib.sha256(raw).hexdigest()[:16]}"
    if not kept.exists():
        plain = payload(raw)
        if plain is None or not has_direct_entry(plain):
            return kernel.image
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache(), delete=False) as file:
            file.write(plain)
        Path(file.name).replace(kept)
    return kept
