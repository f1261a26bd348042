"""qemu-user: the agent under qemu-x86_64(1), which translates its instructions and passes its system calls to the host.

What the agent executes anew would run on the CPU itself, since the host's kernel starts it: no commands here.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vprobe.environments import Available, Launch, Unavailable, process, trial
from vprobe.model import VirtClass

PROGRAM = "qemu-x86_64"


@dataclass(frozen=True)
class QemuUser:
    """QEMU's user-mode emulation, with every CPU feature that it can translate."""

    name: str = "qemu-user"
    virt_class: VirtClass = VirtClass.EMULATION
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "storage"})
    boundary: frozenset[str] = frozenset({"cpuid_signature"})

    @property
    def lacks(self) -> Mapping[str, str]:
        """Reasons of its own for what it does not offer."""
        return {"commands": "what the agent executes anew would run on the CPU itself, and not in the emulator"}

    def availability(self) -> Available | Unavailable:
        if platform.machine() != "x86_64":
            return Unavailable(f"vprobe emulates x86-64 programs, and this one is built for {platform.machine()}", "")
        program = trial.find(PROGRAM)
        if program is None:
            return trial.missing(PROGRAM, "qemu-user")
        said = trial.run(self)
        if said is not None:
            return Unavailable(said or f"{PROGRAM} failed without saying why", f"see '{PROGRAM} -d help'")
        return Available(f"qemu {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        plain = process.plain(launch)
        argv = (trial.find(PROGRAM) or PROGRAM, "-cpu", "max", "--", *plain.argv)
        return process.start(replace(plain, argv=argv), launch)


def environment(name: str) -> QemuUser:
    """The environment of that name."""
    return QemuUser(name)
