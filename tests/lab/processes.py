"""Emulators as processes that cannot outlive the bench: killed by the kernel when it dies, by us when it ends."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .guest import STEP
from .packages import LabError

WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""prctl(2) PR_SET_PDEATHSIG, by util-linux: the emulator gets SIGKILL when the thread that started it is gone."""


def run_to_end(
    command: Sequence[str],
    place: Path,
    *,
    limit_s: float,
    good: tuple[int, ...] = (0,),
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> float:
    """Run an emulator until its guest powers it off, and return the wall time in s.

    LabError where that does not happen within `limit_s`. Time in which others had the processor does not count.
    """
    started = time.monotonic()
    with (place / "emulator").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, *WITH_PARENT, *command],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            status = _wait(process, limit_s)
        finally:
            process.kill()
            process.wait()
    if status is None:
        raise LabError(f"the guest did not end within {limit_s:.0f} s{_step(place)}{_ends(place)}")
    if status not in good:
        raise LabError(f"{command[0]} ended with status {status}{_step(place)}{_ends(place)}")
    return time.monotonic() - started


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> int | None:
    """The status of a process; None where it still runs after so much time of its own.

    A turn of the loop that takes far longer than it should counts as a second: the machine or all of us were stopped.
    """
    spent_s = 0.0
    while spent_s - waited_s(process.pid) < limit_s:
        started = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(limit_s, 1))
        spent_s += min(time.monotonic() - started, 1)
    return None


def waited_s(pid: int) -> float:
    """How long a process was ready to run and another had the processor: its thread that waited longest, in s.

    The second number of schedstat, in ns (Documentation/scheduler/sched-stats.rst). A halted guest waits for no processor.
    """
    waits_ns = [0]
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended
            waits_ns.append(int(path.read_text().split()[1]))
    return max(waits_ns) / 1e9


def _step(place: Path) -> str:
    """What the guest's script was at, as it said on its console."""
    said = (place / "console").read_text(errors="replace") if (place / "console").exists() else ""
    steps = re.findall(rf"{STEP} (.*?)\s*$", said, re.M)
    return f", at the step '{steps[-1]}'" if steps else ", before the script began"


def _ends(place: Path) -> str:
    """The last lines of what was written."""
    lines = []
    for name in ("emulator", "console"):
        if (place / name).exists():
            text = (place / name).read_text(errors="replace")
            lines += [f"  {name}: {line.rstrip()[:200]}" for line in text.splitlines()[-12:]]
    return "; the last lines are:\n" + "\n".join(lines) if lines else ""
