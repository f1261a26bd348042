"""chroot: the host's own root, under an overlay whose upper layer is a tmpfs, entered with chroot(2).

Processes, network and everything else are the host's. The overlay makes the root another one than the host's, which is what
proves the boundary, and keeps every write out of the host's root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vprobe.environments import Available, Launch, Unavailable, bundle, process, supervisor, trial
from vprobe.model import VirtClass

SHARED = ("/proc", "/dev", "/sys")
"""Directories of the host that are there inside, with all that is mounted below them."""


def mounts(launch: Launch, mount_points: list[str]) -> tuple[process.Mount, ...]:
    """The overlay, and on it all that has to be visible inside and is on another file system."""
    root = str(launch.session_dir / "root")
    place = launch.working_directory or launch.scratch
    paths = [*launch.read_only_paths, place, launch.scratch]
    shown = [*SHARED, *(path for path in bundle.binds(paths, mount_points) if not bundle.below(path, SHARED))]

    def bind(path: str, flags: int) -> process.Mount:
        return process.Mount(path, root + path, flags=flags, directories=(root + path,))

    return (
        *bundle.overlay_root(launch.session_dir),
        *(bind(path, bundle.MS_BIND | bundle.MS_REC) for path in dict.fromkeys(shown)),
        bind(str(launch.scratch), bundle.MS_BIND),
    )


@dataclass(frozen=True)
class Chroot:
    """chroot(1) of the coreutils."""

    name: str = "chroot"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage"})
    boundary: frozenset[str] = frozenset({"root", "root_mount"})

    def availability(self) -> Available | Unavailable:
        program = trial.find("chroot")
        if program is None:
            return trial.missing("chroot", "coreutils")
        if os.geteuid():
            return Unavailable("chroot(2) is for root alone", "run vprobe as root; bubblewrap is for everybody")
        said = trial.run(self)
        if said is not None:
            return Unavailable(
                said or "chroot failed without saying why", "the kernel needs overlayfs (modprobe overlay)"
            )
        return Available(f"coreutils {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("chroot") or "chroot"
        plain = process.plain(launch)
        root = str(launch.session_dir / "root")
        instructions = replace(
            plain,
            argv=(program, root, "/usr/bin/env", f"--chdir={plain.working_directory}", "--", *plain.argv),
            working_directory="/",
            mounts=mounts(launch, supervisor.mount_points()),
        )
        return process.start(instructions, launch)


def environment(name: str) -> Chroot:
    """The environment of that name."""
    return Chroot(name)
