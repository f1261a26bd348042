"""Directories of runs and sessions, and the sweep of what killed runs left behind.

    TMPDIR/vprobe-UID/            mode 0700, the user's own
        run-XXXXXXXX/             one run of vprobe; its controller holds a shared lock on it (flock(2))
            scratch/              writable in every environment, at its own path; in another directory on request, and
            elsewhere             then this symbolic link tells where, so that it is removed with the rest
            s-XXXXXXXX/           one session; its supervisor holds a shared lock on it

A lock ends with its holder however that dies, means the same in every PID namespace, and cannot be mistaken for another's,
as a recorded PID can. So whatever is not locked is stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import supervisor
from vprobe.errors import RunError, UsageError

SWEEP_TIMEOUT_S = 60.0
IN_MEMORY = ("tmpfs", "ramfs")
DISK_DIRECTORY = Path("/var/tmp")  # noqa: S108 - a directory of a random name is made there
"""Preserved over a reboot, so seldom in memory (FHS 3.0, 5.15)."""


def base() -> Path:
    """Where the directories of this user's runs are."""
    return Path(tempfile.gettempdir()).resolve() / f"vprobe-{os.geteuid()}"


def _open_directory(path: Path | str, parent: int | None = None) -> int:
    """A descriptor of a real directory that belongs to this user alone. RunError where it is anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        raise RunError(f"{path} is not this user's alone", "remove it, or set TMPDIR to a directory of your own")
    return descriptor


def _open_base() -> int:
    """A descriptor of the base directory, made where it is missing."""
    with contextlib.suppress(FileExistsError):
        base().mkdir(mode=0o700)
    try:
        return _open_directory(base())
    except NotADirectoryError:
        raise RunError(f"{base()} is not a directory", "remove it, or set TMPDIR to a directory of your own") from None


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run, locked for as long as this process lives or until it is closed."""

    path: Path
    scratch: Path
    lock: int

    def new_session(self) -> Path:
        """A fresh directory for one session, which its supervisor removes."""
        path = self.path / f"s-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Remove the directory. Every session must have been stopped."""
        supervisor.remove_whole_run(str(self.path))
        os.close(self.lock)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_system(directory: Path) -> tuple[str, str]:
    """(type, source) of the file system that a directory is on, as /proc/self/mountinfo says; ("", "") if it does not."""
    found, longest = ("", ""), -1
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        fields, _, tail = line.partition(b" - ")
        point = Path(supervisor.unescaped(fields.split(b" ")[4]))
        if directory.is_relative_to(point) and len(point.parts) >= longest:  # of two at one point the later covers
            kind, source = map(os.fsdecode, tail.split(b" ")[:2])
            found, longest = (kind, source), len(point.parts)
    return found


def scratch_parent(named: Path | None = None) -> Path:
    """Where the scratch directory of a run is made: where the user says, else in the temporary directory.

    That is in memory on many systems; unless the user chose it by TMPDIR, /var/tmp is taken then, if that is on a disk.
    UsageError where the directory that was named cannot be used.
    """
    if named is not None:
        directory = named.resolve()
        if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
            raise UsageError(f"--scratch {named} is not a directory that can be written to", "name another directory")
        return directory
    temporary = Path(tempfile.gettempdir()).resolve()
    chosen_by_user = "TMPDIR" in os.environ
    if chosen_by_user or file_system(temporary)[0] not in IN_MEMORY or file_system(DISK_DIRECTORY)[0] in IN_MEMORY:
        return temporary
    return DISK_DIRECTORY.resolve() if os.access(DISK_DIRECTORY, os.W_OK | os.X_OK) else temporary


def _make_scratch(run: Path, lock: int, parent: Path) -> Path:
    """The scratch directory: in the run's directory, or elsewhere, which is noted before it is made."""
    if parent == base().parent:
        os.mkdir("scratch", 0o700, dir_fd=lock)
        return run / "scratch"
    scratch = parent / f"{supervisor.SCRATCH_PREFIX}{run.name.removeprefix('run-')}"
    os.symlink(scratch, supervisor.ELSEWHERE, dir_fd=lock)
    scratch.mkdir(mode=0o700)
    return scratch


def open_run(scratch: Path | None = None) -> RunDirectory:
    """Make and lock the directory of a new run. `scratch`: where to make its scratch directory, see scratch_parent."""
    parent = scratch_parent(scratch)
    while True:
        descriptor = _open_base()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # no sweep between making the directory and locking it
            name = f"run-{secrets.token_hex(4)}"
            os.mkdir(name, 0o700, dir_fd=descriptor)
            lock = _open_directory(name, descriptor)
            fcntl.flock(lock, fcntl.LOCK_SH)
            path = base() / name
            return RunDirectory(path, _make_scratch(path, lock, parent), lock)
        except FileNotFoundError:
            continue  # the last run of another vprobe removed the base meanwhile
        finally:
            os.close(descriptor)


def run_of(session_dir: Path) -> Path | None:
    """The directory of the run that a session belongs to; None for a session directory from elsewhere."""
    run = session_dir.parent
    return run if run.parent == base() and run.name.startswith("run-") else None


def sweep_session(session_dir: Path) -> None:
    """End and remove what is left of a session whose supervisor is dead."""
    if not Path(supervisor.__file__).exists():  # in the zipapp, on another machine, where no session has mounts
        supervisor.sweep(str(session_dir))
        return
    command = [sys.executable, "-I", "-S", supervisor.__file__, "--sweep", str(session_dir)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SWEEP_TIMEOUT_S, check=False)
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise RunError(f"{session_dir} cannot be cleaned up: {''.join(last)}", "remove it by hand")


def _try_lock(path: str, parent: int) -> int | None:
    """A descriptor of a directory that nobody has locked, now locked by us; None if it is in use or not ours."""
    try:
        descriptor = _open_directory(path, parent)
    except (OSError, RunError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep_run(run: Path, lock: int) -> bool:
    """Clean one stale run. False if a supervisor still works there: it will see to its own end."""
    for name in sorted(path.name for path in run.glob("s-*")):
        session = _try_lock(name, lock)
        if session is None:
            return False
        try:
            sweep_session(run / name)
        finally:
            os.close(session)
    supervisor.remove_whole_run(str(run))
    return True


def sweep() -> tuple[Path, ...]:
    """Remove what killed runs of this user left: processes, engines' records, files. Returns the directories removed.

    Live runs and anything that is not a directory of this user's alone are left untouched.
    """
    if not base().is_dir():
        return ()
    removed = []
    try:
        descriptor = _open_base()
    except FileNotFoundError:
        return ()  # the last supervisor of another run removed it meanwhile
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208 - by descriptor: the name may be gone
            lock = _try_lock(name, descriptor) if name.startswith("run-") else None
            if lock is None:
                continue
            try:
                if _sweep_run(base() / name, lock):
                    removed.append(base() / name)
            finally:
                os.close(lock)
        with contextlib.suppress(OSError):
            base().rmdir()
    finally:
        os.close(descriptor)
    return tuple(removed)
