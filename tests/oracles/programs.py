"""Their side of a pair: programs, pinned to the measured CPU."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vprobe.measure.priority import NICENESS

TIMEOUT_S = 60.0
AUTOGROUP = Path("/proc/self/autogroup")
SOURCES = Path(__file__).parent


class ProgramError(Exception):
    """A program failed or said something else than it should: the text says what."""


def pinned(cpu: int, command: Sequence[str | Path]) -> list[str]:
    """A command on that CPU, scheduled as our side is: at its priority (vprobe.measure.priority), and not as a batch process,
    which the controller is and which waking up does not let run at once. It is to lead a session of its own.

    Where the kernel balances sessions (sched(7), autogroup), niceness counts only among the processes of one.
    """
    same_priority = f'echo {NICENESS} >/proc/self/autogroup; renice -n {NICENESS} $$ >/dev/null; exec "$@"'
    raised = ["sh", "-c", same_priority, "sh"] if os.geteuid() == 0 and AUTOGROUP.exists() else []
    return ["chrt", "--other", "0", "taskset", "-c", str(cpu), *raised, *map(str, command)]


def run(command: Sequence[str | Path], cpu: int, **words: str) -> str:
    """What a program prints. ProgramError where it fails."""
    done = subprocess.run(
        pinned(cpu, command),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "LC_ALL": "C", **words},
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ProgramError(f"{Path(command[0]).name}: exit {done.returncode}: {''.join(said)[:200]}")
    return done.stdout


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vprobe-oracles-")


@functools.cache
def compiled(source: str) -> Path:
    """A stand-alone C program of this directory. -O3 with unrolling, as STREAM is built; it shares no code with the package."""
    directory = _directory().name
    program = Path(directory) / Path(source).stem
    command = ["cc", "-O3", "-funroll-loops", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCES / source)]
    # The compiler's own files go with the directory, however it ends.
    subprocess.run(command, check=True, timeout=TIMEOUT_S, env={**os.environ, "TMPDIR": directory})
    return program


class Blocks:
    """A program that performs a block for each line that it is sent, and answers with the figure of an operation."""

    def __init__(self, program: Path, cpu: int, *words: object) -> None:
        command = pinned(cpu, [program, *map(str, words)])
        self.process = subprocess.Popen(
            command,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def __call__(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise ProgramError("the stand-alone program ended")
        return float(answer)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
