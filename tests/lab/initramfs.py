"""What a bench's first root holds: files, programs with their libraries, kernel modules."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vprobe.environments.guest_kernel import Kernel
from vprobe.environments.initramfs import Entry, archive

from .packages import LabError


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

    def modules(self, kernel: Kernel, names: Iterable[str]) -> str:
        """Modules and all that they need, uncompressed, below /modules; their names in the order in which they load."""
        needed = kernel.resolve(names)
        for module in needed:
            self.add(f"modules/{module.name}.ko", module.read())
        return "\n".join(module.name for module in needed)

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
        """The archive that the kernel unpacks."""
        entries = {name: Entry(stat.S_IFREG | mode, content) for name, (content, mode) in self.files.items()}
        entries |= {name: Entry(stat.S_IFLNK | 0o777, aim.encode()) for name, aim in self.links.items()}
        target.write_bytes(archive(entries))
        return target


def find_busybox(tree: Path) -> Path:
    """The static busybox of an unpacked package, or the one that is installed if it is static."""
    for candidate in (tree / "usr/bin/busybox", Path(shutil.which("busybox") or "/nonexistent")):
        if candidate.is_file():
            return candidate
    raise LabError("no busybox: the package busybox-static holds it")
