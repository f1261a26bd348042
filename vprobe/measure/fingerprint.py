"""The facts that must agree before two runs may be compared. What cannot be read is None."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vprobe.environments.sessions import scratch_parent
from vprobe.measure.backing import describe
from vprobe.model import Fingerprint
from vprobe.suites import SUITE_VERSION, HostFacts

MAX_TEXT = 256


def _text(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return None
    return text or None


def _kernel_code_hash() -> str | None:
    try:
        from vprobe import _native  # noqa: PLC0415 - a build without the extension still measures Python

        return _native.kernel_code_hash()
    except (ImportError, NotImplementedError):
        return None


def ns_per_tick(duration_ns: int) -> float:
    """ns per tick of the clock that kernels read; 1 where there is no extension, since nothing will read it."""
    try:
        from vprobe import _native  # noqa: PLC0415
    except ImportError:
        return 1.0
    return _native.calibrate_tsc(duration_ns)


def fingerprint(probe: Mapping[str, Any], engines: Mapping[str, str]) -> Fingerprint:
    """The fingerprint of this machine and this vprobe. `probe`: the document of vprobe.probe/1."""
    system = os.uname()
    return Fingerprint(
        cpu=probe["cpu"]["brand"],
        microcode=probe["cpu"]["microcode"],
        kernel=f"{system.release} {system.version} {system.machine}",
        mitigations=dict(probe["mitigations"]) or None,
        kvm_backend=probe["kvm"]["backend"],
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        smt=_text("/sys/devices/system/cpu/smt/control"),
        thp=_text("/sys/kernel/mm/transparent_hugepage/enabled"),
        clocksource=_text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        python=f"{sys.implementation.name} {sys.version.split()[0]}",
        suite_version=SUITE_VERSION,
        kernel_code_hash=_kernel_code_hash(),
        engines=dict(engines),
    )


def _size_bytes(text: str) -> int:
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    digits = text.rstrip("KMG")
    return int(digits) * factor if digits.isdecimal() else 0


def host_facts(cpu: int, scratch: Path | None = None) -> HostFacts:
    """What workloads are sized by: the data caches of the measured CPU, as the kernel tells (sysfs-devices-system-cpu), and
    what is below the scratch directory. `scratch`: where the user wants that; UsageError where it cannot be there.
    """
    caches: dict[int, int] = {}
    for index in range(16):
        directory = f"/sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
        level, kind, size = (_text(f"{directory}/{name}") for name in ("level", "type", "size"))
        if level and level.isdecimal() and size and kind in ("Data", "Unified"):
            caches[int(level)] = _size_bytes(size)
    storage = describe(scratch_parent(scratch))
    return HostFacts({level: size for level, size in caches.items() if size}, storage)
