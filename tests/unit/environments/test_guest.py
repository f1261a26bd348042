"""The command line that QEMU gets, and the words that vary a guest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from vprobe import _native, environments
from vprobe.environments import Disk, Launch, Unavailable, guest, guest_kernel
from vprobe.environments.guest import GuestSession, LinuxGuest, Machine
from vprobe.errors import UsageError


def command(machine: Machine, accelerator: str = "tcg", **more: Any) -> str:
    """QEMU's command line as one text."""
    launch = Launch((), Path("/tmp/a,b"), Path("/tmp"), cpus=2, **more)
    return " ".join(guest.arguments(machine, accelerator, Path("/k"), launch))


def test_commas_in_paths_do_not_become_options() -> None:
    """A directory with a comma in its name cannot add an option of QEMU's."""
    assert "unix:/tmp/a,,b/qmp,server=on" in command(Machine())


def test_varieties() -> None:
    """The emulated variety hides KVM and its clock; huge pages back the memory; both can be had at once."""
    one = environments.get("qemu-kvm:emulated+hugepages")
    assert isinstance(one, LinuxGuest)
    text = command(one.machine, "kvm")
    assert "host,kvm=off" in text and "clocksource=hpet" in text and "hugetlb=on" in text
    plain = command(Machine(), "kvm")
    assert "kvm=off" not in plain and "hpet" not in plain and "hugetlb" not in plain
    assert "-smp 2" in plain


def test_an_emulated_cpu_is_told_the_rate_of_its_counter() -> None:
    """It is the host's own, and not found out by timers that a busy host lets run late; KVM's guests have KVM's clock."""
    assert f" tsc_early_khz={guest.tsc_khz()} clocksource=hpet" in command(Machine(emulated=True))
    assert abs(guest.tsc_khz() * 1e3 * _native.calibrate_tsc(50_000_000) / 1e9 - 1) < 1e-3
    assert "tsc_early_khz" not in command(Machine(), "kvm")


def test_a_disk_and_a_card_only_where_they_are_measured() -> None:
    """A run of other workloads has neither; the page cache is passed by where the other arms pass it by, too."""
    plain = command(Machine())
    assert "-drive" not in plain and "-netdev" not in plain
    measured = {"disk": Disk(Path("/s/disk,1"), direct=True), "network_namespace": Path("/proc/1/ns/net")}
    paravirtual, emulated = command(Machine(), **measured), command(Machine(emulated=True), **measured)
    for text in (paravirtual, emulated):
        assert "format=raw,cache=none,file=/s/disk,,1" in text
        assert "tap,id=link,ifname=vprobe0,script=no,downscript=no" in text
    assert "virtio-blk-pci,drive=disk" in paravirtual and "virtio-net-pci,netdev=link" in paravirtual
    assert "ide-hd,bus=ahci.0,drive=disk" in emulated and "e1000,netdev=link" in emulated
    assert "cache=writeback" in command(Machine(), disk=Disk(Path("/s/disk"), direct=False))


def test_a_driver_that_the_kernel_lacks_costs_what_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver of its network card a guest is measured in everything else, and the reason names the driver."""
    (tmp_path / "modules").mkdir()
    for name in ("virtio_net", "virtio_blk", "ahci", "sd_mod"):
        (tmp_path / f"modules/{name}.ko").write_bytes(b"\x7fELF\0depends=\0")
    kernel = guest_kernel.Kernel(tmp_path / "k", "6.1", tmp_path / "modules")
    monkeypatch.setattr(guest_kernel, "find", lambda _: kernel)
    plain, emulated = (LinuxGuest("x", "tcg", Machine(emulated=one, qemu=str(tmp_path))) for one in (False, True))
    assert plain.capabilities == guest.CAPABILITIES
    assert emulated.capabilities == guest.CAPABILITIES - {"network"}
    assert "kernel 6.1 has no module e1000" in emulated.lacks["network"]
    with_image = LinuxGuest("x", "tcg", Machine(disk=tmp_path / "image", qemu=str(tmp_path)))
    assert "--disk" in with_image.lacks["storage"] and "storage" not in with_image.capabilities


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
def test_huge_pages_that_are_not_there_are_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserved pages are not free ones; the refusal has the remedy, and with enough of them the guest takes no more."""
    monkeypatch.setattr(guest, "MEMORY_INFORMATION", tmp_path / "meminfo")
    text = "HugePages_Total: 512\nHugePages_Free: {}\nHugePages_Rsvd:  10\nHugepagesize:  2048 kB\n"
    (tmp_path / "meminfo").write_text(text.format(137))
    found = environments.get("qemu-tcg:hugepages").availability()
    assert isinstance(found, Unavailable)
    assert found.reason.startswith("254 MiB of huge pages are free") and "vm.nr_hugepages" in found.remedy
    (tmp_path / "meminfo").write_text(text.format(310))
    assert "-m 600M" in command(Machine(hugepages=True))


def test_an_unknown_variety_is_refused() -> None:
    """A typing error names what there is."""
    with pytest.raises(UsageError, match="no such variety") as caught:
        environments.get("qemu-tcg:emulatde")
    assert "emulated" in caught.value.hint


def test_an_image_is_never_guessed_at(tmp_path: Path) -> None:
    """Only the mark of qcow2 makes it one: what a guest writes into a raw image must not turn it into another format."""
    (tmp_path / "a").write_bytes(b"QFI\xfb\0\0\0\3")
    (tmp_path / "b").write_bytes(b"\0" * 512)
    assert [guest.image_format(tmp_path / name) for name in "ab"] == ["qcow2", "raw"]


def test_unusable_choices_are_refused(tmp_path: Path) -> None:
    """A disk, a kernel or a QEMU that is not there costs one line; other environments are left alone."""
    one = environments.get("qemu-tcg")
    for words in ({"disk": tmp_path / "no"}, {"kernel": tmp_path / "no"}, {"qemu": "no-such-qemu"}):
        with pytest.raises(UsageError):
            guest.configured(one, **words)
    bare = environments.get("bare")
    assert guest.configured(bare, disk=tmp_path / "no") is bare


def test_phases_always_add_up() -> None:
    """A guest's clock that counted more than has passed, as one set on a busy host may, is taken in proportion."""
    session = object.__new__(GuestSession)
    session._open, session._tail = set(), os.open(os.devnull, os.O_RDONLY)
    session.launched_ns, session.running_ns = 100, 200
    for clock in ({"init_ns": 300, "started_ns": 500}, {"init_ns": 3000, "started_ns": 5000}):
        phases = session.phases(1100, 100, clock)
        assert sum(phases.values()) == 1000
        assert min(phases.values()) >= 0
