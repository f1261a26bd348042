"""The echoing child of the pipe round trip."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vprobe import _native


@pytest.fixture
def echo() -> Iterator[tuple[int, int, int]]:
    pid, to_child, from_child = _native.spawn_echo()
    yield pid, to_child, from_child
    for descriptor in (to_child, from_child):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def test_bytes_come_back(echo: tuple[int, int, int]) -> None:
    """Every byte written returns, in order."""
    _, to_child, from_child = echo
    for byte in (b"a", b"\0", b"\xff"):
        os.write(to_child, byte)
        assert os.read(from_child, 1) == byte


def test_the_kernel_runs_against_it(echo: tuple[int, int, int]) -> None:
    """pipe_round_trip with its descriptors returns the byte that it wrote."""
    with _native.KernelHost(0) as host:
        ticks, byte = host.run("pipe_round_trip", 5, 50, echo[1], echo[2])
    assert byte == ord("v")
    assert ticks > 0


def test_it_ends_when_the_pipe_closes() -> None:
    """Closing the write end ends the child with status 0, although a second child was forked after it."""
    first = _native.spawn_echo()
    second = _native.spawn_echo()
    os.close(first[1])
    assert os.waitstatus_to_exitcode(os.waitpid(first[0], 0)[1]) == 0
    for descriptor in (first[2], second[1], second[2]):
        os.close(descriptor)
    os.waitpid(second[0], 0)


def test_it_holds_nothing_but_its_pipes(echo: tuple[int, int, int]) -> None:
    """The child has two descriptors, both pipes: nobody's else's end stays open through it."""
    os.write(echo[1], b"x")
    os.read(echo[2], 1)  # by now it has closed the rest
    descriptors = Path(f"/proc/{echo[0]}/fd")
    assert {path.name: path.readlink().name.split(":")[0] for path in descriptors.iterdir()} == {
        "0": "pipe",
        "1": "pipe",
    }


def test_ctrl_c_leaves_it_to_its_parent(echo: tuple[int, int, int]) -> None:
    """SIGINT, which reaches the whole foreground group, does not end it."""
    os.kill(echo[0], signal.SIGINT)
    os.write(echo[1], b"y")
    assert os.read(echo[2], 1) == b"y"


def test_it_ends_with_a_killed_parent() -> None:
    """A parent that is killed with SIGKILL leaves no echo behind."""
    code = "from vprobe import _native; import time; print(_native.spawn_echo()[0], flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_its_descriptors_are_not_inherited(echo: tuple[int, int, int]) -> None:
    """Both ends are close-on-exec."""
    assert [os.get_inheritable(descriptor) for descriptor in echo[1:]] == [False, False]
