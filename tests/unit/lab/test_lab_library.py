"""What benches are made of, where no machine is needed to try it."""

from __future__ import annotations

import base64
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from lab import bench, tools
from lab.bench import look_up, unlike
from lab.bochs import without_vmx
from lab.guest import BEGIN, END, Answer, unpack
from lab.packages import LabError

SETS_LOCK = b"\xb9\x3a\0\0\0" + b"\x0f\x32" + b"\x83\xc8\x05" + b"\x0f\x30"
"""mov ecx, 0x3A; rdmsr; or eax, 5; wrmsr."""


def said(files: dict[str, bytes]) -> bytes:
    """The files as a guest sends them."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return b"\r\n".join([b"noise", BEGIN.encode(), base64.encodebytes(content.getvalue()), END.encode(), b"more noise"])


def test_an_answer_comes_back_whole() -> None:
    """Files survive a serial line with other words before and behind them."""
    assert unpack(said({"a.json": b"{}", "b": bytes(range(256))}), "", 1.0).files == {
        "a.json": b"{}",
        "b": bytes(range(256)),
    }


@pytest.mark.parametrize(
    "damage", [b"", said({"a": b"x" * 5000})[:-60], said({"a": b"x" * 5000}).replace(b"A", b"B", 3)]
)
def test_a_damaged_answer_is_said_to_be_one(damage: bytes) -> None:
    """Nothing, half of it, and letters that changed: never files that look whole."""
    with pytest.raises(LabError):
        unpack(damage, "the console's last words", 1.0)


def test_the_bios_locks_without_vmx() -> None:
    """Both places are changed from 5 to 1, and nothing else; a BIOS that is not known is refused."""
    bios = b"\x90" * 64 + SETS_LOCK + b"\x90" * 64 + SETS_LOCK + b"\x90" * 64
    assert without_vmx(bios) == bios.replace(b"\x83\xc8\x05", b"\x83\xc8\x01")
    with pytest.raises(LabError, match="1 places"):
        without_vmx(b"\x90" * 64 + SETS_LOCK + b"\x90" * 64)


def test_differences_name_their_place() -> None:
    """A changed, a missing and a new fact of two documents, at their paths."""
    assert unlike({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}) == [
        "a.c was 2 when it was recorded and is 4",
        "d was 3 when it was recorded and is None",
        "e was None when it was recorded and is 5",
    ]
    assert look_up({"a": [{"b": 7}]}, "a.0.b") == 7
    assert look_up({"a": [{"b": 7}]}, "a.1.b") is None


def test_tools_in_a_few_words() -> None:
    """What the tools print, condensed; a tool that was not asked is missing."""
    files = {
        "v.kvm-ok": b"INFO: Your CPU does not support KVM extensions\nKVM acceleration can NOT be used\n",
        "v.virt-host-validate": b"  QEMU: Checking for hardware virtualization                : \x1b[32mPASS\x1b[0m\n",
        "v.virt-what": b"xen\nxen-dom0\n",
        "v.lscpu": b"Vendor ID: x\nVirtualization:  VT-x\n",
    }
    assert tools.said(Answer(files, "", 0), "v") == {
        "kvm-ok": "can NOT be used: Your CPU does not support KVM extensions",
        "virt-host-validate": "PASS",
        "virt-what": "xen xen-dom0",
        "lscpu": "VT-x",
    }


def test_directories_of_killed_benches_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory whose lock nobody holds goes, one that is in use stays, and a bench's own goes at its end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / f"{bench.PREFIX}killed"
    killed.mkdir()
    (killed / "lock").touch()
    with bench.work_directory() as first, bench.work_directory() as second:
        assert not killed.exists()
        assert first.is_dir() and second.is_dir()
    assert list(tmp_path.iterdir()) == []
