"""podman: `podman run` on the host's own root, with a store of the session's own. For a normal user, too.

Neither the user's containers nor their configuration of storage is touched: store, state, locks and shared memory are the
session's, and what podman would write below /run and /dev/shm lands in file systems in front of the host's. The seccomp
filter and the capabilities are podman's defaults.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, namespaces, oci, process, supervisor, trial
from vprobe.model import VirtClass

MAXIMUM_PROCESSES = 16384

GLOBAL_OPTIONS = ("--cgroup-manager=cgroupfs", "--storage-driver=vfs", "--events-backend=none", "--log-level=error")
STATE_OPTIONS = ("--runroot=/run/storage", "--tmpdir=/run/libpod")
"""In the file system in front of the host's /run, since podman takes no runroot of more than 50 characters."""
RUN_OPTIONS = (
    *("--rm", "--cgroups=disabled", "--network=none", "--no-hosts", "--hostname=vprobe", "--log-driver=none"),
    *("--pull=never", "--preserve-fds", str(len(supervisor.APART))),
)
"""conmon copies the standard streams, so the channel goes beside them (process.behind_a_proxy)."""

ROOTLESS_OPTIONS = ("--read-only", "--read-only-tmpfs=false")


def rootless_variables() -> dict[str, str]:
    """What podman sets for itself once it is in a user namespace, so that it asks for nothing that is not mapped there."""
    return {
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
        "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
    }


def limits() -> tuple[str, ...]:
    """The limits of this process: podman's own defaults are higher than what an unprivileged process may ask for."""
    files = "{}:{}".format(*resource.getrlimit(resource.RLIMIT_NOFILE))
    ceiling = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    processes = MAXIMUM_PROCESSES if ceiling == resource.RLIM_INFINITY else min(ceiling, MAXIMUM_PROCESSES)
    return ("--ulimit", f"nofile={files}", "--ulimit", f"nproc={processes}:{processes}")


def options(launch: Launch) -> tuple[str, ...]:
    """What `podman run` is told, up to the root file system."""
    plain = process.plain(launch)
    paths = (*launch.read_only_paths, Path(plain.working_directory))
    scratch = str(launch.scratch)
    shown = [path for path in bundle.binds(paths, supervisor.mount_points()) if path != scratch]
    fresh = [path for path in bundle.PRIVATE if Path(path).is_dir()]
    return (
        *RUN_OPTIONS,
        *limits(),
        # Without that word podman has the runtime copy into it what the root holds there.
        *(f"--tmpfs={path}:rw,mode=1777,notmpcopyup" for path in fresh),
        *(f"--mount=type=bind,source={path},destination={path},ro=true" for path in shown),
        f"--mount=type=bind,source={scratch},destination={scratch}",
        f"--workdir={plain.working_directory}",
        *(f"--env={name}={value}" for name, value in plain.variables.items()),
    )


def mounts(session_dir: Path) -> tuple[process.Mount, ...]:
    """The root, and what keeps podman's records off the host. In a user namespace the root is a read-only bind mount."""
    covers = ["/run", "/dev/shm", *([str(oci.HYBRID)] if oci.HYBRID.is_mount() else [])]  # noqa: S108 - covered, not used
    covered = [process.Mount("tmpfs", path, "tmpfs") for path in covers if Path(path).is_dir()]
    root = (bundle.root_mount(session_dir),) if os.geteuid() else bundle.overlay_root(session_dir)
    return (*covered, *root)


@dataclass(frozen=True)
class Podman:
    """podman.io, with the runtime that it prefers."""

    name: str = "podman"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find("podman")
        if program is None:
            return trial.missing("podman", "podman")
        said = trial.run(self)
        if said is None:
            return Available(f"podman {trial.version(program)}".strip())
        if os.geteuid() and "unshare(CLONE_NEWUSER)" in said:
            return namespaces.refusal(said)
        return Unavailable(said or "podman failed without saying why", "see 'podman --log-level=debug run'")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        directory = launch.session_dir
        own = (f"--root={directory / 'store'}", f"--network-config-dir={directory / 'networks'}", *STATE_OPTIONS)
        rootless = os.geteuid() != 0
        instructions = process.Instructions(
            argv=(
                *(trial.find("podman") or "podman", *GLOBAL_OPTIONS, *own, "run", *options(launch)),
                *(f"--name={process.container_name(launch)}", *(ROOTLESS_OPTIONS if rootless else ())),
                *("--rootfs", str(directory / "root"), *process.behind_a_proxy(process.plain(launch).argv)),
            ),
            variables={**process.engine_variables(launch), **(rootless_variables() if rootless else {})},
            user_namespace=rootless,
            mounts=mounts(directory),
            channel=process.Channel.APART,
        )
        return process.start(instructions, directory)


def environment(name: str) -> Podman:
    """The environment of that name."""
    return Podman(name)
