"""What makes this machine noisy, and what would help. Only says; changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

MAX_TEXT = 256
CPU = "/sys/devices/system/cpu"
BUSY_SHARE = 0.25
"""Above this load a CPU other than the measuring process is at work."""


def _text(path: str, root: Path) -> str | None:
    try:
        with (root / path.lstrip("/")).open("rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return None


def _governor(cpu: int, root: Path) -> str | None:
    governor = _text(f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", root)
    if governor is None or governor == "performance":
        return None
    return (
        f"CPU {cpu} changes its clock (governor {governor[:32]}): cpupower frequency-set -g performance would hold it"
    )


def _turbo(root: Path) -> str | None:
    boost = _text(f"{CPU}/cpufreq/boost", root)
    no_turbo = _text(f"{CPU}/intel_pstate/no_turbo", root)
    if boost == "1" or no_turbo == "0":
        return "the CPU may run above its base clock while it is cool: turning turbo off steadies absolute times"
    return None


def _siblings(cpu: int, root: Path) -> str | None:
    siblings = _text(f"{CPU}/cpu{cpu}/topology/thread_siblings_list", root)
    if siblings is None or siblings == str(cpu):
        return None
    return f"CPU {cpu} shares its core with others ({siblings[:64]}): keep these idle, or turn SMT off"


def _load(root: Path) -> str | None:
    words = (_text("/proc/loadavg", root) or "").split()
    try:
        load = float(words[0])
    except (IndexError, ValueError):
        return None
    if load <= BUSY_SHARE:
        return None
    rights = "" if os.geteuid() == 0 else "; root may raise the priority of what is measured, which helps"
    return (
        f"other work is running (load {load:.1f} on {os.cpu_count()} CPUs): stop it, or expect wider intervals{rights}"
    )


def advice(cpu: int, guest_of: str | None, root: Path = Path("/")) -> tuple[str, ...]:
    """One sentence for each thing that makes measurements on this machine noisy and that can be read.

    `guest_of`: the hypervisor below, None on bare metal.
    """
    below = None
    if guest_of:
        below = f"the machine is itself a {guest_of} guest: neighbours cannot be seen or stopped; more boots help"
    found = (_load(root), _governor(cpu, root), _turbo(root), _siblings(cpu, root), below)
    return tuple(sentence for sentence in found if sentence)
