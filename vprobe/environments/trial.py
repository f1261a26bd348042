"""Finding out whether an engine works here: by using it, within a bounded time, and reading what it says."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence

from vprobe.environments import Environment, Launch, Unavailable, sessions
from vprobe.environments.process import ProcessSession
from vprobe.errors import RunError

VERSION_TIMEOUT_S = 5.0
TRIAL_TIMEOUT_S = 20.0
TRIAL_ARGV = ("/bin/sh", "-c", ":")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Searched after the user's own PATH, since engines are in sbin, which a normal user's PATH lacks on Debian."""


USUAL_LOOP_NS = 6_000_000
LOOP = 100_000


@functools.cache
def slowness() -> float:
    """How many times slower than a usual machine this one runs Python, at least 1: nested emulation needs more patience."""
    fastest = min(_loop_ns() for _ in range(3))  # other work on the machine is not slowness
    return max(1.0, fastest / USUAL_LOOP_NS)


def _loop_ns() -> int:
    before = time.perf_counter_ns()
    for _ in range(LOOP):
        pass
    return time.perf_counter_ns() - before


def find(program: str) -> str | None:
    """Absolute path of a program, or None."""
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), SEARCH_PATH]))
    return os.path.realpath(path) if path else None


def version(program: str, *arguments: str) -> str:
    """The first version number in what `program --version` prints; "" if it tells none."""
    command = [program, *(arguments or ("--version",))]
    try:
        # podman makes directories for a normal user even to tell its version.
        with tempfile.TemporaryDirectory(prefix="vprobe-version-") as place:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=VERSION_TIMEOUT_S,
                env={**os.environ, "TMPDIR": place, "XDG_RUNTIME_DIR": place},
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(rb"\d+(?:\.\d+)+[-+~.\w]*", (done.stdout + done.stderr)[:4096])
    return match.group().decode("ascii", "replace") if match else ""


def succeeds(program: str, *arguments: str) -> bool:
    """Whether a command ends with status 0 in time."""
    command = [program, *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def run(environment: Environment, argv: Sequence[str] = TRIAL_ARGV) -> str | None:
    """Start a session that ends at once. None if it worked, else the last that was said about why not ("" for nothing)."""
    with sessions.open_run() as directory:
        launch = Launch(tuple(argv), directory.new_session(), directory.scratch)
        try:
            session = environment.start(launch)
        except RunError as error:
            return last_line(error.message)
        assert isinstance(session, ProcessSession)
        with session:
            ended = session.wait(TRIAL_TIMEOUT_S)
            if ended == 0:
                return None
            said = last_line(session.stderr_tail())
            return said or ("" if ended is not None else f"nothing happened within {TRIAL_TIMEOUT_S:.0f} s")


def missing(program: str, package: str) -> Unavailable:
    """The verdict where an engine is not installed."""
    return Unavailable(f"{program} is not installed", f"apt install {package}", (package,))
