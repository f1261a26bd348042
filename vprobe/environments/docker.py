"""docker: `docker run` by the user's own daemon, with the host's directories under an image that is empty.

The image has nothing but the host's top-level symbolic links and the mount points, and is removed with the session. The
channel is a pair of named pipes, since whatever goes through the daemon takes a tenth of a millisecond. The seccomp filter
and the capabilities are Docker's defaults.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, foreign, process, supervisor, trial
from vprobe.model import VirtClass

RUN_OPTIONS = (
    *("--attach=stderr", "--network=none", "--hostname=vprobe", "--pull=never"),
    *("--log-driver=none", "--security-opt=label=disable"),
)
IMAGE_OPTIONS = ("--entrypoint=", "--user=0:0")
"""The agent is run instead of what the image would run, as root, whose the scratch directory is."""


def top_level() -> tuple[tuple[str, ...], dict[str, str]]:
    """The host's directories below / that are to be mounted, and its symbolic links with their targets."""
    entries = sorted(path for path in Path("/").iterdir() if str(path) not in bundle.FRESH)
    links = {path.name: str(path.readlink()) for path in entries if path.is_symlink()}
    return tuple(str(path) for path in entries if path.is_dir() and path.name not in links), links


def write_image(path: Path, links: Mapping[str, str]) -> None:
    """A root file system for `docker import`: symbolic links, and nothing else."""
    with tarfile.open(path, "w") as archive:
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        empty = tarfile.TarInfo("tmp/.vprobe")  # an archive without a file is refused by some versions
        archive.addfile(empty, io.BytesIO())


def bind(path: str, *, read_only: bool) -> str:
    """An option that binds a path of the host to itself."""
    return f"--mount=type=bind,source={path},destination={path}{',readonly' if read_only else ''}"


def options(launch: Launch, directories: tuple[str, ...]) -> tuple[str, ...]:
    """What `docker run` is told, up to the image. Docker binds directories with all that is mounted below them."""
    plain = process.plain(launch)
    paths = (*launch.read_only_paths, Path(plain.working_directory))
    shown = [path for path in bundle.binds(paths, supervisor.mount_points()) if bundle.below(path, bundle.FRESH)]
    writable = dict.fromkeys((str(launch.scratch), str(launch.session_dir / process.FIFO_DIRECTORY)))
    return (
        *RUN_OPTIONS,
        *limits(launch),
        "--read-only",
        *(f"--tmpfs={path}:rw,exec,mode=1777" for path in bundle.PRIVATE if Path(path).is_dir() and path not in shown),
        *(bind(path, read_only=True) for path in (*directories, *shown) if path not in writable),
        *(bind(path, read_only=False) for path in writable),
        f"--workdir={plain.working_directory}",
        *(f"--env={name}={value}" for name, value in plain.variables.items()),
    )


def image_options(launch: Launch) -> tuple[str, ...]:
    """What `docker run` is told, up to the image, where that is the user's own."""
    place, channel = foreign.working_directory(launch), str(launch.session_dir / process.FIFO_DIRECTORY)
    shown = (*foreign.binds(launch), foreign.Bind(channel, channel, read_only=False))
    return (
        *RUN_OPTIONS,
        *IMAGE_OPTIONS,
        *limits(launch),
        *(f"--tmpfs={path}:rw,exec,mode=1777" for path in bundle.PRIVATE if path != place),
        *(
            f"--mount=type=bind,source={one.source},destination={one.destination}{',readonly' * one.read_only}"
            for one in shown
        ),
        f"--workdir={place}",
        *(f"--env={name}={value}" for name, value in foreign.variables(launch).items()),
    )


def limits(launch: Launch) -> tuple[str, ...]:
    """The limits as options of `docker run`; swap is part of the memory."""
    cpus, size = launch.limits.cpus, launch.limits.memory_bytes
    return (
        *(() if cpus is None else (f"--cpus={cpus:g}",)),
        *(() if size is None else (f"--memory={size}", f"--memory-swap={size}")),
    )


def daemon(program: str) -> tuple[str, str]:
    """Version of the daemon, and its kernel; RuntimeError with what docker says where it does not answer."""
    done = subprocess.run(
        [program, "info", "--format", "{{.ServerVersion}}|{{.KernelVersion}}|{{range .ServerErrors}}{{.}}{{end}}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=trial.VERSION_TIMEOUT_S,
        check=False,
    )
    version, _, rest = done.stdout.decode("utf-8", "replace").strip().partition("|")
    kernel, _, trouble = rest.partition("|")
    if done.returncode or trouble or not version:
        raise RuntimeError(trial.last_line(trouble or done.stderr.decode("utf-8", "replace")))
    return version, kernel


def unreachable(said: str) -> Unavailable:
    """Why the daemon does not answer."""
    if "permission denied" in said.lower():
        return Unavailable(
            "the Docker daemon's socket: permission denied", "as root: usermod -aG docker USER, then log in again"
        )
    if "Is the docker daemon running" in said:
        own = ", also to a rootless daemon of your own" if os.geteuid() else ""
        packages = () if trial.find("dockerd") else ("docker.io",)  # the client alone is installed
        remedy = f"as root: systemctl start docker; or set DOCKER_HOST{own}"
        return Unavailable("no Docker daemon answers", remedy, packages)
    return Unavailable(said or "the Docker daemon does not answer", "see 'docker info'")


@dataclass(frozen=True)
class Docker:
    """Docker Engine, or whatever answers the client `docker`. `image`: the user's own, instead of the host's files."""

    name: str = "docker"
    image: str | None = None
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = frozenset(
        {"root", "root_mount", *(f"namespaces.{kind}" for kind in ("mnt", "pid", "net", "ipc", "uts"))}
    )

    def availability(self) -> Available | Unavailable:
        program = trial.find("docker")
        if program is None:
            return trial.missing("docker", "docker.io")
        try:
            version, kernel = daemon(program)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            return unreachable(str(error))
        if kernel != os.uname().release:
            reason = f"the Docker daemon runs under another kernel ({kernel}): on another machine, or in a machine of its own"
            return Unavailable(reason, "point DOCKER_HOST at a daemon of this machine")
        if self.image is not None and not trial.succeeds(program, "image", "inspect", self.image):
            return foreign.no_image(self.name, self.image)
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or "docker run failed without saying why", "see 'docker info'")
        return Available(f"docker {version}")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("docker") or "docker"
        name = process.container_name(launch)
        known = '"$0" container inspect "$1" || exit 0; "$0" rm --force --volumes "$1"'
        container = process.Teardown(("/bin/sh", "-c", known, program, name))
        if self.image is not None:
            inside = process.behind_fifos(replace(launch, argv=foreign.argv(launch)))
            own = process.Instructions(
                argv=(program, "run", "--rm", f"--name={name}", *image_options(launch), self.image, *inside),
                variables=process.engine_variables(launch),
                teardown=(container,),
                channel=process.Channel.FIFOS,
                limited_by_engine=True,
            )
            return process.start(own, launch)
        image = launch.session_dir / "image.tar"
        directories, links = top_level()
        write_image(image, links)
        instructions = process.Instructions(
            argv=(
                *(program, "run", "--rm", f"--name={name}", *options(launch, directories), name),
                *process.behind_fifos(launch),
            ),
            variables=process.engine_variables(launch),
            setup=((program, "import", str(image), name),),
            teardown=(
                container,
                process.Teardown((program, "rmi", "--force", name)),
            ),
            channel=process.Channel.FIFOS,
            limited_by_engine=True,
        )
        return process.start(instructions, launch)


def environment(name: str) -> Docker:
    """The environment of that name."""
    return Docker(name)
