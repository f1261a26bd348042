"""A guest's first root: files, directories and kernel modules in a cpio archive (Documentation/driver-api/early-userspace).

The archive is written here, without cpio or root: the kernel makes the device nodes that it needs by itself.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .packages import LabError


@dataclass(frozen=True)
class Kernel:
    """A kernel of the distribution and its modules."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        return self.modules.name

    def with_dependencies(self, names: Iterable[str]) -> list[Path]:
        """Files of modules and of all that they need, in the order in which they can be loaded.

        A name that is built into the kernel needs no file. Module names may be written with either dash.
        """
        known = {_plain(path.name): path for path in self.modules.rglob("*.ko*")}
        built_in = {_plain(Path(line).name) for line in (self.modules / "modules.builtin").read_text().split()}
        needs: dict[str, list[str]] = {}
        order: list[Path] = []

        def visit(name: str) -> None:
            if name in built_in or (name in known and known[name] in order):
                return
            if name not in known:
                raise LabError(f"{self.release} has no module {name}")
            if name not in needs:
                needs[name] = _depends(known[name])
            for other in needs[name]:
                visit(other)
            order.append(known[name])

        for name in names:
            visit(_plain(name))
        return order


def _plain(name: str) -> str:
    return name.partition(".ko")[0].replace("-", "_")


def _depends(path: Path) -> list[str]:
    """What .modinfo of a module says: `depends=a,b`."""
    for entry in uncompressed(path).split(b"\0"):
        if entry.startswith(b"depends="):
            return [_plain(name) for name in entry[8:].decode().split(",") if name]
    return []


def uncompressed(path: Path) -> bytes:
    """Content of a file that may be compressed as kernels' modules are."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout
    return content


@dataclass
class Archive:
    """What goes into the root, by path without the leading slash."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        self.files[path.lstrip("/")] = (content.encode() if isinstance(content, str) else content, mode)

    def copy(self, source: Path, path: str) -> None:
        """A file with its mode, what a link refers to in its place."""
        self.add(path, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def tree(self, source: Path, prefix: str = "") -> None:
        """Everything below a directory; links stay links."""
        for path in sorted(source.rglob("*")):
            name = f"{prefix}{path.relative_to(source)}"
            if path.is_symlink():
                self.links[name] = str(path.readlink())
            elif path.is_file():
                self.copy(path, name)

    def modules(self, kernel: Kernel, names: Iterable[str]) -> None:
        """Modules, uncompressed, below /modules, and the order in which to load them in /modules/order."""
        files = kernel.with_dependencies(names)
        for path in files:
            self.add(f"modules/{_plain(path.name)}.ko", uncompressed(path))
        self.add("modules/order", "".join(f"{_plain(path.name)}\n" for path in files))

    def program(self, source: Path, path: str, environment: Mapping[str, str] | None = None) -> None:
        """A program or shared object with the shared libraries that ldd(1) names, at the paths that the loader will look at."""
        self._stripped(source, path)
        listed = subprocess.run(["ldd", str(source)], capture_output=True, text=True, check=False, env=environment)
        if "not found" in listed.stdout:
            missing = [line.split()[0] for line in listed.stdout.splitlines() if "not found" in line]
            raise LabError(f"{source.name} lacks {' '.join(missing)}")
        for line in listed.stdout.splitlines():
            words = line.split()
            if "=>" in words and words[2].startswith("/"):
                self._stripped(Path(words[2]), f"lib/{words[0]}")
            elif words and words[0].startswith("/"):
                self._stripped(Path(words[0]), words[0])

    def _stripped(self, source: Path, path: str) -> None:
        """An ELF file without its debugging symbols: they would be most of the archive, and of the guest's memory."""
        if path.lstrip("/") in self.files:
            return
        with tempfile.NamedTemporaryFile(prefix="vprobe-lab-") as result:
            done = subprocess.run(["strip", "-o", result.name, str(source)], capture_output=True, check=False)
            self.copy(Path(result.name) if done.returncode == 0 else source, path)
            self.files[path.lstrip("/")] = (self.files[path.lstrip("/")][0], 0o755)

    def write(self, target: Path) -> Path:
        """The archive in the format "newc"."""
        names = {*self.files, *self.links}
        directories = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}
        directories |= {"proc", "sys", "dev", "run", "tmp", "root"}
        with target.open("wb") as stream:
            for number, name in enumerate((*sorted(directories), *sorted(names), "TRAILER!!!"), 1):
                if name in self.links:
                    content, mode = self.links[name].encode(), stat.S_IFLNK | 0o777
                elif name in self.files:
                    content, permissions = self.files[name]
                    mode = stat.S_IFREG | permissions
                else:
                    content, mode = b"", stat.S_IFDIR | 0o755 if name in directories else 0
                stream.write(_entry(number, name, mode, content))
        return target


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in fields)
    return _padded(header + path) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)


def find_busybox(tree: Path) -> Path:
    """The static busybox of an unpacked package, or the one that is installed if it is static."""
    for candidate in (tree / "usr/bin/busybox", Path(shutil.which("busybox") or "/nonexistent")):
        if candidate.is_file():
            return candidate
    raise LabError("no busybox: the package busybox-static holds it")
