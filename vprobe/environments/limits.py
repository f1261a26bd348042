"""Limits on CPU time and memory that hold for a whole session, whatever the engine: by a cgroup of the session's own.

Engines that make cgroups elsewhere than below their own are told the limits instead (docker, runc, crun); a machine that is
reached by SSH cannot be limited from here. Hosts with cgroup v1, v2, or both side by side (cgroups(7); Linux's
admin-guide/cgroup-v2.rst and cgroup-v1/). What cannot be applied is refused, never passed over.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import Limits, Unavailable, cgroups
from vprobe.errors import RunError, UsageError

PERIOD_US = 100_000
"""Over which CPU time is counted: the kernel's and the engines' own default."""
MINIMUM_CPUS = 0.01
MINIMUM_MEMORY_BYTES = 32 << 20
"""Below, no interpreter starts."""
INFO_TIMEOUT_S = 10.0
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
BEYOND = {"ssh": "a machine that is reached by SSH cannot be limited from here"}
"""Kinds of environments that no limit reaches, and why."""
BY_DAEMON = frozenset({"docker"})
"""Those whose engine has a daemon that may make cgroups even where this process may not."""
AS_ROOT = frozenset({"runc", "crun"})
"""Those that make cgroups elsewhere than below their own, and none where they are run by a normal user."""


@dataclass(frozen=True)
class Setting:
    """One file of a cgroup. One that is `optional` is written where the kernel has it."""

    name: str
    value: str
    optional: bool = False


@dataclass(frozen=True)
class Cgroup:
    """A cgroup to be made, and what to write there."""

    directory: Path
    settings: tuple[Setting, ...]


def parse_memory(text: str) -> int:
    """Bytes of "512M" or "2GiB". UsageError for what is no size."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if size < MINIMUM_MEMORY_BYTES:
        raise UsageError(
            f"--memory {text!a} is no size of at least {MINIMUM_MEMORY_BYTES >> 20} MiB", "for example 512M or 2G"
        )
    return size


def quota_us(cpus: float) -> int:
    """CPU time in a period."""
    return round(cpus * PERIOD_US)


def wanted(limits: Limits, *, unified: bool) -> dict[str, tuple[Setting, ...]]:
    """Controller -> what to write."""
    found: dict[str, tuple[Setting, ...]] = {}
    if limits.cpus is not None:
        quota = str(quota_us(limits.cpus))
        v1 = (Setting("cpu.cfs_period_us", str(PERIOD_US)), Setting("cpu.cfs_quota_us", quota))
        found["cpu"] = (Setting("cpu.max", f"{quota} {PERIOD_US}"),) if unified else v1
    if limits.memory_bytes is not None:
        size = str(limits.memory_bytes)
        v1 = (Setting("memory.limit_in_bytes", size), Setting("memory.memsw.limit_in_bytes", size, optional=True))
        v2 = (Setting("memory.max", size), Setting("memory.swap.max", "0", optional=True))
        found["memory"] = v2 if unified else v1
    return found


def delegates(directory: Path, controllers: set[str]) -> bool:
    """Whether cgroups below a directory of v2 have the controllers, and this process may make some."""
    try:
        enabled = (directory / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return False
    return controllers <= set(enabled) and os.access(directory, os.W_OK)


def place(limits: Limits, name: str, hierarchies: Sequence[cgroups.Hierarchy]) -> tuple[Cgroup, ...]:
    """The cgroups of that name that apply the limits. LookupError, with the reason, where a controller is out of reach."""
    chosen, left = [], set(wanted(limits, unified=True))
    for one in hierarchies:
        mine = {controller for controller in left if controller in one.name.split(",")}
        if mine:
            rows = wanted(limits, unified=False)
            settings = tuple(setting for controller in sorted(mine) for setting in rows[controller])
            chosen.append(Cgroup(one.own / name, settings))
            left -= mine
    unified = next((one for one in hierarchies if one.name == ""), None)
    if left and unified is not None:
        # Not just below its own: a cgroup with processes cannot give controllers to others (no internal processes).
        parent = next((one for one in (unified.own, *unified.own.parents) if delegates(one, left)), None)
        if parent is not None:
            rows = wanted(limits, unified=True)
            settings = tuple(setting for controller in sorted(left) for setting in rows[controller])
            return (*chosen, Cgroup(parent / name, settings))
    if left:
        raise LookupError(f"no cgroup with the controller {' and '.join(sorted(left))} is open to this process")
    return tuple(chosen)


def cgroups_for(limits: Limits, name: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Directory -> (file, value, optional) of the cgroups that a session has to be started in. RunError where there is none."""
    if not limits:
        return {}
    try:
        planned = place(limits, name, cgroups.hierarchies())
    except LookupError as error:
        raise RunError(f"limits: {error}") from None
    return {
        str(cgroup.directory): [(one.name, one.value, one.optional) for one in cgroup.settings] for cgroup in planned
    }


def daemon_obstacle(limits: Limits) -> Unavailable | None:
    """Why the Docker daemon would leave limits out, which it does with no more than a warning; None if it would not."""
    form = "{{.CPUCfsQuota}} {{.MemoryLimit}}"
    try:
        done = subprocess.run(
            ["docker", "info", "--format", form], capture_output=True, text=True, timeout=INFO_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unavailable(f"limits: docker info: {error}", "see 'docker info'")
    can = dict(zip(("CPU time", "memory"), done.stdout.split(), strict=False))
    wanted = {"CPU time": limits.cpus, "memory": limits.memory_bytes}
    missing = [what for what, value in wanted.items() if value is not None and can.get(what) != "true"]
    if not missing:
        return None
    return Unavailable(
        f"limits: the Docker daemon cannot limit {' and '.join(missing)}",
        "use a daemon that runs as root; a rootless one needs cgroup v2 and systemd",
    )


def obstacle(kind: str, limits: Limits) -> Unavailable | None:
    """Why an environment of that kind cannot be given these limits here; None if it can. Found out by trying."""
    if not limits:
        return None
    if kind in BEYOND:
        return Unavailable(f"limits: {BEYOND[kind]}", "leave --cpus and --memory out, or the environment")
    if kind in BY_DAEMON:
        return daemon_obstacle(limits)
    if kind in AS_ROOT and os.geteuid():
        return Unavailable(f"limits: {kind} cannot apply them for a normal user", "run vprobe as root")
    remedy = "run vprobe as root, or in a cgroup that is delegated to it"
    try:
        planned = place(limits, f"vprobe-trial-{secrets.token_hex(4)}", cgroups.hierarchies())
    except LookupError as error:
        return Unavailable(f"limits: {error}", remedy)
    for cgroup in planned:
        try:
            cgroup.directory.mkdir()
            for setting in cgroup.settings:
                file = cgroup.directory / setting.name
                if file.exists() or not setting.optional:
                    file.write_text(setting.value, encoding="ascii")
        except OSError as error:
            return Unavailable(f"limits: {error.filename}: {error.strerror}", remedy)
        finally:
            with contextlib.suppress(OSError):
                cgroup.directory.rmdir()
    return None
