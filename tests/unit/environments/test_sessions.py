"""Directories of runs and sessions: made safely among strangers, swept only when stale, removed whole."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vprobe.environments import sessions, supervisor
from vprobe.errors import RunError, UsageError


@pytest.fixture(autouse=True)
def own_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary directory of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def abandoned() -> Path:
    """A session directory whose run was killed."""
    run = sessions.open_run()
    session = run.new_session()
    os.close(run.lock)  # as the kernel does for a process that was killed
    return session


def test_a_run_leaves_nothing() -> None:
    """When the only run closes, the base directory goes, too."""
    with sessions.open_run() as run:
        (run.scratch / "deep").mkdir()
        (run.scratch / "deep" / "file").write_text("x")
        assert run.path.parent == sessions.base()
        assert run.path.stat().st_mode & 0o777 == 0o700
    assert not sessions.base().exists()


def test_two_runs_at_once() -> None:
    """The first to close leaves the second's directory alone."""
    with sessions.open_run() as second:
        with sessions.open_run():
            pass
        assert second.scratch.is_dir()


def test_a_base_that_others_may_enter_is_refused() -> None:
    """A directory with the right name and open modes may be a trap: the error says what to do."""
    sessions.base().mkdir(mode=0o755)
    with pytest.raises(RunError, match="not this user's alone") as caught:
        sessions.open_run()
    assert "TMPDIR" in caught.value.hint


def test_a_base_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """Nobody can make vprobe work, or sweep, where a link of theirs points to."""
    target = tmp_path / "victim"
    target.mkdir(mode=0o700)
    stale = target / "run-0badcafe"
    stale.mkdir(mode=0o700)
    sessions.base().symlink_to(target)
    for act in (sessions.open_run, sessions.sweep):
        with pytest.raises(RunError):
            act()
    assert stale.is_dir()


@pytest.mark.root
def test_a_base_of_another_user_is_refused() -> None:
    """Right mode, wrong owner."""
    sessions.base().mkdir(mode=0o700)
    os.chown(sessions.base(), 12345, 12345)
    with pytest.raises(RunError, match="not this user's alone"):
        sessions.open_run()


def test_sweep_without_a_base() -> None:
    """There is nothing to do, and nothing is made."""
    assert sessions.sweep() == ()
    assert not sessions.base().exists()


def test_sweep_removes_a_stale_run() -> None:
    """A run that nobody has locked goes with its sessions."""
    session = abandoned()
    (session / "file").write_text("x")
    assert sessions.sweep() == (session.parent,)
    assert not sessions.base().exists()


def test_sweep_leaves_a_live_run() -> None:
    """A lock in this or any other process protects a run."""
    with sessions.open_run() as run:
        assert sessions.sweep() == ()
        assert run.scratch.is_dir()


def test_sweep_leaves_a_run_with_a_working_supervisor() -> None:
    """The run is stale, one of its sessions is not: all of it stays until that ends."""
    session = abandoned()
    lock = os.open(session, os.O_RDONLY)
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_SH)
    assert sessions.sweep() == ()
    os.close(lock)
    assert sessions.sweep() == (session.parent,)


def test_sweep_passes_over_what_is_not_a_run() -> None:
    """Files, links and directories of other modes below the base are not ours to remove."""
    outside = Path(tempfile.gettempdir()) / "outside"
    (outside / "s-1").mkdir(parents=True)
    with sessions.open_run():
        (sessions.base() / "run-file").write_text("x")
        (sessions.base() / "run-link").symlink_to(outside)
        (sessions.base() / "run-open").mkdir()
        (sessions.base() / "run-open").chmod(0o755)
        assert sessions.sweep() == ()
    assert {path.name for path in sessions.base().iterdir()} == {"run-file", "run-link", "run-open"}
    assert (outside / "s-1").is_dir()


def test_sweep_kills_only_bearers_of_the_mark() -> None:
    """A process with the session's mark in its variables ends; one with a mark that only begins alike does not."""
    session = abandoned()
    sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
    marked = subprocess.Popen(sleeper, env={supervisor.SESSION_VARIABLE: str(session)})
    similar = subprocess.Popen(sleeper, env={supervisor.SESSION_VARIABLE: f"{session}0"})
    try:
        # Reaped by this process only, as an orphan would be by init.
        sweep = subprocess.Popen([sys.executable, "-I", "-S", supervisor.__file__, "--sweep", str(session)])
        assert marked.wait(10) == -9
        assert sweep.wait(10) == 0
        assert similar.poll() is None
    finally:
        similar.kill()
        similar.wait()


def test_sweep_survives_broken_instructions() -> None:
    """A session whose file was cut off in the middle is removed all the same."""
    session = abandoned()
    (session / supervisor.INSTRUCTIONS).write_text('{"argv": ["/bin/')
    assert sessions.sweep() == (session.parent,)


def test_run_of() -> None:
    """Only a directory below the base belongs to a run."""
    with sessions.open_run() as run:
        assert sessions.run_of(run.new_session()) == run.path
    assert sessions.run_of(Path("/somewhere/run-1/s-1")) is None


def test_a_scratch_directory_elsewhere(tmp_path: Path) -> None:
    """It is made where the user says, and goes with the run."""
    place = tmp_path / "disk"
    place.mkdir()
    with sessions.open_run(place) as run:
        assert run.scratch.parent == place
        assert run.scratch.stat().st_mode & 0o777 == 0o700
        (run.scratch / "file").write_text("x")
    assert not list(place.iterdir())
    assert not sessions.base().exists()


def test_a_scratch_directory_elsewhere_of_a_killed_run_is_swept(tmp_path: Path) -> None:
    """The next start removes it; a link that somebody bent to another place removes nothing there."""
    place = tmp_path / "disk"
    place.mkdir()
    run = sessions.open_run(place)
    os.close(run.lock)
    sessions.sweep()
    assert not list(place.iterdir())
    run = sessions.open_run(place)
    os.close(run.lock)
    victim = tmp_path / "victim"
    (victim / "inside").mkdir(parents=True)
    (run.path / supervisor.ELSEWHERE).unlink()
    (run.path / supervisor.ELSEWHERE).symlink_to(victim)
    sessions.sweep()
    assert (victim / "inside").is_dir()
    assert not run.path.exists()


def test_a_scratch_directory_that_cannot_be(tmp_path: Path) -> None:
    """A wrong name is the user's mistake, in one line."""
    with pytest.raises(UsageError, match=r"--scratch .* is not a directory"):
        sessions.open_run(tmp_path / "missing")
    assert not sessions.base().exists()


def test_memory_is_not_taken_for_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary directory in memory is passed by, unless the user chose it."""
    kinds = {sessions.DISK_DIRECTORY: "ext4"}
    monkeypatch.setattr(sessions, "file_system", lambda directory: (kinds.get(directory, "tmpfs"), "x"))
    monkeypatch.delenv("TMPDIR", raising=False)
    assert sessions.scratch_parent() == sessions.DISK_DIRECTORY.resolve()
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    assert sessions.scratch_parent() == Path(tempfile.gettempdir())
