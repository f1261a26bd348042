"""As a normal user: what needs no root works, what does says so, and limits that cannot be applied are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker_server
import pytest

import vprobe

USER = 64123
"""Nobody's: no account is made, since setpriv(1) takes numbers."""
FOR_EVERYBODY = ("bare", "namespaces", "bubblewrap", "runc", "crun", "podman")
FOR_ROOT = ("chroot", "nspawn", "lxc", "gvisor")


def reachable(path: Path) -> bool:
    """Whether everybody can get at a file."""
    return path.stat().st_mode & 0o004 != 0 and all(parent.stat().st_mode & 0o001 for parent in path.parents)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the user's own, short since engines have sockets there."""
    needed = (Path(os.path.realpath(sys.executable)), Path(sys.executable), Path(vprobe.__file__).resolve())
    hidden = [str(path) for path in needed if not reachable(path)]
    if hidden:
        pytest.skip(f"a normal user cannot get at {', '.join(hidden)}")
    if os.geteuid():
        with tempfile.TemporaryDirectory(prefix="vpu") as directory:
            yield Path(directory)
        return
    with tempfile.TemporaryDirectory(prefix="vpu") as directory:
        os.chown(directory, USER, USER)
        yield Path(directory)
        left = subprocess.run(["pgrep", "-u", str(USER)], capture_output=True, text=True, check=False).stdout
        assert left == "", "processes are left"


def as_user(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`vprobe` as that user, in a directory of the user's own."""
    change = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    kept = {name: os.environ[name] for name in ("PATH", "CI") if name in os.environ}
    variables = {**kept, "HOME": str(place), "TMPDIR": str(place), "USER": "tester", **more}
    command = [*change, sys.executable, "-m", "vprobe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=variables, timeout=300, check=False)


def test_environments(place: Path) -> None:
    """Each is available, or not with a reason and a remedy; those for root alone say that."""
    rows = {row["name"]: row for row in json.loads(as_user(place, "envs", "--json").stdout)}
    for name, row in rows.items():
        assert row["available"] or (row["reason"] and row["remedy"]), name
        assert "internal" not in (row["reason"] or "")
    for name in FOR_ROOT:
        assert not rows[name]["available"]
    measured = [name for name in FOR_EVERYBODY if rows[name]["available"]]
    assert "bare" in measured
    done = as_user(
        place, "bench", "--env", ",".join(measured), "--select", "cpu.sha256", "--boots", "1", "-o", "r.json"
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((place / "r.json").read_text())
    assert set(run["visits"][0]["samples"]) == {*measured, "bare-aa"}
    assert sorted(path.name for path in place.iterdir() if not path.name.startswith(".")) == ["r.json"]


def test_limits(place: Path) -> None:
    """Where this user may not make cgroups, limits are refused in one line; where one is delegated, they are applied."""
    done = as_user(
        place, "bench", "--cpus", "0.5", "--env", "bare", "--select", "cpu.sha256", "--boots", "1", "-o", "r.json"
    )
    assert done.returncode in (0, 5), done.stderr
    if done.returncode == 5:
        assert len(done.stderr.splitlines()) == 1
        assert "limits: " in done.stderr


def test_docker(place: Path) -> None:
    """A daemon that this user may not talk to is not one that is not there."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    (row,) = json.loads(as_user(place, "envs", "--json", "docker").stdout)
    assert row["available"] or "remedy" in row


@pytest.mark.root
@pytest.mark.engine("dockerd")
@pytest.mark.skipif(shutil.which("rootlesskit") is None, reason="rootlesskit is not installed")
@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="newuidmap is not installed (package uidmap)")
def test_rootless_docker(place: Path) -> None:
    """A daemon that the user runs without root serves as well; limits that it would leave out are refused."""
    with docker_server.serving_rootless(USER) as host:
        words = ("--env", "bare,docker", "--select", "cpu.sha256", "--boots", "1", "-o", "r.json")
        done = as_user(place, "bench", *words, DOCKER_HOST=host)
        assert done.returncode == 0, done.stderr
        run = json.loads((place / "r.json").read_text())
        assert set(run["visits"][0]["samples"]) == {"bare", "bare-aa", "docker"}
        info = ["docker", "-H", host, "info", "--format", "{{.CPUCfsQuota}}"]
        limits = subprocess.run(info, capture_output=True, text=True, check=True).stdout.strip()
        done = as_user(place, "bench", "--cpus", "0.5", *words, "--dry-run", DOCKER_HOST=host)
        if limits == "false":
            assert done.returncode == 5
            assert "limits: " in done.stderr
