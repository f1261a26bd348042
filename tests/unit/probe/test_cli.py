"""`vprobe probe` and `vprobe check` as a user types them: outputs, exit codes, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vprobe.cli import run

from .machines import CORE2, HYPERVISOR, INTEL, SKYLAKE, VMX, aida_text, leaves, signature_leaf, word


@pytest.fixture
def intel(tmp_path: Path) -> str:
    """A dump of an Intel processor with VT-x enabled."""
    path = tmp_path / "intel.txt"
    path.write_text(aida_text({0: leaves(INTEL, SKYLAKE, VMX)}, {0x3A: 5, 0x482: 1 << 63, 0x48B: 1 << 33}))
    return str(path)


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """A dump of a KVM guest."""
    path = tmp_path / "guest.txt"
    more = {(0x40000000, 0): signature_leaf("KVMKVMKVM", 0x40000001)}
    path.write_text(aida_text({0: leaves(INTEL, SKYLAKE, HYPERVISOR, more=more)}))
    return str(path)


def test_json_is_one_document(intel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds the document and nothing else."""
    assert run(["probe", "--from", intel, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["virtualization"]["vtx"]["source"] == "capture"
    assert captured.err == ""


def test_the_screen_names_what_matters(intel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Processor, hypervisor, container, KVM, both technologies, confidential computing, IOMMU, mitigations."""
    assert run(["probe", "--from", intel]) == 0
    out = capsys.readouterr().out
    for subject in (
        "CPU",
        "runs under",
        "container",
        "KVM",
        "VT-x",
        "AMD-V",
        "SEV",
        "TDX",
        "SGX",
        "IOMMU",
        "mitigations",
        "EPT",
    ):
        assert subject in out
    assert all(len(line) <= 100 for line in out.splitlines())
    assert "\x1b" not in out


def test_all_shows_every_leaf_and_every_control(intel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Leaves, MSRs, controls, and the evidence."""
    assert run(["probe", "--from", intel, "--all"]) == 0
    out = capsys.readouterr().out
    for text in (
        "00000000.00",
        "80000001.00",
        "0000003a 0000000000000005",
        "IA32_VMX_PROCBASED_CTLS2.ept: may be 1",
        "Evidence",
    ):
        assert text in out
    assert run(["probe", "--from", intel, "--all", "--json"]) == 0
    details = json.loads(capsys.readouterr().out)["details"]
    assert details["msrs"]["0"]["0x3a"] == "0x5"
    assert details["cpuid"]["0"][0]["text"] == "GenuineIntel"


def test_raw_is_read_back(intel: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--raw of a dump, and --from of that, hold the same leaves."""
    assert run(["probe", "--from", intel, "--raw"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("CPU 0:\n   0x00000000 0x00: eax=0x00000016 ")
    (tmp_path / "raw.txt").write_text(text)
    assert run(["probe", "--from", str(tmp_path / "raw.txt"), "--raw"]) == 0
    assert capsys.readouterr().out == text


def test_the_machines_words_cannot_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and markup in brand strings and DMI are shown, not obeyed."""
    text = "\x1b[31mEvil[bold]".ljust(48)
    more = {(0x80000002 + at, 0): tuple(word(text[16 * at + 4 * place :][:4]) for place in range(4)) for at in range(3)}
    (tmp_path / "dump.txt").write_text(aida_text({0: leaves(more=more)}))
    vendor = tmp_path / "tree/sys/class/dmi/id/sys_vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("QEMU\x1b]0;title\x07")
    for option in ("--all", "--json"):
        assert run(["probe", "--from", str(tmp_path / "dump.txt"), "--sysroot", str(tmp_path / "tree"), option]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "Evil[bold]" in out


def test_diff_tells_what_hosts_lack(intel: str, guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 where they differ, 0 where they do not, JSON on request."""
    assert run(["probe", "--diff", intel, guest]) == 1
    shown = capsys.readouterr().out
    assert "missing on guest.txt\n  vmx vtx:IA32_VMX_PROCBASED_CTLS.activate_secondary" in shown
    assert "1 missing on intel.txt\n  hypervisor\n" in shown
    assert run(["probe", "--diff", intel, intel]) == 0
    capsys.readouterr()
    assert run(["probe", "--diff", intel, guest, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "vprobe.diff/1"
    assert document["missing"]["hypervisor"] == ["intel.txt"]


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["vtx", "ept", "bare-metal"], 0),
        (["vtx", "guest"], 1),
        (["vtx", "kvm"], 3),
        (["kvm", "guest"], 1),
        (["nosuch"], 2),
        ([], 2),
    ],
)
def test_exit_codes_of_check(intel: str, names: list[str], code: int) -> None:
    """0 all pass, 1 one fails, 3 one is unknown and none fails, 2 usage."""
    assert run(["check", *names, "--from", intel]) == code


def test_check_prints_one_line_each(guest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, result, reason and remedy; or one document."""
    assert run(["check", "guest", "vtx", "--from", guest]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "guest  pass     runs under kvm"
    assert lines[1].startswith("vtx    fail     kvm does not show VT-x")
    assert " -> " in lines[1]
    assert run(["check", "guest", "--json", "--from", guest]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["checks"] == [{"name": "guest", "result": "pass", "reason": "runs under kvm", "remedy": None}]


@pytest.mark.parametrize(
    "words",
    [
        ["probe", "file.txt"],
        ["probe", "--diff", "one.txt"],
        ["probe", "--from", "/nosuch"],
        ["probe", "--from", "/no\nsuch\x1b[31m"],
        ["probe", "--from", "/"],
        ["probe", "--sysroot", "/nosuch"],
        ["probe", "--capture", "x", "--from", "y"],
        ["probe", "--with-identifiers"],
        ["probe", "--nosuch"],
        ["check", "kvm", "--from", "/nosuch"],
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What failed and the next step, no traceback; one document where --json was asked for."""
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err
    assert run([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["schema"] == "vprobe.error/1"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 10, b"{", b"garbage", b"\xff\xfe", bytes(range(256)), b'{"schema": "x"}']
)
def test_hostile_files_are_refused_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Empty, binary, truncated, foreign: exit code 2 and the name of the file."""
    (tmp_path / "bad").write_bytes(content)
    assert run(["probe", "--from", str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path / "bad") in error


def test_a_truncated_dump_is_decoded_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is whole is decoded; the note goes to standard error."""
    text = aida_text({0: leaves(INTEL, CORE2, VMX)})
    (tmp_path / "cut.txt").write_text(text[: len(text) - 20])
    assert run(["probe", "--from", str(tmp_path / "cut.txt"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["virtualization"]["vtx"]["state"] == "present"
    assert captured.err.count("\n") == 1
    assert "not a whole record" in captured.err
