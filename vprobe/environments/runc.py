"""runc: the host's own root as an OCI bundle, under the reference runtime."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vprobe.environments import Available, Launch, Unavailable, oci, process, supervisor, trial
from vprobe.model import VirtClass


@dataclass(frozen=True)
class Runc:
    """opencontainers/runc."""

    name: str = "runc"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands"})
    boundary: frozenset[str] = frozenset(
        {"root_mount", *(f"namespaces.{kind}" for kind in ("mnt", "pid", "net", "ipc", "uts"))}
    )

    def availability(self) -> Available | Unavailable:
        program = trial.find("runc")
        if program is None:
            return trial.missing("runc", "runc")
        if os.geteuid():
            return Unavailable("the bundle's root is a bind mount of /, which only root can make", "run vprobe as root")
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or "runc failed without saying why", "see 'runc --debug run'")
        return Available(f"runc {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("runc") or "runc"
        container = f"vprobe-{secrets.token_hex(6)}"
        state = str(launch.session_dir / "state")
        command = (program, "--root", state)
        instructions = process.Instructions(
            argv=(
                *command,
                "run",
                "--preserve-fds",
                str(len(supervisor.APART)),
                "--bundle",
                str(launch.session_dir),
                container,
            ),
            variables=process.engine_variables(launch),
            mounts=(oci.write_bundle(replace(launch, argv=process.behind_a_proxy(launch.argv))),),
            apart=True,
            teardown=(process.Teardown((*command, "delete", "--force", container), f"{state}/{container}"),),
        )
        return process.start(instructions, launch.session_dir)


def environment(name: str) -> Runc:
    """The environment of that name."""
    return Runc(name)
