"""The tools that people use to ask what vprobe answers: run in the same guests, and what each said in a few words."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .guest import Answer
from .initramfs import Archive
from .packages import libraries, unpacked

PACKAGES = ("cpu-checker", "libvirt-clients", "virt-what", "msr-tools", "dmidecode", "systemd")
COMMANDS = {
    "kvm-ok": "kvm-ok",
    "virt-host-validate": "virt-host-validate qemu",
    "virt-what": "virt-what",
    "systemd-detect-virt": "echo $(systemd-detect-virt --vm) $(systemd-detect-virt --container)",
    "lscpu": "lscpu",
}
SCRIPT = (
    "tools() { step tools $1; view=$1; shift\n"
    + "".join(f"  \"$@\" sh -c '{command}' > $OUT/$view.{name} 2>&1\n" for name, command in COMMANDS.items())
    + "}\n"
)
"""Defines `tools VIEW [as_user]`: what every tool says goes to files of that view."""


def tree(more: tuple[str, ...] = ()) -> Path:
    """The tools that are not installed, and `more` packages, with what they need: a tree to lie over a host's root."""
    return unpacked("-".join(["tools", *more]), (*PACKAGES, *more), closure=True)


def said(answer: Answer, view: str) -> dict[str, str]:
    """Tool -> what it said in a few words; tools that were not asked are missing."""
    files = {name: f"{view}.{name}" for name in COMMANDS}
    return {name: SUMMARIES[name](answer.text(file)) for name, file in files.items() if file in answer.files}


def _kvm_ok(text: str) -> str:
    if "KVM acceleration can be used" in text:
        return "can be used"
    reasons = [line.removeprefix("INFO: ") for line in text.splitlines() if line.startswith("INFO: ")]
    verdict = "can NOT be used" if "can NOT be used" in text else text.strip().splitlines()[-1:]
    return f"{verdict}: {reasons[0]}" if reasons else str(verdict or "")


def _virt_host_validate(text: str) -> str:
    found = re.search(r"Checking for hardware virtualization\s*:\s*(?:\x1b\[\d+m)*(.*)", text)
    return re.sub(r"\x1b\[\d*m", "", found[1]).strip() if found else ""


def _virt_what(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"


def _lscpu(text: str) -> str:
    wanted = ("Virtualization", "Hypervisor vendor", "Virtualization type")
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return ", ".join(rows[name].strip() for name in wanted if name in rows) or "(nothing)"


SUMMARIES = {
    "kvm-ok": _kvm_ok,
    "virt-host-validate": _virt_host_validate,
    "virt-what": _virt_what,
    "systemd-detect-virt": str.strip,
    "lscpu": _lscpu,
}


def add(archive: Archive) -> None:
    """The tools in a guest that does not see the host's root."""
    place = tree()
    own = place / "usr/lib/x86_64-linux-gnu/systemd"  # where its programs look, once it is installed
    environment = dict(os.environ, LD_LIBRARY_PATH=f"{libraries(place)}:{own}")
    for name in ("lscpu", "systemd-detect-virt", "virt-host-validate", "rdmsr", "dmidecode"):
        archive.program(_find(name, place), f"usr/bin/{name}", environment)
    for name in ("kvm-ok", "virt-what"):
        archive.copy(_find(name, place), f"usr/bin/{name}")
    helper = next(place.glob("usr/**/virt-what-cpuid-helper"), None)
    helper = helper or next(Path("/usr").glob("lib*/**/virt-what-cpuid-helper"))
    archive.program(
        helper, str(Path("usr") / helper.relative_to(place / "usr" if helper.is_relative_to(place) else "/usr"))
    )


def _find(name: str, place: Path) -> Path:
    for directory in ("usr/bin", "usr/sbin"):
        if (place / directory / name).is_file():
            return place / directory / name
    found = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin")
    assert found, name
    return Path(found)
