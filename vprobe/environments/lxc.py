"""lxc: an application container, lxc-execute(1), on the host's own root, read-only, configured by what is written here alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, cgroups, process, supervisor, trial
from vprobe.model import VirtClass

SETTINGS = (
    ("lxc.rootfs.options", "ro"),
    ("lxc.uts.name", "vprobe"),
    ("lxc.net.0.type", "empty"),
    ("lxc.apparmor.profile", "unconfined"),
    ("lxc.autodev", "1"),
    ("lxc.pty.max", "0"),
    ("lxc.tty.max", "0"),
    ("lxc.console.path", "none"),  # the inside gets the channel's descriptors as they are
    ("lxc.mount.auto", "proc:mixed sys:ro"),
    ("lxc.cgroup.relative", "1"),
    ("lxc.cap.drop", "mac_admin mac_override sys_time sys_module sys_rawio"),
)
"""lxc.container.conf(5). The capabilities are those that LXC's own common.conf drops."""


def entry(source: str, target: str, kind: str, options: str) -> tuple[str, str]:
    """A line of fstab(5) for the container: relative to its root, with blanks escaped."""
    words = (source, target.lstrip("/"), kind, options, "0", "0")
    return "lxc.mount.entry", " ".join(word.replace(" ", "\\040").replace("\t", "\\011") for word in words)


def settings(launch: Launch) -> list[tuple[str, str]]:
    """The container's configuration as keys and values."""
    plain = process.plain(launch)
    scratch = str(launch.scratch)
    paths = (*launch.read_only_paths, Path(plain.working_directory))
    shown = [path for path in bundle.binds(paths, supervisor.mount_points()) if path != scratch]
    fresh = [path for path in bundle.PRIVATE if Path(path).is_dir()]
    return [
        ("lxc.rootfs.path", f"dir:{launch.session_dir / 'root'}"),
        *SETTINGS,
        *(entry("tmpfs", path, "tmpfs", "nosuid,nodev,mode=1777") for path in fresh),
        *(entry(path, path, "none", "bind,ro,create=dir") for path in shown),
        entry(scratch, scratch, "none", "bind,create=dir"),
        ("lxc.init.cwd", plain.working_directory),
        *(("lxc.environment", f"{name}={value}") for name, value in plain.variables.items()),
    ]


@dataclass(frozen=True)
class Lxc:
    """linuxcontainers.org."""

    name: str = "lxc"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find("lxc-execute")
        if program is None:
            return trial.missing("lxc-execute", "lxc")
        if os.geteuid():
            return Unavailable(
                "the container's root is a bind mount of /, which only root can make", "run vprobe as root"
            )
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or "lxc-execute failed without saying why", "see lxc-checkconfig")
        return Available(f"lxc {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        container = process.container_name(launch)
        configuration = launch.session_dir / "lxc.conf"
        configuration.write_text("".join(f"{key} = {value}\n" for key, value in settings(launch)), encoding="utf-8")
        inside = (
            "/usr/bin/env",
            "--",
            *process.plain(launch).argv,
        )  # it says what cannot be executed, init.lxc does not
        places = ("--lxcpath", str(launch.session_dir), "--name", container, "--rcfile", str(configuration))
        instructions = process.Instructions(
            argv=(trial.find("lxc-execute") or "lxc-execute", *places, "--", *inside),
            variables=process.engine_variables(launch),
            # It makes cgroups beside its own, and locks below /run, and does not remove all of them.
            cgroups=tuple(str(one.own / container) for one in cgroups.hierarchies()),
            mounts=(bundle.root_mount(launch.session_dir), process.Mount("tmpfs", "/run", "tmpfs")),
        )
        return process.start(instructions, launch)


def environment(name: str) -> Lxc:
    """The environment of that name."""
    return Lxc(name)
