"""The priority of what is measured, raised for all arms alike, so that other work disturbs the measured CPU less.

It takes the right to do so (root, or RLIMIT_NICE), and is done from outside: an agent in a container has no such right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import psutil

from vprobe.environments import cgroups
from vprobe.environments.process import CONTAINER_PREFIX

NICENESS = -15
"""29 times the weight of a process of niceness 0 (sched_prio_to_weight in kernel/sched/core.c): 97 % of a contended CPU."""

WEIGHTS = {"cpu.shares": 29154, "cpu.weight": 2847}
"""The same of a control group, whose weight is 1024 in v1 (sched-design-CFS.rst) and 100 in v2 (cgroup-v2.rst) otherwise."""

MAX_BYTES = 1 << 16


def raise_priority(leaders: Sequence[int]) -> bool:
    """Raise the priority of the sessions that these processes lead, of all or of none; whether it was done.

    Of none where it is not allowed, or where a session's processes cannot be found (an engine's daemon started them).

    Between control groups of the CPU the groups' weights count and the niceness of their members does not. A group that is a
    session's own and lies just below vprobe's competes with the processes in that, and gets the weight of one that is raised;
    of groups elsewhere that cannot be said, and raising some would favour them.
    """
    trees = _trees(leaders)
    everybody = [pid for tree in trees for pid in tree]
    own = cpu_group(os.getpid())
    weights = [_weight(group, own) for group in {cpu_group(pid) for pid in everybody} - {own}]
    if any(len(tree) < 2 for tree in trees) or own is None or None in weights:
        return False
    try:
        for weight in filter(None, weights):
            weight.write_text(str(WEIGHTS[weight.name]))
        for pid in everybody:
            _raise(pid)
    except OSError:
        return False
    return True


def _weight(group: str | None, own: str | None) -> Path | None:
    """The file with the weight of a session's own group, if it lies just below this process's; else None."""
    path = PurePosixPath(group or "/")
    if not path.name.startswith(CONTAINER_PREFIX) or str(path.parent) != own:
        return None
    by_name = {name: one.own for one in cgroups.hierarchies() for name in one.name.split(",")}
    directory = by_name.get("cpu", by_name.get(""))
    files = [directory / path.name / name for name in WEIGHTS] if directory else []
    return next(filter(Path.exists, files), None)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """This process at the same priority, where it is allowed: it hands the blocks out, and no arm should wait for it."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, before))
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def _trees(leaders: Sequence[int]) -> list[list[int]]:
    """Each leader with all its descendants."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process.pid)
    trees = []
    for leader in leaders:
        tree = [leader]
        for pid in tree:
            tree += children.get(pid, ())
        trees.append(tree)
    return trees


def _raise(pid: int) -> None:
    """Every thread of a process, and its session's group where the kernel balances sessions (sched(7), autogroup)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), NICENESS)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(NICENESS))


def cpu_group(pid: int) -> str | None:
    """The control group of the CPU that a process is in (cgroups(7)); None where it cannot be told."""
    try:
        with Path(f"/proc/{pid}/cgroup").open("rb") as file:
            lines = file.read(MAX_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    unified = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return path
        if not controllers:
            unified = path
    return unified
