"""The guest's kernel is found, its modules come in an order that loads, and its image can be had without compression."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest

from vprobe.environments import guest_kernel, guest_package
from vprobe.errors import UsageError

RELEASE = "6.1.0-9-test"


def module(depends: str = "") -> bytes:
    """A module as far as it matters here: an ELF mark and a section .modinfo."""
    return b"\x7fELF" + b"\0" * 20 + f"\0license=GPL\0depends={depends}\0retpoline=Y\0".encode()


def bz_image(payload: bytes) -> bytes:
    """An image with the fields of the boot protocol that are read: two set-up sectors, then the payload."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x100)
    struct.pack_into("<II", image, 0x248, 16, len(payload))
    text = f"{RELEASE} (someone@somewhere) #1 SMP\0".encode()
    image[0x300 : 0x300 + len(text)] = text
    return bytes(image) + b"\0" * 16 + payload


def elf(note: int) -> bytes:
    """An ELF file with one note of the name Xen."""
    notes = struct.pack("<III", 4, 8, note) + b"Xen\0" + b"\0" * 8
    header = b"\x7fELF" + b"\0" * 28 + struct.pack("<Q", 64) + b"\0" * 16 + struct.pack("<H", 1)
    header += b"\0" * (64 - len(header))
    return header + struct.pack("<IIQQQQ", 4, 0, 120, 0, 0, len(notes)) + b"\0" * 16 + notes


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one unpacked package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guest_kernel, "BOOT", tmp_path / "no-boot")
    place = tmp_path / "vprobe/guest/kernel-test"
    modules = place / "lib/modules" / RELEASE / "kernel"
    (modules / "net").mkdir(parents=True)
    (modules / "virtio.ko").write_bytes(module())
    (modules / "9pnet.ko.xz").write_bytes(lzma.compress(module()))
    (modules / "net" / "9pnet_virtio.ko").write_bytes(module("virtio,9pnet"))
    (modules.parent / "modules.builtin").write_text("kernel/fs/over-lay.ko\n")
    (place / "boot").mkdir()
    (place / "boot" / f"vmlinuz-{RELEASE}").write_bytes(bz_image(lzma.compress(elf(18)) + b"size"))
    return place


def test_finds_the_prepared_kernel_with_its_modules(package: Path) -> None:
    """What was unpacked into the cache is what guests boot where the host's own kernel cannot be read."""
    kernel = guest_kernel.find()
    assert kernel is not None
    assert (kernel.release, kernel.modules) == (RELEASE, package / "lib/modules" / RELEASE)


def test_a_named_kernel_comes_first_and_finds_its_modules_in_the_cache(package: Path, tmp_path: Path) -> None:
    """--kernel FILE wins, and a copy of a prepared kernel still finds modules of its release."""
    copy = tmp_path / "elsewhere" / "my-kernel"
    copy.parent.mkdir()
    copy.write_bytes((package / "boot" / f"vmlinuz-{RELEASE}").read_bytes())
    kernel = guest_kernel.find(copy)
    assert kernel is not None
    assert (kernel.image, kernel.modules) == (copy, package / "lib/modules" / RELEASE)


def test_modules_come_after_what_they_need(package: Path) -> None:
    """Each module comes after those that it depends on, compressed ones too; built-in ones are left out."""
    kernel = guest_kernel.find()
    assert kernel is not None
    modules = kernel.resolve(["9pnet-virtio", "over_lay"])
    assert [one.name for one in modules] == ["virtio", "9pnet", "9pnet_virtio"]
    assert all(one.read().startswith(b"\x7fELF") for one in modules)


def test_a_missing_module_names_kernel_and_module(package: Path) -> None:
    """A kernel without 9p is refused with words, not with a guest that hangs."""
    kernel = guest_kernel.find()
    assert kernel is not None
    with pytest.raises(UsageError, match=f"{RELEASE} has no module virtiofs"):
        kernel.resolve(["virtiofs"])


def test_the_image_is_unpacked_once_where_it_can_be_entered_directly(package: Path) -> None:
    """A kernel with the PVH note boots without compression, from the cache."""
    kernel = guest_kernel.find()
    assert kernel is not None
    quick = guest_kernel.quick_image(kernel)
    assert quick.parent == guest_kernel.cache()
    assert quick.read_bytes() == elf(18)
    assert guest_kernel.quick_image(kernel) == quick


@pytest.mark.parametrize(
    "image",
    [bz_image(gzip.compress(elf(17))), bz_image(b"\x28\xb5\x2f\xfd broken"), bz_image(b"\xfd7zXZ\0 broken")],
    ids=["no direct entry", "broken zstd", "broken xz"],
)
def test_other_images_are_booted_as_they_are(package: Path, image: bytes) -> None:
    """What cannot be unpacked or entered directly goes through its own loader."""
    file = package / "boot" / f"vmlinuz-{RELEASE}"
    file.write_bytes(image)
    assert guest_kernel.quick_image(guest_kernel.named(file)) == file


def test_what_is_no_kernel_is_refused(tmp_path: Path) -> None:
    """One line says that the file is no kernel, or that it cannot be read."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UsageError, match="is not a kernel"):
        guest_kernel.named(tmp_path / "text")
    with pytest.raises(UsageError, match="No such file"):
        guest_kernel.named(tmp_path / "nothing")


SHOWN = {
    "linux-image-amd64": "Package: linux-image-amd64\nDepends: linux-image-6.1.0-9-amd64 (= 6.1.9-1)\n",
    "linux-image-6.1.0-9-amd64": (
        "Package: x\nVersion: 6.1.9-1\nInstalled-Size: 400000\nDepends: kmod, linux-base (>= 4.3~) | other\nSize: 70000000\n"
    ),
    "linux-image-generic": (
        "Depends: linux-image-6.8.0-31-generic, linux-modules-extra-6.8.0-31-generic, linux-firmware\n"
    ),
    "linux-image-6.8.0-31-generic": "Version: 6.8\nSize: 1\nDepends: kmod, linux-modules-6.8.0-31-generic\n",
    "linux-modules-6.8.0-31-generic": "Version: 6.8\nSize: 2\nInstalled-Size: 5\n",
    "linux-modules-extra-6.8.0-31-generic": "Version: 6.8\nSize: 4\n",
}


@pytest.mark.parametrize(
    ("hidden", "names", "size"),
    [
        ("", ["linux-image-6.1.0-9-amd64"], 70000000),
        (
            "amd64",
            [
                "linux-image-6.8.0-31-generic",
                "linux-modules-extra-6.8.0-31-generic",
                "linux-modules-6.8.0-31-generic",
            ],
            7,
        ),
    ],
    ids=["Debian", "Ubuntu"],
)
def test_what_apt_would_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: str, names: list[str], size: int
) -> None:
    """Debian's kernel is one package, Ubuntu's comes with its modules apart; the sizes are apt's."""
    for name, text in SHOWN.items():
        if not hidden or hidden not in name:
            (tmp_path / name).write_text(text)
    apt = tmp_path / "apt-cache"
    apt.write_text(f"#!/bin/sh\n[ \"$1\" = show ] && cat '{tmp_path}'/$3\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    packages = guest_package.ask_apt()
    assert [package.name for package in packages] == names
    assert sum(package.download_bytes for package in packages) == size


def test_what_no_guest_has_is_dropped_and_its_network_card_is_not(tmp_path: Path) -> None:
    """Of the drivers of network cards that of the emulated one stays."""
    drivers = tmp_path / "lib/modules/6.1/kernel/drivers"
    modules = (
        "net/ethernet/intel/e1000/e1000.ko.xz",
        "net/ethernet/intel/igb/igb.ko",
        "gpu/x.ko",
        "block/virtio_blk.ko",
    )
    for name in modules:
        (drivers / name).parent.mkdir(parents=True)
        (drivers / name).write_bytes(b"")
    guest_package.drop_unused(tmp_path)
    assert [name for name in modules if (drivers / name).exists()] == [modules[0], modules[3]]


def test_a_package_is_unpacked_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks while it is fetched or unpacked leaves nothing in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetch(packages: tuple[guest_package.Package, ...], into: Path) -> None:
        (into / "a.deb").write_text("")

    def unpack(file: Path, into: Path) -> None:
        (into / "boot").mkdir()
        raise OSError("disk full")

    tool = guest_package.Tool("tool", lambda: (), fetch, unpack)
    offer = guest_package.Offer(tool, (guest_package.Package("k", "1", 1, 1),))
    with pytest.raises(OSError, match="disk full"):
        guest_package.prepare(offer)
    assert list(guest_kernel.cache().iterdir()) == []
