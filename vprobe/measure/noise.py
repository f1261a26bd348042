"""What disturbs a visit: read before and after, kept as differences. Linux; what cannot be read is None."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from vprobe.model import Noise

MAX_BYTES = 1 << 16


def _read(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return None


def _steal_ticks(cpu: int) -> int | None:
    """Ticks that the hypervisor gave to others while this CPU had work (proc(5), /proc/stat, eighth column)."""
    for line in (_read("/proc/stat") or "").splitlines():
        fields = line.split()
        if fields and fields[0] == f"cpu{cpu}" and len(fields) > 8:
            return int(fields[8])
    return None


def _pressure_us(resource: str = "cpu") -> int | None:
    """Microseconds in which some task waited for a CPU (Documentation/accounting/psi.rst)."""
    for line in (_read(f"/proc/pressure/{resource}") or "").splitlines():
        if line.startswith("some ") and "total=" in line:
            return int(line.rpartition("total=")[2])
    return None


@dataclass(frozen=True)
class Reading:
    """The counters at one moment."""

    at_s: float
    steal_ticks: int | None
    pressure_us: int | None

    @classmethod
    def now(cls, cpu: int) -> Reading:
        """Read the counters of the measured CPU."""
        return cls(time.monotonic(), _steal_ticks(cpu), _pressure_us())


def between(
    before: Reading, after: Reading, involuntary: int | None, canary_before: float | None, canary_after: float | None
) -> Noise:
    """The noise of a visit from the readings around it."""
    wall_s = max(after.at_s - before.at_s, 1e-9)
    steal = pressure = None
    if before.steal_ticks is not None and after.steal_ticks is not None:
        steal = (after.steal_ticks - before.steal_ticks) / os.sysconf("SC_CLK_TCK") / wall_s
    if before.pressure_us is not None and after.pressure_us is not None:
        pressure = (after.pressure_us - before.pressure_us) / 1e6 / wall_s
    return Noise(
        steal=_share(steal),
        involuntary_switches=involuntary,
        psi_cpu=_share(pressure),
        canary_before=canary_before,
        canary_after=canary_after,
    )


def _share(value: float | None) -> float | None:
    return None if value is None else round(min(max(value, 0.0), 1.0), 4)
