"""runc and crun: the host's own root as an OCI bundle, under either runtime. For a normal user, too (rootless)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, namespaces, process, supervisor, trial
from vprobe.model import VirtClass

HYBRID = Path("/sys/fs/cgroup/unified")
"""Where systemd's hybrid layout mounts cgroup v2 beside v1 (systemd.io, CGROUP_DELEGATION)."""


@dataclass(frozen=True)
class Runtime:
    """One OCI runtime.

    `proxies`: in the foreground it copies the standard streams through itself. `hybrid`: it works where cgroup v1 and v2
    are mounted side by side; otherwise v2 is covered in the engine's own mount namespace. `rootless_options`: what it has
    to be told where it may not make cgroups.
    """

    name: str
    proxies: bool = False
    hybrid: bool = True
    rootless_options: tuple[str, ...] = ()
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find(self.name)
        if program is None:
            return trial.missing(self.name, self.name)
        said = trial.run(self)
        if said is None:
            return Available(f"{self.name} {trial.version(program)}".strip())
        if os.geteuid() and "unshare(CLONE_NEWUSER)" in said:
            return namespaces.refusal(said)
        return Unavailable(said or f"{self.name} failed without saying why", f"see '{self.name} --debug run'")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find(self.name) or self.name
        rootless = os.geteuid() != 0
        container = process.container_name(launch)
        state = str(launch.session_dir / "state")
        command = (program, "--root", state, *(self.rootless_options if rootless else ()))
        preserve = ("--preserve-fds", str(len(supervisor.APART))) if self.proxies else ()
        inside = process.behind_a_proxy(launch.argv) if self.proxies else launch.argv
        cover = () if self.hybrid or not HYBRID.is_mount() else (process.Mount("tmpfs", str(HYBRID), "tmpfs"),)
        instructions = process.Instructions(
            argv=(*command, "run", *preserve, "--bundle", str(launch.session_dir), container),
            variables=process.engine_variables(launch),
            user_namespace=rootless,
            mounts=(bundle.write(replace(launch, argv=inside)), *cover),
            teardown=(process.Teardown((*command, "delete", "--force", container), f"{state}/{container}"),),
            channel=process.Channel.APART if self.proxies else process.Channel.STANDARD,
            limited_by_engine=True,
        )
        return process.start(instructions, launch)


RUNTIMES = {
    "runc": Runtime("runc", proxies=True),
    "crun": Runtime("crun", hybrid=False, rootless_options=("--cgroup-manager=disabled",)),
}


def environment(name: str) -> Runtime:
    """The environment of that name."""
    return RUNTIMES[name]
