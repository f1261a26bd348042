"""nspawn: systemd-nspawn(1), on the host's own root, read-only. It registers nowhere and needs no systemd to be running."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, cgroups, process, supervisor, trial
from vprobe.model import VirtClass

OPTIONS = (
    *("--quiet", "--read-only", "--console=pipe", "--register=no", "--keep-unit", "--settings=no", "--private-network"),
    *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--hostname=vprobe", "--tmpfs=/var/tmp:mode=1777"),
)
"""--console=pipe hands the channel's descriptors to the inside as they are."""

SYSTEMD_HIERARCHIES = ("", "name=systemd")
"""In which nspawn makes cgroups below its own, and leaves them."""


def bind(kind: str, path: str) -> str:
    """An option that binds a path to itself; colons separate the parts of its value."""
    escaped = path.replace("\\", "\\\\").replace(":", "\\:")
    return f"--{kind}={escaped}"


def options(launch: Launch, container: str) -> tuple[str, ...]:
    """The command line after the program's name, up to the command inside."""
    plain = process.plain(launch)
    paths = (*launch.read_only_paths, Path(plain.working_directory))
    shown = bundle.binds(paths, supervisor.mount_points())
    return (
        *OPTIONS,
        f"--directory={launch.session_dir / 'root'}",
        f"--machine={container}",
        *(bind("bind-ro", path) for path in shown if path != str(launch.scratch)),
        bind("bind", str(launch.scratch)),
        f"--chdir={plain.working_directory}",
        *(f"--setenv={name}={value}" for name, value in plain.variables.items()),
        "--",
        *plain.argv,
    )


@dataclass(frozen=True)
class Nspawn:
    """systemd-nspawn."""

    name: str = "nspawn"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find("systemd-nspawn")
        if program is None:
            return trial.missing("systemd-nspawn", "systemd-container")
        if os.geteuid():
            return Unavailable("systemd-nspawn is for root alone", "run vprobe as root")
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or "systemd-nspawn failed without saying why", "see systemd-nspawn(1)")
        return Available(f"systemd {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        container = process.container_name(launch)
        own = [one.own / container for one in cgroups.hierarchies() if one.name in SYSTEMD_HIERARCHIES]
        instructions = process.Instructions(
            argv=(trial.find("systemd-nspawn") or "systemd-nspawn", *options(launch, container)),
            variables=process.engine_variables(launch),
            cgroups=tuple(map(str, own)),
            # It keeps records below /run, which it would leave: a tmpfs is put in front of the host's.
            mounts=(bundle.root_mount(launch.session_dir), process.Mount("tmpfs", "/run", "tmpfs")),
        )
        return process.start(instructions, launch)


def environment(name: str) -> Nspawn:
    """The environment of that name."""
    return Nspawn(name)
