"""What sessions cost this machine while they do nothing: memory of all their processes, and how many would fit.

Memory is the proportional set size (PSS, Linux's filesystems/proc.rst): pages that processes share count once among them all.
Counted are the engine, the agent and what an engine's daemon started for the session; not counted is the session's supervisor,
which is vprobe's own and alike in all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import Session, supervisor

FILES = ("memory.current", "memory.usage_in_bytes")
"""What a memory cgroup holds, in v2 and v1."""


class UnreadableError(Exception):
    """The memory of a process cannot be read; the text says whose and why."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory: `pss_bytes` of all processes; `cgroup_bytes` of the session's own cgroup, None where it has none."""

    pss_bytes: int
    cgroup_bytes: int | None


def all_processes() -> frozenset[int]:
    """Every process that /proc shows."""
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names are all it takes


def processes_of(session: Session, before: Collection[int]) -> tuple[int, ...]:
    """The processes of a session. `before`: those that were there before it was started.

    A daemon's processes are not below the supervisor: they are found by the mark that the agent carries, and by being new
    themselves where they are its ancestors.
    """
    found = {*supervisor.descendants(session.pid), *supervisor.bearers(str(session.directory))}
    parents = supervisor.parents()
    for pid in tuple(found):
        parent = parents.get(pid, 0)
        while parent > 1 and parent not in before and parent not in (session.pid, os.getpid()):
            found.add(parent)
            parent = parents.get(parent, 0)
    return tuple(sorted(found - {session.pid, os.getpid()}))


def pss_bytes(pid: int) -> int:
    """PSS of a process (proc_pid_smaps(5)); 0 if it has ended. UnreadableError where it may not be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except OSError as error:
        raise UnreadableError(f"the memory of process {pid} cannot be read: {error.strerror}") from None
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def memory_cgroup(pid: int) -> Path | None:
    """The memory cgroup of a process, as this process can see it; None where there is none."""
    from vprobe.environments import cgroups  # noqa: PLC0415 - only here

    try:
        membership = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    hierarchies = cgroups.parse(membership, mountinfo)
    named = [one.own for one in hierarchies if "memory" in one.name.split(",")]
    unified = [one.own for one in hierarchies if one.name == ""]
    return next(iter(named or unified), None)


def cgroup_bytes(pids: Iterable[int]) -> int | None:
    """What the cgroup of a session holds, page cache included; None where its processes are in vprobe's own or in several."""
    own = memory_cgroup(os.getpid())
    places = {place for pid in pids if (place := memory_cgroup(pid)) is not None and place != own}
    if len(places) != 1:
        return None
    for name in FILES:
        with contextlib.suppress(OSError, ValueError):
            return int((next(iter(places)) / name).read_text(encoding="ascii"))
    return None


def footprint(session: Session, before: Collection[int]) -> Footprint:
    """What a session costs now. UnreadableError where that cannot be told."""
    pids = processes_of(session, before)
    total = sum(map(pss_bytes, pids))
    if not total:
        raise UnreadableError("none of its processes is visible here")
    return Footprint(total, cgroup_bytes(pids))


def available_bytes() -> int:
    """Memory that can be given to new processes without swapping (MemAvailable, proc_meminfo(5))."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise UnreadableError("this kernel does not say how much memory is available")
