"""Recorded trees: read inside their directory only, bounded, and with whatever is missing said."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vprobe.probe.raw import Unread
from vprobe.probe.report import decode
from vprobe.probe.sources.combined import read_recorded
from vprobe.probe.sources.tree import Tree, read_tree

from .machines import HYPERVISOR, aida_text, leaves


def grow(root: Path, files: dict[str, str]) -> Path:
    """Files below a directory; a value that begins with -> is a link."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return root


def test_links_are_followed_inside_the_tree_only(tmp_path: Path) -> None:
    """An absolute link, a relative one with too many dots, and a loop: none leaves the tree."""
    (tmp_path / "secret").write_text("outside")
    root = grow(
        tmp_path / "tree",
        {
            "/proc/version": "-> /etc/version",
            "/etc/version": "inside",
            "/proc/cmdline": "-> ../../../secret",
            "/proc/loop": "-> loop",
            "/sys/class/dmi/id": "-> ../../devices/virtual/dmi/id",
            "/sys/devices/virtual/dmi/id/sys_vendor": "QEMU\n",
        },
    )
    tree = Tree(str(root))
    assert tree.read("/proc/version") == b"inside"
    assert tree.read("/proc/cmdline") == Unread(errno.ENOENT)
    assert tree.read("/proc/loop") == Unread(errno.ELOOP)
    assert tree.read("/sys/class/dmi/id/sys_vendor") == b"QEMU\n"
    assert decode(read_tree(str(root))).hypervisor.kind == "qemu"


def test_nothing_but_regular_files_is_opened(tmp_path: Path) -> None:
    """A FIFO in place of a file must not block, a directory and a device are no content."""
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc/version")
    (tmp_path / "proc/cmdline").mkdir()
    tree = Tree(str(tmp_path))
    assert isinstance(tree.read("/proc/version"), Unread)
    assert isinstance(tree.read("/proc/cmdline"), Unread)


def test_reads_are_bounded(tmp_path: Path) -> None:
    """Only the first bytes of a file are kept."""
    grow(tmp_path, {"/proc/version": "x" * 200_000})
    content = Tree(str(tmp_path)).read("/proc/version")
    assert isinstance(content, bytes)
    assert len(content) == 64 * 1024


@pytest.mark.parametrize("as_link", [True, False])
def test_namespaces_as_links_or_as_text(tmp_path: Path, as_link: bool) -> None:
    """Recorded trees hold the targets of /proc/self/ns as dangling links, or as the text of files."""
    names = {"ipc": 4026531839, "uts": 4026531838, "user": 4026531837, "pid": 4026531836, "cgroup": 4026531835}
    prefix, end = ("-> ", "") if as_link else ("", "\n")
    files = {f"/proc/self/ns/{kind}": f"{prefix}{kind}:[{number}]{end}" for kind, number in names.items()}
    grow(tmp_path, {**files, "/.dockerenv": ""})
    found = decode(read_tree(str(tmp_path))).container
    assert (found.kind, found.contradicted) == ("none", ("/.dockerenv",))


def test_the_environment_of_pid_1_keeps_only_what_matters(tmp_path: Path) -> None:
    """Passwords in variables are dropped as they are read; NULs or line ends separate them."""
    for separator in ("\0", "\n"):
        root = grow(
            tmp_path / f"with{ord(separator)}", {"/proc/1/environ": f"PASSWORD=x{separator}container=lxc{separator}"}
        )
        raw = read_tree(str(root))
        assert raw.read("/proc/1/environ") == b"container=lxc"
        assert decode(raw).container.kind == "lxc"


def test_an_empty_tree_is_all_unknown(tmp_path: Path) -> None:
    """Nothing recorded: no fact is absent, and nothing breaks."""
    found = decode(read_recorded(None, str(tmp_path))[0])
    states = {
        found.vtx.fact.state,
        found.hypervisor.fact.state,
        found.container.fact.state,
        found.kvm.fact.state,
        found.iommu.fact.state,
    }
    assert states == {"unknown"}
    assert found.kvm.usable is None


def test_cpuid_comes_from_a_dump_beside_the_tree(tmp_path: Path) -> None:
    """--sysroot with --from: files of the tree, leaves of the dump."""
    root = grow(tmp_path / "tree", {"/sys/class/dmi/id/product_name": "OpenStack Nova\n"})
    more = {(0x40000000, 0): (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)}
    (tmp_path / "dump.txt").write_text(aida_text({0: leaves(ecx=HYPERVISOR, more=more)}))
    found = decode(read_recorded(str(tmp_path / "dump.txt"), str(root))[0]).hypervisor
    assert (found.kind, found.platform, found.layers[0].signature) == ("kvm", "openstack", "KVMKVMKVM")


def test_caches_of_a_tree_come_from_the_kernels_files(tmp_path: Path) -> None:
    """Without CPUID /sys/devices/system/cpu/cpu0/cache tells."""
    base = "/sys/devices/system/cpu/cpu0/cache/index2/"
    values = {"level": "2", "type": "Unified", "size": "1024K", "ways_of_associativity": "16", "shared_cpu_list": "0-3"}
    grow(tmp_path, {base + name: text + "\n" for name, text in values.items()})
    found = decode(read_tree(str(tmp_path)))
    assert found.cache_bytes(2) == 1 << 20
    assert found.cpu.caches[0].shared_by == 4
