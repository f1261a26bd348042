"""The priority of what is measured: raised for all or for none."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from vprobe.environments import cgroups
from vprobe.environments.process import CONTAINER_PREFIX
from vprobe.measure import priority
from vprobe.measure.priority import NICENESS, WEIGHTS, cpu_group, raise_priority, raised
from vprobe.measure.sessions import controller_beside


@pytest.fixture
def trees() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two leaders with a child each, as supervisors are."""
    words = ["sh", "-c", "sleep 60 & wait"]
    leaders = [subprocess.Popen(words, start_new_session=True) for _ in range(2)]
    while not all(psutil.Process(one.pid).children() for one in leaders):
        time.sleep(0.01)
    yield leaders
    for one in leaders:
        for child in psutil.Process(one.pid).children():
            child.kill()
        one.wait()


def niceness(leaders: list[subprocess.Popen[bytes]]) -> set[int]:
    """Of the leaders and all below."""
    found = {psutil.Process(one.pid).nice() for one in leaders}
    return found | {child.nice() for one in leaders for child in psutil.Process(one.pid).children()}


@pytest.mark.root
def test_all_are_raised_alike(trees: list[subprocess.Popen[bytes]]) -> None:
    """Every process of every session has the same niceness afterwards, and this process its own again."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert raise_priority([one.pid for one in trees])
    assert niceness(trees) == {NICENESS}
    with raised():
        assert os.getpriority(os.PRIO_PROCESS, 0) == min(NICENESS, own)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_none_is_raised_where_one_cannot_be(
    trees: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session whose processes another daemon started, or that lives in a control group elsewhere, leaves all as they are."""
    before = niceness(trees)
    assert not raise_priority([trees[0].pid, psutil.Process(trees[1].pid).children()[0].pid])
    monkeypatch.setattr(priority, "cpu_group", lambda pid: "/a" if pid == trees[0].pid else "/b")
    assert not raise_priority([one.pid for one in trees])
    assert niceness(trees) == before


@pytest.mark.root
def test_a_group_of_a_sessions_own_gets_the_weight_of_the_others(trees: list[subprocess.Popen[bytes]]) -> None:
    """A session in a control group that was made for it is raised by its group, as the others are by their niceness."""
    names = {name: one.own for one in cgroups.hierarchies() for name in one.name.split(",")}
    group = names.get("cpu", Path("/nonexistent")) / f"{CONTAINER_PREFIX}test-{os.getpid()}"
    if not os.access(group.parent, os.W_OK):
        pytest.skip("there is no cgroup v1 of the CPU that could be written to")
    home = group.parent / "cgroup.procs"
    everybody = [trees[0].pid, psutil.Process(trees[0].pid).children()[0].pid]
    group.mkdir()
    try:
        for pid in everybody:
            (group / "cgroup.procs").write_text(str(pid))
        assert raise_priority([one.pid for one in trees])
        assert (group / "cpu.shares").read_text().strip() == str(WEIGHTS["cpu.shares"])
        assert niceness(trees) == {NICENESS}
    finally:
        for pid in everybody:
            home.write_text(str(pid))
        group.rmdir()


def test_the_group_of_the_cpu_is_read() -> None:
    """This process is in some group, and one that does not exist in none."""
    assert (cpu_group(os.getpid()) or "").startswith("/")
    assert cpu_group(2**22 + 1) is None


def test_the_controller_is_as_it_was_after_the_blocks() -> None:
    """While blocks run it is on the measured CPU and preempts nobody on waking; CPUs and policy are its own again afterwards."""
    cpus, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    with pytest.raises(RuntimeError, match="broken off"), controller_beside((min(cpus),)):
        assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == ({min(cpus)}, os.SCHED_BATCH)
        raise RuntimeError("broken off")
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (cpus, policy)
