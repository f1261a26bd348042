"""The OCI bundle that runc, crun and gvisor run: the host's own root file system, read-only, under fresh /proc, /dev and /tmp.

The root of the bundle is a bind mount of / that is not recursive, made in a mount namespace that only the engine lives in.
Nothing is created in it, since that would write into the host's root: what has to be visible and lies on another file
system is made visible by binding that file system's own mount point.

The set-up is what `runc spec` and Docker agree on: Docker's default capabilities, no new privileges, masked and read-only
parts of /proc. There is no seccomp filter: it is a policy of engines, not part of the boundary, and its price (a few
percent of each system call) belongs to podman and docker, which bring theirs.

Source: OCI Runtime Specification 1.0.2, config.md and config-linux.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vprobe.environments import Launch, Limits, process, supervisor
from vprobe.environments.limits import PERIOD_US, quota_us

MS_BIND = 0x1000
MS_REC = 0x4000
CGROUP2 = Path("/sys/fs/cgroup/cgroup.controllers")
"""Exists where /sys/fs/cgroup is the unified hierarchy, and neither v1 nor hybrid (cgroups(7))."""

PRIVATE = ("/tmp", "/run", "/var/tmp")  # noqa: S108 - mounted anew inside, not written to
FRESH = ("/proc", "/dev", "/sys", *PRIVATE)
"""Directories of the host that are hidden by file systems of the container's own."""

# fmt: off
CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# fmt: on

_FLAGS = ("nosuid", "nodev", "noexec")


def boundary() -> frozenset[str]:
    """What an agent must see differently behind a bundle, in a root that is a read-only bind mount of the host's.

    On a host whose root is read-only itself, the two roots cannot be told apart by their mount.
    """
    spaces = frozenset(f"namespaces.{kind}" for kind in ("mnt", "pid", "net", "ipc", "uts"))
    return spaces if os.statvfs("/").f_flag & os.ST_RDONLY else spaces | {"root_mount"}


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _bind(path: str, mode: str) -> dict[str, Any]:
    return {"destination": path, "type": "bind", "source": path, "options": ["bind", mode]}


def below(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is one of the directories or below one."""
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def binds(paths: Iterable[Path], mount_points: Iterable[str]) -> list[str]:
    """What to bind, at its own path and in this order, so that every path is visible inside.

    `mount_points` are the host's. A path below a fresh directory is bound itself: its mount point is made in the fresh
    file system. Any other path shows by itself in the root, or once the mount points on the way to it are bound.
    """
    chosen: dict[str, None] = {}
    ordered = sorted(set(mount_points) - {"/"}, key=len)
    for path in map(str, paths):
        if below(path, FRESH):
            chosen[path] = None
        else:
            chosen.update(dict.fromkeys(point for point in ordered if below(path, [point])))
    return list(chosen)


def mounts(launch: Launch, mount_points: Iterable[str], *, cgroup2: bool) -> list[dict[str, Any]]:
    """The mounts of the container, in order."""
    scratch = str(launch.scratch)
    visible = [*launch.read_only_paths, launch.working_directory or launch.scratch]
    shown = [path for path in binds([*visible, launch.scratch], mount_points) if path != scratch]
    return [
        _mount("/proc", "proc", *_FLAGS),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", *_FLAGS, "mode=1777"),  # noqa: S108 - the container's own
        _mount("/dev/mqueue", "mqueue", *_FLAGS),
        _mount("/sys", "sysfs", *_FLAGS, "ro"),
        *([_mount("/sys/fs/cgroup", "cgroup", *_FLAGS, "relatime", "ro")] if cgroup2 else []),
        *(_mount(path, "tmpfs", "nosuid", "nodev", "mode=1777") for path in PRIVATE if Path(path).is_dir()),
        *(_bind(path, "ro") for path in shown),
        _bind(scratch, "rw"),
    ]


def resources(limits: Limits) -> dict[str, Any]:
    """The limits in the words of config-linux.md; swap is part of the memory."""
    found: dict[str, Any] = {}
    if limits.cpus is not None:
        found["cpu"] = {"period": PERIOD_US, "quota": quota_us(limits.cpus)}
    if limits.memory_bytes is not None:
        found["memory"] = {"limit": limits.memory_bytes, "swap": limits.memory_bytes}
    return found


def configuration(launch: Launch, mount_points: Iterable[str], *, cgroup2: bool) -> dict[str, Any]:
    """config.json for a launch. `cgroup2`: the host has the unified hierarchy alone, so the container gets its own view."""
    plain = process.plain(launch)
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", *(["cgroup"] if cgroup2 else []))]
    network = {"type": "network"}
    if launch.network_namespace:
        network["path"] = str(launch.network_namespace)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(plain.argv),
            "env": [f"{name}={value}" for name, value in plain.variables.items()],
            "cwd": plain.working_directory,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "root", "readonly": True},
        "hostname": "vprobe",
        "mounts": mounts(launch, mount_points, cgroup2=cgroup2),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}], **resources(launch.limits)},
            "namespaces": [*namespaces, network],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }


def root_mount(session_dir: Path) -> process.Mount:
    """The host's root at the directory `root` of a session."""
    root = str(session_dir / "root")
    # In a user namespace the mounts below / are locked to it and have to come along (mount_namespaces(7)).
    return process.Mount("/", root, flags=MS_BIND | (MS_REC if os.geteuid() else 0), directories=(root,))


def overlay_root(session_dir: Path) -> tuple[process.Mount, ...]:
    """The host's root at the directory `root` of a session, with a tmpfs that takes every write. For root alone."""
    layer, root = session_dir / "layer", str(session_dir / "root")
    upper, work = str(layer / "upper"), str(layer / "work")
    return (
        process.Mount("tmpfs", str(layer), "tmpfs", directories=(str(layer),)),
        process.Mount(
            "overlay",
            root,
            "overlay",
            data=f"lowerdir=/,upperdir={upper},workdir={work}",
            directories=(upper, work, root),
        ),
    )


def write(launch: Launch) -> process.Mount:
    """Write the bundle into the session's directory; the mount that its root needs is for the engine's own namespace."""
    document = configuration(launch, supervisor.mount_points(), cgroup2=CGROUP2.exists())
    (launch.session_dir / "config.json").write_text(json.dumps(document), encoding="utf-8")
    return root_mount(launch.session_dir)
