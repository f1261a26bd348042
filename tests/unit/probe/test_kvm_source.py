"""What is asked of /dev/kvm, with a kernel that answers from a table: every step and every failure of it."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from vprobe.probe.raw import KvmRaw, Unread
from vprobe.probe.sources import kvm

NATIVE = "="


class Kernel:
    """Answers ioctl(2) as Linux does: Documentation/virt/kvm/api.rst."""

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, object] = {"version": 12, "vm": None, "msrs": {}, "cpuid": [], **answers}

    def __call__(self, descriptor: int, request: int, argument: object = 0, mutate: bool = True) -> int:
        failure = self.answers.get(f"{request:#x}")
        if isinstance(failure, int):
            raise OSError(failure, os.strerror(failure))
        if request == kvm.KVM_GET_API_VERSION:
            return int(str(self.answers["version"]))
        if request == kvm.KVM_CREATE_VM:
            return os.open("/dev/null", os.O_RDONLY)
        if request == kvm.KVM_CHECK_EXTENSION:
            return int(str(argument)) + 1000
        assert isinstance(argument, memoryview)
        return self._fill(request, argument)

    def _fill(self, request: int, words: memoryview) -> int:
        msrs: dict[int, int] = self.answers["msrs"]  # type: ignore[assignment]
        cpuid: list[tuple[int, ...]] = self.answers["cpuid"]  # type: ignore[assignment]
        if request == kvm.KVM_GET_MSR_FEATURE_INDEX_LIST:
            words[0] = len(msrs)
            for number, index in enumerate(msrs, 1):
                words[number] = index
        elif request == kvm.KVM_GET_MSRS:
            if words[2] in self.answers.get("unreadable", ()):  # type: ignore[operator]
                return 0
            words[4:6] = memoryview(bytearray(struct.pack(NATIVE + "Q", msrs[words[2]]))).cast("I")
            return 1
        elif request == kvm.KVM_GET_SUPPORTED_CPUID:
            words[0] = len(cpuid)
            for number, (leaf, subleaf, *registers) in enumerate(cpuid):
                start = 2 + 10 * number
                words[start : start + 7] = memoryview(
                    bytearray(struct.pack(NATIVE + "7I", leaf, subleaf, 1, *registers))
                ).cast("I")
        return 0


def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **answers: object) -> KvmRaw:
    """The record of a device that answers so."""
    import fcntl

    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(fcntl, "ioctl", Kernel(**answers))
    return kvm.read_kvm(str(device))


def open_descriptors() -> int:
    """Of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_every_answer_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Version, VM, extensions, 64 bits of every feature MSR, and CPUID with its subleaves; no descriptor stays open."""
    before = open_descriptors()
    msrs = {0x480: 0x00DA040000000004, 0x48B: 0x025F7FFF00000000}
    cpuid = [(0, 0, 0x16, 1, 2, 3), (7, 1, 0xFFFFFFFF, 5, 6, 7)]
    found = read(monkeypatch, tmp_path, msrs=msrs, cpuid=cpuid)
    assert (found.opened, found.api_version, found.create_vm) == (0, 12, 0)
    assert found.extensions["max_vcpus"] == 1066
    assert found.feature_msrs == msrs
    assert found.supported_cpuid == {(0, 0): (0x16, 1, 2, 3), (7, 1): (0xFFFFFFFF, 5, 6, 7)}
    assert open_descriptors() == before


def test_each_failure_has_its_errno(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A busy processor, an MSR that KVM lists but does not give, a kernel too old for feature MSRs."""
    busy = read(monkeypatch, tmp_path, **{f"{kvm.KVM_CREATE_VM:#x}": errno.EBUSY})
    assert busy.create_vm == Unread(errno.EBUSY)
    old = read(monkeypatch, tmp_path, **{f"{kvm.KVM_GET_MSR_FEATURE_INDEX_LIST:#x}": errno.EINVAL})
    assert (old.create_vm, old.feature_msrs) == (0, {})
    refused = read(monkeypatch, tmp_path, msrs={0x480: 1}, **{f"{kvm.KVM_GET_MSRS:#x}": errno.EIO})
    assert refused.feature_msrs == {0x480: Unread(errno.EIO)}
    skipped = read(monkeypatch, tmp_path, msrs={0x480: 1}, unreadable=(0x480,))
    assert skipped.feature_msrs == {0x480: Unread(errno.EINVAL)}
    too_many = read(monkeypatch, tmp_path, **{f"{kvm.KVM_GET_SUPPORTED_CPUID:#x}": errno.E2BIG})
    assert too_many.supported_cpuid == {}


def test_nothing_more_is_asked_of_another_api_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The stable API is 12; of any other the numbers of requests mean nothing."""
    found = read(monkeypatch, tmp_path, version=11)
    assert (found.api_version, found.create_vm) == (11, None)


def test_a_device_that_does_not_open_says_why(tmp_path: Path) -> None:
    """Missing, and no device at all."""
    assert kvm.read_kvm(str(tmp_path / "none")).opened == Unread(errno.ENOENT)
    assert kvm.read_kvm(str(tmp_path)).opened == Unread(errno.EISDIR)
