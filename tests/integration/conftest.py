"""A Docker daemon of the tests' own, and which of the guests' promises the main line proves."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 15.0

GUESTS_IN_THE_MAIN_LINE = {"test_killed_controller_and_supervisor"}
"""Of the promises of all environments. A guest takes seconds to start: the others are for `make validate-guest`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the other promises of guests among the long proofs, before these are selected or left out."""
    for item in items:
        name = item.originalname if isinstance(item, pytest.Function) else ""
        is_promise = item.path.name == "test_environments.py" and item.get_closest_marker("guest") is not None
        if is_promise and name not in GUESTS_IN_THE_MAIN_LINE:
            item.add_marker(pytest.mark.validation)


@pytest.fixture(scope="session")
def private_docker() -> Iterator[None]:
    """A Docker daemon of the tests' own, where there is one to start; the user's is left alone."""
    if shutil.which("dockerd") is None or os.geteuid():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vpd") as directory, pytest.MonkeyPatch.context() as patch:
        place = Path(directory)
        patch.setenv("DOCKER_HOST", f"unix://{place / 'socket'}")
        # It writes below /run and /etc/docker whatever it is told: these are its own, too. It ends with the tests, even if
        # those are killed.
        covers = "for place in /run /etc/docker; do test ! -d $place || mount -t tmpfs tmpfs $place; done; "
        apart = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            covers + 'exec "$@"',
            "sh",
        ]
        command = [
            *apart,
            "dockerd",
            "--data-root",
            place / "data",
            "--exec-root",
            place / "exec",
            "--pidfile",
            place / "pid",
        ]
        network = ["--host", os.environ["DOCKER_HOST"], "--iptables=false", "--ip6tables=false", "--bridge=none"]
        drivers = ["--storage-driver=vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"]
        cgroups = set(Path("/sys/fs/cgroup").glob("**/docker"))
        with (place / "log").open("wb") as log, subprocess.Popen([*command, *network, *drivers], stderr=log) as daemon:
            try:
                deadline = time.monotonic() + PATIENCE_S
                while subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
                    assert time.monotonic() < deadline, (place / "log").read_text()[-2000:]
                    time.sleep(0.02)
                yield
            finally:
                daemon.terminate()
                daemon.wait(30)
        for path in set(Path("/sys/fs/cgroup").glob("**/docker")) - cgroups:
            path.rmdir()
