"""Where can a workload run? The protocol of an environment, and the registry.

An environment is one module in this package (or in another package, through the entry-point group
`vprobe.environments`). It knows how to start a process behind its boundary with that process's standard input and output
as a byte channel; what is said over the channel is `vprobe.measure`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vprobe.model import VirtClass


@dataclass(frozen=True)
class Available:
    """The environment can run here. `version` names the engine and its version, "" for none."""

    version: str = ""


@dataclass(frozen=True)
class Unavailable:
    """The environment cannot run here: why, and what would change that. `packages`: Debian's names."""

    reason: str
    remedy: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """What to start behind the boundary.

    `argv` is to be executed with the same paths inside as outside. `read_only_paths` must be visible inside, at their own
    paths (interpreter, package, the user's work tree); `scratch` is an existing host directory that is writable inside at
    its own path. `session_dir` is the session's own directory on the host, removed by its supervisor in any case.
    """

    argv: tuple[str, ...]
    session_dir: Path
    scratch: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    read_only_paths: tuple[Path, ...] = ()
    working_directory: Path | None = None


class Session(Protocol):
    """A running agent behind a boundary. Leaving the context ends it and everything that it started."""

    @property
    def to_agent(self) -> int:
        """File descriptor to write to (blocking)."""

    @property
    def from_agent(self) -> int:
        """File descriptor to read from (blocking)."""

    @property
    def launched_ns(self) -> int:
        """CLOCK_MONOTONIC when the engine was executed."""

    @property
    def pid(self) -> int:
        """Host process that leads the session (its supervisor)."""

    def stderr_tail(self) -> str:
        """The last lines that engine and agent wrote to standard error, bounded and escaped."""

    def freeze(self) -> None:
        """Make the environment quiet while others are measured; does nothing where there is no means."""

    def thaw(self) -> None:
        """Undo freeze()."""

    def stop(self) -> int:
        """End it: close the channel, wait, force where needed; ns from the call until nothing of it is left."""

    def __enter__(self) -> Session: ...

    def __exit__(self, *_: object) -> None: ...


class Environment(Protocol):
    """One kind of place. Stateless: everything that runs belongs to a Session."""

    name: str
    virt_class: VirtClass
    capabilities: frozenset[str]
    """What its agent offers to workloads: "os", "python", "kernels", "microvm", "commands"."""
    boundary: frozenset[str]
    """Keys of the evidence in which at least one must differ from bare's; empty for bare itself."""

    def availability(self) -> Available | Unavailable: ...

    def agent_options(self) -> Mapping[str, str]:
        """Options of the agent behind this boundary, such as {"executor": "microvm"}."""

    def start(self, launch: Launch) -> Session: ...
