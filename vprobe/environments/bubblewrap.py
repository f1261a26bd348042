"""bubblewrap: bwrap(1), the sandbox of Flatpak: the host's root read-only under fresh /proc, /dev and /tmp. For everybody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, bundle, namespaces, process, trial
from vprobe.model import VirtClass

UNSHARED = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")


def options(launch: Launch) -> tuple[str, ...]:
    """What bwrap is to make: it binds / with all that is mounted below, so only what it hides has to be bound again."""
    place = launch.working_directory or launch.scratch
    hidden = (*bundle.PRIVATE, "/proc", "/dev")
    again = [str(path) for path in (*launch.read_only_paths, place) if bundle.below(str(path), hidden)]
    fresh = [word for path in bundle.PRIVATE if Path(path).is_dir() for word in ("--tmpfs", path)]
    binds = [word for path in dict.fromkeys(again) for word in ("--ro-bind", path, path)]
    scratch = str(launch.scratch)
    user = ("--unshare-user-try",) if os.geteuid() else ()
    return (
        *(
            "--die-with-parent",
            "--new-session",
            *user,
            *UNSHARED,
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ),
        *fresh,
        *binds,
        *("--bind", scratch, scratch, "--chdir", str(place)),
    )


@dataclass(frozen=True)
class Bubblewrap:
    """containers/bubblewrap."""

    name: str = "bubblewrap"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = field(default_factory=bundle.boundary)

    def availability(self) -> Available | Unavailable:
        program = trial.find("bwrap")
        if program is None:
            return trial.missing("bwrap", "bubblewrap")
        said = trial.run(self)
        if said is not None:
            return namespaces.refusal(said)
        return Available(f"bubblewrap {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("bwrap") or "bwrap"
        plain = process.plain(launch)
        argv = (program, *options(launch), "--", *plain.argv)
        return process.start(replace(plain, argv=argv, working_directory="/"), launch)


def environment(name: str) -> Bubblewrap:
    """The environment of that name."""
    return Bubblewrap(name)
