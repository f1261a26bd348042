"""The priority of what is measured, raised for all arms alike, so that other work disturbs the measured CPU less.

It takes the right to do so (root, or RLIMIT_NICE), and is done from outside: an agent in a container has no such right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

NICENESS = -15
"""29 times the weight of a process of niceness 0 (sched_prio_to_weight in kernel/sched/core.c): 97 % of a contended CPU."""

MAX_BYTES = 1 << 16


def raise_priority(leaders: Sequence[int]) -> bool:
    """Raise the priority of the sessions that these processes lead, of all or of none; whether it was done.

    Of none where it is not allowed, where a session's processes cannot be found (an engine's daemon started them), or where
    they live in different control groups of the CPU: there the groups' weights count and the niceness of their members does
    not, so that raising it would favour some arms.
    """
    trees = _trees(leaders)
    everybody = [pid for tree in trees for pid in tree]
    groups = {cpu_group(pid) for pid in everybody}
    if any(len(tree) < 2 for tree in trees) or len(groups) != 1 or None in groups:
        return False
    try:
        for pid in everybody:
            _raise(pid)
    except PermissionError:
        return False
    return True


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
