"""Where limits are applied, from recorded layouts of cgroups; and that nothing is passed over in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vprobe.environments import Limits, bundle, docker, limits
from vprobe.environments.cgroups import Hierarchy
from vprobe.errors import UsageError

BOTH = Limits(cpus=1.5, memory_bytes=1 << 30)


def written(planned: tuple[limits.Cgroup, ...]) -> dict[str, str]:
    """File -> what would be written."""
    return {f"{one.directory}/{setting.name}": setting.value for one in planned for setting in one.settings}


def test_v1() -> None:
    """Each controller in its own hierarchy, below this process's cgroup; swap counts."""
    seen = written(limits.place(BOTH, "n", (Hierarchy("cpu,cpuacct", Path("/c/a")), Hierarchy("memory", Path("/m/b")))))
    assert seen == {
        "/c/a/n/cpu.cfs_period_us": "100000",
        "/c/a/n/cpu.cfs_quota_us": "150000",
        "/m/b/n/memory.limit_in_bytes": str(1 << 30),
        "/m/b/n/memory.memsw.limit_in_bytes": str(1 << 30),
    }


def test_v2(tmp_path: Path) -> None:
    """Below the nearest ancestor that gives both controllers away, since a cgroup with processes in it cannot."""
    own = tmp_path / "user.slice" / "session.scope"
    own.mkdir(parents=True)
    for directory, enabled in ((own, ""), (own.parent, "memory pids"), (tmp_path, "cpuset cpu memory")):
        (directory / "cgroup.subtree_control").write_text(enabled)
    seen = written(limits.place(BOTH, "n", (Hierarchy("", own),)))
    assert seen == {
        f"{tmp_path}/n/cpu.max": "150000 100000",
        f"{tmp_path}/n/memory.max": str(1 << 30),
        f"{tmp_path}/n/memory.swap.max": "0",
    }


def test_hybrid(tmp_path: Path) -> None:
    """A controller is where the machine has it: memory in v1, the CPU in v2."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu")
    seen = written(limits.place(BOTH, "n", (Hierarchy("memory", Path("/m")), Hierarchy("", tmp_path))))
    assert {path.rpartition("/")[2] for path in seen} == {
        "cpu.max",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
    }


def test_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that nobody gives away is named, and the environment is not available with limits."""
    (tmp_path / "cgroup.subtree_control").write_text("pids")
    with pytest.raises(LookupError, match="cpu and memory"):
        limits.place(BOTH, "n", (Hierarchy("", tmp_path),))
    monkeypatch.setattr(limits.cgroups, "hierarchies", lambda: (Hierarchy("", tmp_path),))
    found = limits.obstacle("bare", BOTH)
    assert found is not None
    assert "cpu and memory" in found.reason
    assert limits.obstacle("bare", Limits()) is None


def test_a_directory_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refuses is the reason, and the trial's cgroup is gone."""
    monkeypatch.setattr(
        limits.cgroups, "hierarchies", lambda: (Hierarchy("cpu", tmp_path), Hierarchy("memory", tmp_path))
    )
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied", "f")))
    found = limits.obstacle("bare", BOTH)
    assert found is not None
    assert found.reason == "limits: f: denied"
    assert list(tmp_path.iterdir()) == []


def test_another_machine() -> None:
    """What no limit reaches is refused."""
    found = limits.obstacle("ssh", BOTH)
    assert found is not None
    assert "SSH" in found.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_rootless_runtimes() -> None:
    """runc and crun apply no limits for a normal user, and say nothing: we do."""
    assert limits.obstacle("runc", BOTH) is not None


def test_engines_words() -> None:
    """The same figures for the engines that make their own cgroups."""
    assert bundle.resources(BOTH) == {
        "cpu": {"period": 100_000, "quota": 150_000},
        "memory": {"limit": 1 << 30, "swap": 1 << 30},
    }
    assert bundle.resources(Limits()) == {}
    from vprobe.environments import Launch

    launch = Launch((), Path("/s"), Path("/t"), limits=BOTH)
    assert docker.limits(launch) == ("--cpus=1.5", f"--memory={1 << 30}", f"--memory-swap={1 << 30}")


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2GiB", 2 << 30), ("1.5g", 3 << 29), ("64mb", 64 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    """As users write them."""
    assert limits.parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1G", "1M", "512", "1e9G", "\x1b[31m"])
def test_no_sizes(text: str) -> None:
    """What is none, or too small to start anything in, is refused with an example."""
    with pytest.raises(UsageError, match="--memory") as caught:
        limits.parse_memory(text)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("true true", None),
        ("false true", "limit CPU time"),
        ("false false", "limit CPU time and memory"),
        ("", "limit"),
    ],
)
def test_a_daemon_that_would_leave_limits_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str | None
) -> None:
    """A rootless Docker daemon without cgroups takes limits with a warning and ignores them: that is an obstacle."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = limits.obstacle("docker", BOTH)
    assert (found is None) == (words is None)
    assert found is None or str(words) in found.reason
