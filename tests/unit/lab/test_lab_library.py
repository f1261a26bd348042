"""What benches are made of, where no machine is needed to try it."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import __main__ as command
from lab import bench, guest, tools
from lab.bench import Bench, look_up, unlike
from lab.bochs import own_network, without_vmx
from lab.comparison import Comparison
from lab.guest import BEGIN, END, STEP, Answer, unpack
from lab.packages import LabError
from lab.processes import run_to_end, waited_s

from vprobe.environments.guest_kernel import Kernel

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


def test_bochs_says_what_a_normal_user_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a user may make no namespaces: one line with both remedies."""
    (tmp_path / "unshare").write_text("#!/bin/sh\necho unshare: Operation not permitted >&2; exit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"^.*run as root, or allow user namespaces.*$"):
        own_network()


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


@dataclass(frozen=True)
class Scripted:
    """A machine that is a shell script, run as an emulator is."""

    script: str
    limit_s: float = 30
    host_root: bool = False
    power_off: str = ""

    def check(self) -> None:
        if not self.script:
            raise LabError("this host has no shell")

    def boot(self, place: Path, kernel: Kernel, initramfs: Path, tools: Path | None = None) -> float:
        (place / "answered").write_bytes(said({"v": b"1"}))
        return run_to_end(["sh", "-c", self.script], place, limit_s=self.limit_s)


ANSWERS = "echo up > console; cp answered answer"
HANGS = f"echo $$ > {{pid}}; printf 'up\\n{STEP} load kvm_amd, begun after 7 s\\r\\nthe last words\\n' > console; exec sleep 1000"


def benches(*machines: Scripted) -> dict[str, tuple[Bench, ...]]:
    """One subject with a bench of each machine."""
    return {"subject": tuple(Bench(f"bench-{number}", "", one, "", {}) for number, one in enumerate(machines))}


def run_benches(monkeypatch: pytest.MonkeyPatch, subjects: dict[str, tuple[Bench, ...]], *words: str) -> int:
    """The command's exit code with those benches in place of the project's, none of which needs a kernel."""
    monkeypatch.setattr(sys, "argv", ["lab", *words])
    monkeypatch.setattr(command, "load", lambda: subjects)
    monkeypatch.setattr(command, "distribution_kernel", lambda: Kernel(Path("/dev/null"), "0", None))
    monkeypatch.setattr(command, "comparisons", list)
    monkeypatch.setattr(tools, "tree", lambda *_: None)
    monkeypatch.setattr(guest, "write_initramfs", lambda _setup, _kernel, target, _fill: target)
    return command.main()


def test_a_bench_that_hangs_ends_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bench, the step that it was at and its last words are named, its emulator is gone, the next bench runs, exit 1."""
    hanging = Scripted(HANGS.format(pid=tmp_path / "pid"), limit_s=1)
    assert run_benches(monkeypatch, benches(hanging, Scripted(ANSWERS))) == 1
    printed = capsys.readouterr().out
    assert "did not end within 1 s, at the step 'load kvm_amd, begun after 7 s'" in printed
    assert "console: the last words" in printed
    assert printed.endswith("wrong: bench-0\n") and "  as expected after" in printed
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.parametrize("script", ["exit 3", "echo noise > console; echo noise > answer", "true", ""])
def test_a_bench_that_breaks_leaves_the_others_alone(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that fails, an answer that is none, nothing at all, a host that lacks something: no traceback."""
    assert run_benches(monkeypatch, benches(Scripted(script), Scripted(ANSWERS)), "bench-0") == 1
    assert run_benches(monkeypatch, benches(Scripted(script), Scripted(ANSWERS)), "bench-1") == 0


def test_a_comparison_that_is_wrong_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benches that are right do not hide it: here neither sent a run that could be compared."""
    subjects = benches(Scripted(ANSWERS), Scripted(ANSWERS))
    assert run_benches(monkeypatch, subjects) == 0
    comparison = Comparison("pair", "", plain="bench-0", layered="bench-1", dear={}, same=())
    monkeypatch.setattr(Comparison, "write", lambda *_: (["too cheap"], []))
    monkeypatch.setattr(command, "comparisons", lambda: [comparison])
    assert command.main() == 1


def test_time_in_which_another_had_the_processor_does_not_count() -> None:
    """Of two programs that share one processor each waits while the other runs, and gets all of its own time."""
    cpu = min(os.sched_getaffinity(0))
    spin = ["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as first, subprocess.Popen(spin) as second:
        try:
            time.sleep(1)
            assert waited_s(first.pid) > 0.2 and waited_s(second.pid) > 0.2
        finally:
            first.kill()
            second.kill()
    assert waited_s(first.pid) == 0
