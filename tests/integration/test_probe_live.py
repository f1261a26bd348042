"""The probe on the machine that runs the tests: against Todd Allen's cpuid, as a normal user, from its own capture."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vprobe.probe import probe_host
from vprobe.probe.report import decode
from vprobe.probe.sources.text import format_cpuid, parse_text

LABELS = json.loads((Path(__file__).parents[1] / "data" / "probe" / "cpuid_labels.json").read_text())["labels"]
NOBODY = 65534
VOLATILE = re.compile(r'"(evidence|contradicted)": \[.*?\]', re.DOTALL)


def vprobe(*words: str, user: int | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line, as root or as another user."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    command = [*become, sys.executable, "-m", "vprobe", *words]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)


def document(*words: str, user: int | None = None) -> dict[str, Any]:
    """What `vprobe probe --json` prints."""
    found: dict[str, Any] = json.loads(vprobe("probe", *words, "--json", user=user).stdout)
    return found


def labels_of(dump: str) -> dict[str, bool]:
    """Flag id -> set, as cpuid decodes the dump. A flag that several leaves show is set where one of them sets it."""
    shown = subprocess.run(["cpuid", "-f", "-"], input=dump, capture_output=True, text=True, check=True).stdout
    ids = {(section, label): flag for section, label, flag in LABELS}
    section, found = "", {}
    for line in shown.splitlines():
        if re.match(r" {3}\S", line):
            section = line.strip()
        elif match := re.match(r"\s+(.*?)\s*= (true|false)\s*$", line):
            flag = ids.get((section, match[1].strip()))
            if flag:
                found[flag] = found.get(flag, False) or match[2] == "true"
    return found


def differences(dump: str) -> list[str]:
    """Flags that cpuid and vprobe decode differently from the same dump of one CPU."""
    report = decode(parse_text(dump)[0])
    ours = {*report.cpu.flags}
    ours |= {name for name, there in (*report.amdv.features.items(), *report.sev.features.items()) if there}
    return [f"{flag}: cpuid {there}" for flag, there in labels_of(dump).items() if there != (flag in ours)]


@pytest.mark.engine("cpuid")
def test_flags_agree_with_cpuid_on_this_machine() -> None:
    """Every flag that both name, from one raw dump."""
    raw = probe_host().raw
    if not raw.cpuid:
        pytest.skip("no CPUID here")
    first = min(raw.cpuid)
    dump = format_cpuid(raw.replace(cpuid={first: raw.cpuid[first]}))
    assert len(labels_of(dump)) > 100
    assert differences(dump) == []


@pytest.mark.engine("cpuid")
def test_raw_leaves_agree_with_cpuid_on_this_machine() -> None:
    """Every leaf that both read has the same registers, but for what changes from moment to moment."""
    theirs = parse_text(subprocess.run(["cpuid", "-r"], capture_output=True, text=True, check=True).stdout)[0]
    ours = probe_host().raw
    if not ours.cpuid:
        pytest.skip("no CPUID here")
    for cpu, leaves in ours.cpuid.items():
        shared = set(leaves) & set(theirs.cpuid.get(cpu, {}))
        assert len(shared) > 10
        assert {key: leaves[key] for key in shared} == {key: theirs.cpuid[cpu][key] for key in shared}


def test_a_capture_of_this_machine_gives_the_same_document(tmp_path: Path) -> None:
    """Decoded from the file, every fact is the same."""
    vprobe("probe", "--capture", str(tmp_path / "capture.json"))
    assert document("--from", str(tmp_path / "capture.json")) == document()


def test_a_capture_names_neither_host_nor_serial_number(tmp_path: Path) -> None:
    """The host's name and UUIDs are not in the file."""
    vprobe("probe", "--capture", str(tmp_path / "capture.json"))
    text = (tmp_path / "capture.json").read_text()
    name = os.uname().nodename
    assert name in {"localhost", "vm", "debian"} or name not in text
    assert not re.search(r"(?!0{8})[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", text)


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_normal_user_loses_only_what_needs_root() -> None:
    """The same facts, or "unknown" with errno and remedy; nothing that root sees is absent for a user."""
    if vprobe("--version", user=NOBODY, check=False).returncode:
        pytest.skip("a normal user cannot read this interpreter or this checkout")
    root, user = document(), document(user=NOBODY)
    assert {**root["cpu"], "microcode": None} == {**user["cpu"], "microcode": None}
    for ours, theirs in zip(_facts(root), _facts(user), strict=True):
        if ours["state"] != theirs["state"]:
            assert theirs["state"] == "unknown", theirs
            assert theirs["remedy"], theirs
    assert user["hypervisor"]["kind"] == root["hypervisor"]["kind"]
    assert user["container"]["kind"] in {root["container"]["kind"], None}


def _facts(found: dict[str, Any]) -> list[dict[str, Any]]:
    facts = [*found["virtualization"].values(), found["hypervisor"], found["container"], found["confidential"]]
    return [*facts, found["kvm"], found["kvm"]["nested"]]


@pytest.mark.kvm
def test_kvm_that_opens_is_usable() -> None:
    """Where a VM can be created the probe says so, with the module that does it."""
    kvm = document()["kvm"]
    assert (kvm["usable"], kvm["state"], kvm["api_version"]) == (True, "present", 12)
    loaded = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path("/sys/module", name).exists()]
    assert kvm["backend"] in loaded


def test_the_quick_answer_is_the_command_lines_own() -> None:
    """`probe --json` alone takes a shorter way through the imports; with another word it takes the long one."""
    assert document() == json.loads(vprobe("--debug", "probe", "--json").stdout)


def test_importing_the_probe_loads_nothing_heavy() -> None:
    """The library call is made on every bench: no msgspec, no click, no typing before or after it."""
    code = (
        "import sys; import vprobe.probe; vprobe.probe.probe_host().document(); "
        "print(sorted({'msgspec', 'click', 'rich', 'numpy', 'typing', 'dataclasses', 'pathlib'} & set(sys.modules)))"
    )
    isolated = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); {code}"]
    assert subprocess.run(isolated, capture_output=True, text=True, check=True).stdout.strip() == "[]"
