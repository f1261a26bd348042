"""The distribution's kernel package for Linux guests: what would be fetched, and fetching it with the distribution's own tool.

It is unpacked into the cache and never installed; of its modules only those are kept that a guest can have a use for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import guest_kernel
from vprobe.errors import RunError, UsageError

FETCH_TIMEOUT_S = 1800
ASK_TIMEOUT_S = 120
META_PACKAGES = ("linux-image-amd64", "linux-image-generic", "linux-image-virtual")
"""Debian's, then Ubuntu's names of the package that refers to the newest kernel. Not Debian's cloud flavour: it has no 9p."""

UNUSED = (
    *("sound", "net/wireless", "net/mac80211", "net/bluetooth", "drivers/gpu", "drivers/media", "drivers/infiniband"),
    *("drivers/net/wireless", "drivers/net/ethernet", "drivers/iio", "drivers/hid", "drivers/input", "drivers/staging"),
    *("drivers/usb", "drivers/hwmon", "drivers/mfd", "drivers/regulator", "drivers/bluetooth", "drivers/mtd"),
)
"""Directories of a package's modules that no guest of QEMU has the hardware for: three quarters of its size."""
USED = ("drivers/net/ethernet/intel/e1000",)
"""Directories below those that one has it for."""


@dataclass(frozen=True)
class Package:
    """A package to fetch: what its tool calls it (with the version), and its sizes in bytes."""

    name: str
    version: str
    download_bytes: int
    unpacked_bytes: int


@dataclass(frozen=True)
class Tool:
    """One distribution's package tool. `fetch` puts the packages' files into a directory, `unpack` one file into another."""

    program: str
    ask: Callable[[], tuple[Package, ...]]
    fetch: Callable[[tuple[Package, ...], Path], None]
    unpack: Callable[[Path, Path], None]


def _output(*command: str, directory: Path | None = None, timeout_s: int = ASK_TIMEOUT_S) -> str:
    """What a command prints. RunError with the last that it says where it fails."""
    try:
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise RunError(f"{command[0]} is not installed", f"install the package that brings {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{' '.join(command[:2])} did not end within {timeout_s} s", "see to the network") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise RunError(f"{' '.join(command[:2])}: {lines[-1][:300]}", "as root: apt-get update, then again")
    return done.stdout.decode("utf-8", "replace")


# --- Debian and Ubuntu -------------------------------------------------------------------------------------------------


def _field(text: str, name: str) -> str:
    match = re.search(rf"^{name}: (.+)$", text, re.MULTILINE)
    return match[1] if match else ""


def _apt_show(name: str) -> str:
    return _output("apt-cache", "show", "--no-all-versions", name)


def ask_apt() -> tuple[Package, ...]:
    """The newest kernel's image and, where they are apart (Ubuntu), its modules."""
    for meta in META_PACKAGES:
        try:
            text = _apt_show(meta)
        except RunError:
            continue
        wanted = _depends(text, r"linux-(?:image|modules|modules-extra)-\d")
        image = next((name for name in wanted if name.startswith("linux-image-")), None)
        if image is None:
            continue
        wanted = list(dict.fromkeys([*wanted, *_depends(_apt_show(image), r"linux-modules-\d")]))
        return tuple(_apt_package(name) for name in wanted)
    raise RunError("apt knows no kernel package", "as root: apt-get update; or name a kernel with --kernel FILE")


def _depends(text: str, pattern: str) -> list[str]:
    words = re.split(r"[,|]", _field(text, "Depends"))
    names = [word.split()[0] for word in words if word.strip()]
    return [name for name in names if re.match(pattern, name)]


def _apt_package(name: str) -> Package:
    text = _apt_show(name)
    kibibytes = _field(text, "Installed-Size")
    return Package(name, _field(text, "Version"), int(_field(text, "Size") or 0), int(kibibytes or 0) * 1024)


def fetch_apt(packages: tuple[Package, ...], into: Path) -> None:
    """apt-get download, which needs no root, writes nowhere else and checks the archive's signatures."""
    names = [f"{package.name}={package.version}" for package in packages]
    _output("apt-get", "download", "--quiet", *names, directory=into, timeout_s=FETCH_TIMEOUT_S)


def unpack_deb(file: Path, into: Path) -> None:
    """dpkg-deb -x: the files alone, no script of the package runs."""
    _output("dpkg-deb", "--extract", str(file), str(into), timeout_s=FETCH_TIMEOUT_S)


# --- Fedora and its kin ------------------------------------------------------------------------------------------------

RPM_PACKAGES = ("kernel-core", "kernel-modules-core", "kernel-modules")


def ask_dnf() -> tuple[Package, ...]:
    """The newest kernel's image and modules."""
    wanted = "%{name}\t%{version}-%{release}.%{arch}\t%{downloadsize}\t%{installsize}\n"
    query = (
        "dnf",
        "--quiet",
        "repoquery",
        "--latest-limit=1",
        "--arch=x86_64",
        f"--queryformat={wanted}",
        *RPM_PACKAGES,
    )
    rows = [line.split("\t") for line in _output(*query).splitlines() if line.count("\t") == 3]
    if not rows:
        raise RunError("dnf knows no kernel package", "name a kernel with --kernel FILE")
    return tuple(Package(row[0], row[1], int(row[2]), int(row[3])) for row in rows)


def fetch_dnf(packages: tuple[Package, ...], into: Path) -> None:
    """dnf download, which installs nothing."""
    names = [f"{package.name}-{package.version}" for package in packages]
    _output("dnf", "--quiet", "download", f"--destdir={into}", *names, timeout_s=FETCH_TIMEOUT_S)


def unpack_rpm(file: Path, into: Path) -> None:
    """rpm2cpio and cpio: the files alone, no script of the package runs."""
    pipe = 'rpm2cpio "$1" | cpio --extract --make-directories --quiet --no-absolute-filenames'
    _output("sh", "-c", pipe, "sh", str(file), directory=into, timeout_s=FETCH_TIMEOUT_S)


TOOLS = (Tool("apt-get", ask_apt, fetch_apt, unpack_deb), Tool("dnf", ask_dnf, fetch_dnf, unpack_rpm))


# --- both ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """What would be fetched, with which tool, and where to."""

    tool: Tool
    packages: tuple[Package, ...]

    @property
    def place(self) -> Path:
        """The directory in the cache that it would fill."""
        first = self.packages[0]
        name = re.sub(r"[^\w.+~-]", "_", f"kernel-{first.name}_{first.version}")
        return guest_kernel.cache() / name

    @property
    def download_bytes(self) -> int:
        """Of all packages together."""
        return sum(package.download_bytes for package in self.packages)

    @property
    def unpacked_bytes(self) -> int:
        """Of all packages together, before what no guest needs is left out."""
        return sum(package.unpacked_bytes for package in self.packages)


def offer() -> Offer:
    """What the distribution has to offer. UsageError where its tool is not known, RunError where that fails."""
    tool = next((one for one in TOOLS if shutil.which(one.program)), None)
    if tool is None:
        names = " nor ".join(one.program for one in TOOLS)
        raise UsageError(f"neither {names} is there to fetch a kernel package", "name a kernel with --kernel FILE")
    return Offer(tool, tool.ask())


def prepare(what: Offer) -> Path:
    """Fetch and unpack, whole or not at all; the directory in the cache. RunError where it fails."""
    cache = guest_kernel.cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as directory:
        downloads, root = Path(directory, "downloads"), Path(directory, "root")
        downloads.mkdir()
        root.mkdir()
        what.tool.fetch(what.packages, downloads)
        for file in sorted(downloads.iterdir()):
            what.tool.unpack(file, root)
        drop_unused(root)
        if what.place.exists():
            shutil.rmtree(what.place)
        root.rename(what.place)
    kernel = guest_kernel.find_in(what.place)
    if kernel is None:
        raise RunError(f"{what.place} holds no kernel after unpacking", "name a kernel with --kernel FILE")
    guest_kernel.quick_image(kernel)
    return what.place


def drop_unused(root: Path) -> None:
    """Remove the modules for hardware that no guest has, and the documentation."""
    for kernel in [*root.glob("lib/modules/*/kernel"), *root.glob("usr/lib/modules/*/kernel")]:
        for module in (path for name in UNUSED for path in (kernel / name).rglob("*.ko*")):
            if not any(module.is_relative_to(kernel / name) for name in USED):
                module.unlink()
    shutil.rmtree(root / "usr/share", ignore_errors=True)
