"""A Docker daemon of the tests' own; the machine's is left alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DOCKERD = shutil.which("dockerd") if os.geteuid() == 0 else None
"""None where there is none to start."""
PATIENCE_S = 15.0
COVERS = "for place in /run /etc/docker; do test ! -d $place || mount -t tmpfs tmpfs $place; done; "
"""It writes there whatever it is told: these are its own, too."""
OPTIONS = (
    *("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"),
    *("--exec-opt", "native.cgroupdriver=cgroupfs"),
)


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
        with (place / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as daemon:
            try:
                deadline = time.monotonic() + PATIENCE_S
                while subprocess.run(["docker", "-H", host, "version"], capture_output=True, check=False).returncode:
                    assert time.monotonic() < deadline, (place / "log").read_text()[-2000:]
                    time.sleep(0.02)
                yield host
            finally:
                daemon.terminate()
                daemon.wait(30)
        for path in set(Path("/sys/fs/cgroup").glob("**/docker")) - cgroups:
            path.rmdir()
