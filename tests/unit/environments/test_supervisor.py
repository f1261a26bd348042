"""The supervisor's own parts: removal that stays inside, mount points as the kernel writes them, processes as a tree."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vprobe.environments import supervisor


def test_remove_follows_no_link(tmp_path: Path) -> None:
    """What a link points to stays; the link goes."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "directory").symlink_to(kept)
    (doomed / "file").symlink_to(kept / "file")
    (doomed / "dangling").symlink_to("/nonexistent")
    supervisor.remove(str(doomed))
    assert not doomed.exists()
    assert (kept / "file").read_text() == "x"


def test_remove_takes_modes_away(tmp_path: Path) -> None:
    """A tree that a workload made unreadable and unwritable goes as well."""
    inner = tmp_path / "doomed" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    inner.chmod(0)
    supervisor.remove(str(tmp_path / "doomed"))
    assert not (tmp_path / "doomed").exists()


def test_remove_of_nothing(tmp_path: Path) -> None:
    """A directory that is gone already is no error."""
    supervisor.remove(str(tmp_path / "gone"))


def test_remove_stops_at_a_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as something is mounted below, nothing at all is removed: it could be the host's own root."""
    (tmp_path / "doomed" / "root").mkdir(parents=True)
    (tmp_path / "doomed" / "root" / "precious").write_text("x")
    monkeypatch.setattr(supervisor, "mount_points", lambda: ["/", str(tmp_path / "doomed" / "root")])
    supervisor.remove(str(tmp_path / "doomed"))
    assert (tmp_path / "doomed" / "root" / "precious").exists()


def test_mounts_below_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sibling whose name begins alike is not below."""
    monkeypatch.setattr(supervisor, "mount_points", lambda: ["/", "/a", "/a/b", "/ab"])
    assert supervisor.mounts_below("/a") == ["/a", "/a/b"]


def test_mount_points_agree_with_the_kernel() -> None:
    """Each is a path that exists, and / is among them."""
    points = supervisor.mount_points()
    assert "/" in points
    assert all(os.path.ismount(point) for point in points if os.access(point, os.R_OK) and point.startswith("/sys"))


@pytest.mark.parametrize("name", ["a b", "tab\there", "back\\slash", "née", "line\nbreak"])
@pytest.mark.root
def test_mount_points_with_odd_names(tmp_path: Path, name: str) -> None:
    """Octal escapes of mountinfo are undone: such a mount point is found under its real name."""
    place = tmp_path / name
    place.mkdir()
    program = (
        "import ctypes, os, sys; sys.path.insert(0, sys.argv[1]); import supervisor\n"
        "supervisor.make_mounts([dict(source='x', target=sys.argv[2], type='tmpfs', flags=0, data='', directories=[])])\n"
        "assert supervisor.mounts_below(sys.argv[2]) == [sys.argv[2]], supervisor.mount_points()\n"
    )
    folder = str(Path(supervisor.__file__).parent)
    subprocess.run([sys.executable, "-c", program, folder, str(place)], check=True)
    assert supervisor.mounts_below(str(place)) == []


def test_descendants() -> None:
    """Children and their children are found, and the process itself is not among them."""
    program = "import subprocess, sys; subprocess.Popen(['sleep', '30']); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        found = supervisor.descendants(child.pid)
        assert len(found) == 1
        assert child.pid in supervisor.descendants(os.getpid())
        supervisor.signal_all([*found, child.pid], 9)


def test_a_command_reports_failure_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails, one that is not there and one that hangs each say so in one line."""
    monkeypatch.setattr(supervisor, "COMMAND_TIMEOUT_S", 0.2)
    assert supervisor.run_bounded(["/bin/sh", "-c", "exit 0"], {}) == ""
    assert supervisor.run_bounded(["/bin/sh", "-c", "exit 3"], {}).endswith("exit status 3")
    assert "No such file" in supervisor.run_bounded(["/nonexistent"], {})
    before = time.monotonic()
    assert "no end within" in supervisor.run_bounded(["/bin/sleep", "20"], {})
    assert time.monotonic() - before < 5


def test_it_needs_nothing_but_the_standard_library() -> None:
    """It runs by path, isolated and without site-packages, and loads no module that is slow to load."""
    program = (
        "import sys; exec(compile(open(sys.argv[1]).read(), sys.argv[1], 'exec'), {'__name__': 'supervisor'})\n"
        "slow = {'subprocess', 'pathlib', 'dataclasses', 'typing', 'vprobe'} & set(sys.modules)\n"
        "sys.exit(' '.join(slow) or 0)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", program, supervisor.__file__], check=True)


@pytest.mark.parametrize("above", ["", "0-1"])
def test_cpus_of_a_new_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str) -> None:
    """v1 gives a new cgroup no CPUs, so it gets its parent's; the root of v2 names none, and there it has all."""
    make = os.mkdir

    def as_the_kernel_does(path: str) -> None:
        make(path)
        for name in ("cpuset.cpus", "cpuset.mems", "cpu.max", "cgroup.procs"):
            Path(path, name).touch()

    monkeypatch.setattr(os, "mkdir", as_the_kernel_does)
    if above:
        (tmp_path / "cpuset.cpus").write_text(above)
    supervisor.enter_cgroup(str(tmp_path / "new"), [("cpu.max", "50000 100000", False), ("absent", "1", True)])
    assert (tmp_path / "new/cpuset.cpus").read_text() == above
    assert (tmp_path / "new/cpu.max").read_text() == "50000 100000"
    assert (tmp_path / "new/cgroup.procs").read_text() == str(os.getpid())
    assert not (tmp_path / "new/absent").exists()
