"""gvisor: runsc(8) on the bundle that runc and crun run. A kernel in user space answers the system calls."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from vprobe.environments import Available, Launch, Unavailable, bundle, process, trial
from vprobe.model import VirtClass

PLATFORMS = ("systrap", "ptrace")
"""How it gets at the system calls, the better first. Not its kvm platform, which is another boundary, and which hangs on
kvm_pvm (seen with release-20221219)."""


HIDDEN = process.Mount("tmpfs", "/proc/sys/net", "tmpfs")
"""By /proc/sys/net/core/rmem_default runsc tells the host's network, whose devices it refuses to take over (seen with
release-20221219); Linux 6.18 shows that file in every network namespace. It is hidden from the engine alone."""


@functools.cache
def platform(program: str) -> str:
    """The best of PLATFORMS that this build knows: systrap came in 2023 and replaced ptrace as the default."""
    try:
        flags = subprocess.run(
            [program, "flags"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=trial.VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return PLATFORMS[-1]
    said = (flags.stdout + flags.stderr).decode("utf-8", "replace")
    return next((one for one in PLATFORMS if one in said), PLATFORMS[-1])


@dataclass(frozen=True)
class Gvisor:
    """google/gvisor, without cgroups of its own. Its network is its own, too, and has no device unless one is given to it."""

    name: str = "gvisor"
    virt_class: VirtClass = VirtClass.USER_SPACE_KERNEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = frozenset({"kernel", "root_mount"})

    def availability(self) -> Available | Unavailable:
        program = trial.find("runsc")
        if program is None:
            return trial.missing("runsc", "runsc")
        if os.geteuid():
            return Unavailable("runsc needs to be root to use a bundle whose root is the host's", "run vprobe as root")
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or "runsc failed without saying why", "see 'runsc --debug run'")
        return Available(f"runsc {trial.version(program)}, {platform(program)}")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("runsc") or "runsc"
        container = process.container_name(launch)
        options = (f"--root={launch.session_dir / 'state'}", f"--platform={platform(program)}")
        network, cover = ("sandbox", (HIDDEN,)) if launch.network_namespace else ("none", ())
        instructions = process.Instructions(
            argv=(
                *(
                    program,
                    *options,
                    f"--network={network}",
                    "--ignore-cgroups",
                ),
                *("run", f"--bundle={launch.session_dir}", container),
            ),
            variables=process.engine_variables(launch),
            mounts=(bundle.write(launch), *cover),
        )
        return process.start(instructions, launch)


def environment(name: str) -> Gvisor:
    """The environment of that name."""
    return Gvisor(name)
