"""bare: a plain process on the host as it is. bare-aa: a second one, the A/A control of every run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from vprobe.environments import Available, Launch, process
from vprobe.model import VirtClass


@dataclass(frozen=True)
class Bare:
    """No boundary at all."""

    name: str
    virt_class: VirtClass = VirtClass.NONE
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = frozenset()

    def availability(self) -> Available:
        return Available(f"{platform.system()} {platform.release()}")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        return process.start(process.plain(launch), launch)


def environment(name: str) -> Bare:
    """The environment of that name."""
    return Bare(name)
