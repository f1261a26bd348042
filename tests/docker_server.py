"""A Docker daemon of the tests' own, root's or a normal user's; the machine's is left alone."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

DOCKERD = shutil.which("dockerd") if os.geteuid() == 0 else None
"""None where there is none to start."""
PATIENCE_S = 15.0
SUBORDINATE = 0x7A000000
"""The first of the IDs that the rootless daemon gets: nobody's."""
COVERS = "for place in /run /etc/docker; do test ! -d $place || mount -t tmpfs tmpfs $place; done; "
"""It writes there whatever it is told: these are its own, too."""
OPTIONS = (
    *("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"),
    *("--exec-opt", "native.cgroupdriver=cgroupfs"),
)


ROOTLESS = """
for file in passwd group subuid subgid; do mount --bind $0/$file /etc/$file; done
exec setpriv --reuid=$1 --regid=$1 --clear-groups --pdeathsig TERM \\
    rootlesskit --state-dir=$0/home/kit --net=host --copy-up=/etc --copy-up=/run --propagation=rprivate \\
    dockerd --rootless --data-root=$0/home/data --exec-root=$0/home/exec --pidfile=$0/home/pid --host=$2 {options}
"""
"""With accounts of its own, since newuidmap(1) wants one with subordinate IDs (subuid(5)); the machine's are not touched."""


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Start it, wait until it answers, and end it: the value for DOCKER_HOST. It ends with this process however that ends."""
    assert DOCKERD
    with tempfile.TemporaryDirectory(prefix="vpd") as directory:
        place = Path(directory)
        host = f"unix://{place / 'socket'}"
        apart = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private"]
        places = [f"--data-root={place / 'data'}", f"--exec-root={place / 'exec'}", f"--pidfile={place / 'pid'}"]
        command = [*apart, "sh", "-c", COVERS + 'exec "$@"', "sh", DOCKERD, *places, f"--host={host}", *OPTIONS]
        cgroups = set(Path("/sys/fs/cgroup").glob("**/docker"))
        with answering(command, host, place / "log"):
            yield host
        for path in set(Path("/sys/fs/cgroup").glob("**/docker")) - cgroups:
            path.rmdir()


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """Within the block Docker's clients talk to such a daemon, where there is one to start."""
    if DOCKERD is None:
        yield
        return
    with serving() as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", host)
        yield


@contextlib.contextmanager
def serving_rootless(user: int) -> Iterator[str]:
    """The same as a normal user, by rootlesskit(1): the user's own user namespace around the daemon."""
    with tempfile.TemporaryDirectory(prefix="vpd") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "home").mkdir()
        os.chown(place / "home", user, user)
        for name, line in (
            ("passwd", f"vprobe:x:{user}:{user}::{place / 'home'}:/bin/sh"),
            ("group", f"vprobe:x:{user}:"),
        ):
            (place / name).write_text(f"{Path('/etc', name).read_text()}{line}\n")
        for name in ("subuid", "subgid"):
            (place / name).write_text(f"vprobe:{SUBORDINATE}:65536\n")
        host = f"unix://{place / 'home/socket'}"
        script = ROOTLESS.format(options=shlex.join(OPTIONS))
        apart = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private"]
        variables = {"PATH": os.environ["PATH"], "HOME": str(place / "home"), "XDG_RUNTIME_DIR": str(place / "home")}
        command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        with answering([*apart, *command, "sh", "-c", script, str(place), str(user), host], host, place / "log"):
            yield host


@contextlib.contextmanager
def answering(command: Sequence[str | Path], host: str, log_file: Path) -> Iterator[None]:
    """Run a daemon; it answers before the block begins and has ended when that has."""
    with log_file.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while subprocess.run(["docker", "-H", host, "version"], capture_output=True, check=False).returncode:
                assert daemon.poll() is None and time.monotonic() < deadline, log_file.read_text()[-2000:]
                time.sleep(0.02)
            yield
        finally:
            daemon.terminate()
            daemon.wait(30)
