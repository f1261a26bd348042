"""Emulators as processes that cannot outlive the bench: killed by the kernel when it dies, by us when it ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    """Run an emulator until its guest powers it off, and return the wall time in s. LabError where that does not happen."""
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
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"the guest did not end within {limit_s:.0f} s{_ends(place)}") from None
        finally:
            process.kill()
            process.wait()
    if status not in good:
        raise LabError(f"{command[0]} ended with status {status}{_ends(place)}")
    return time.monotonic() - started


def _ends(place: Path) -> str:
    """The last lines of what was written."""
    lines = []
    for name in ("emulator", "console"):
        if (place / name).exists():
            text = (place / name).read_text(errors="replace")
            lines += [f"  {name}: {line.rstrip()[:200]}" for line in text.splitlines()[-12:]]
    return "; the last lines are:\n" + "\n".join(lines) if lines else ""
