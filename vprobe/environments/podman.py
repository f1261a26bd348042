"""podman: `podman run` on the host's own root, with a store of the session's own. For a normal user, too.

Neither the user's containers nor their configuration of storage is touched: store, state, locks and shared memory are the
session's, and what podman would write below /run and /dev/shm lands in file systems in front of the host's. The seccomp
filter and the capabilities are podman's defaults.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vprobe.environments import (
    Available,
    Launch,
    Unavailable,
    bundle,
    foreign,
    namespaces,
    oci,
    process,
    supervisor,
    trial,
)
from vprobe.errors import RunError
from vprobe.model import VirtClass

MAXIMUM_PROCESSES = 16384

GLOBAL_OPTIONS = ("--cgroup-manager=cgroupfs", "--events-backend=none", "--log-level=error")
OWN_STORE = ("--storage-driver=vfs",)
IMAGE_OPTIONS = ("--entrypoint=", "--user=0:0")
"""The agent is run instead of what the image would run, as root, whose the scratch directory is."""
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
        "XDG_RUNTIME_DIR": "/run",  # covered, see covers(); without one podman makes directories in TMPDIR, which stay
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
    fresh = [path for path in bundle.PRIVATE if Path(path).is_dir() and path not in shown]
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


def image_options(launch: Launch) -> tuple[str, ...]:
    """What `podman run` is told, up to the image, where that is the user's own."""
    place = foreign.working_directory(launch)
    return (
        *RUN_OPTIONS,
        *IMAGE_OPTIONS,
        *limits(),
        *(f"--tmpfs={path}:rw,mode=1777,notmpcopyup" for path in bundle.PRIVATE if path != place),
        *(
            f"--mount=type=bind,source={one.source},destination={one.destination}{',ro=true' * one.read_only}"
            for one in foreign.binds(launch)
        ),
        f"--workdir={place}",
        *(f"--env={name}={value}" for name, value in foreign.variables(launch).items()),
    )


@functools.cache
def image_store(program: str) -> tuple[str, ...]:
    """Options by which the session's own store finds the images of the user's, and does not touch it."""
    form = "{{.Store.GraphDriverName}} {{.Store.GraphRoot}}"
    done = subprocess.run(
        [program, "info", "--format", form], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    driver, _, place = done.stdout.strip().partition(" ")
    if done.returncode or not place:
        raise RunError(f"podman info: {trial.last_line(done.stderr)}", "see 'podman info'")
    return (f"--storage-driver={driver}", f"--storage-opt={driver}.imagestore={place}")


def covers() -> tuple[process.Mount, ...]:
    """What keeps podman's records off the host."""
    places = ["/run", "/dev/shm", *([str(oci.HYBRID)] if oci.HYBRID.is_mount() else [])]  # noqa: S108 - covered, not used
    return tuple(process.Mount("tmpfs", path, "tmpfs") for path in places if Path(path).is_dir())


def mounts(session_dir: Path) -> tuple[process.Mount, ...]:
    """The covers and the root. In a user namespace the root is a read-only bind mount."""
    root = (bundle.root_mount(session_dir),) if os.geteuid() else bundle.overlay_root(session_dir)
    return (*covers(), *root)


@dataclass(frozen=True)
class Podman:
    """podman.io, with the runtime that it prefers. `image`: the user's own, instead of the host's files."""

    name: str = "podman"
    image: str | None = None
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find("podman")
        if program is None:
            return trial.missing("podman", "podman")
        if self.image is not None and not trial.succeeds(program, "image", "exists", self.image):
            return foreign.no_image(self.name, self.image)
        said = trial.run(self)
        if said is None:
            return Available(f"podman {trial.version(program)}".strip())
        if os.geteuid() and "unshare(CLONE_NEWUSER)" in said:
            return namespaces.refusal(said)
        return Unavailable(said or "podman failed without saying why", "see 'podman --log-level=debug run'")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        directory, program = launch.session_dir, trial.find("podman") or "podman"
        own = (f"--root={directory / 'store'}", f"--network-config-dir={directory / 'networks'}", *STATE_OPTIONS)
        rootless = os.geteuid() != 0
        name = f"--name={process.container_name(launch)}"
        if self.image is not None:
            store = image_store(program)
            run: tuple[str, ...] = (
                *image_options(launch),
                name,
                self.image,
                *process.behind_a_proxy(foreign.argv(launch)),
            )
        else:
            store = OWN_STORE
            inside = process.behind_a_proxy(process.plain(launch).argv)
            root = (*(ROOTLESS_OPTIONS if rootless else ()), "--rootfs", str(directory / "root"))
            run = (*options(launch), name, *root, *inside)
        instructions = process.Instructions(
            argv=(program, *GLOBAL_OPTIONS, *store, *own, "run", *run),
            variables={**process.engine_variables(launch), **(rootless_variables() if rootless else {})},
            user_namespace=rootless,
            working_directory=str(directory),  # where conmon leaves a file when memory runs out
            mounts=covers() if self.image is not None else mounts(directory),
            channel=process.Channel.APART,
        )
        return process.start(instructions, launch)


def environment(name: str) -> Podman:
    """The environment of that name."""
    return Podman(name)
