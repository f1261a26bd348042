"""Where can a workload run? The protocol of an environment, and the registry.

An environment is one module in this package (or in another package, through the entry-point group
`vprobe.environments`). It knows how to start a process behind its boundary with that process's standard input and output
as a byte channel; what is said over the channel is `vprobe.measure`'s business.

Each module has `environment(name) -> Environment`; an entry point is named as its environment and refers to such a function.
A name may carry an argument after a colon ("ssh:HOST"): the part before it finds the module, which gets the whole name.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Protocol

from vprobe.errors import UsageError
from vprobe.states import VirtClass

GROUP = "vprobe.environments"
BUILT_IN = {
    "bare": "bare",
    "bare-aa": "bare",
    "chroot": "chroot",
    "namespaces": "namespaces",
    "bubblewrap": "bubblewrap",
    "nspawn": "nspawn",
    "lxc": "lxc",
    "runc": "oci",
    "crun": "oci",
    "gvisor": "gvisor",
    "podman": "podman",
    "docker": "docker",
    "kvm": "kvm",
    "qemu-kvm": "guest",
    "qemu-tcg": "guest",
    "qemu-user": "qemu_user",
    "ssh:localhost": "ssh",
}
"""Name -> module of this package, in the order in which they are shown. Listed so that no name loads a module."""
ARGUMENTS = {"ssh": "HOST", "qemu-kvm": "WORDS", "qemu-tcg": "WORDS"}
"""Kinds whose names may carry an argument after a colon, and what it is called. ssh is nothing without one."""


@dataclass(frozen=True)
class Available:
    """The environment can run here. `version` names the engine and its version, "" for none.

    `virt_class`: what it turned out to be, for an environment that cannot say so beforehand.
    """

    version: str = ""
    virt_class: VirtClass | None = None


@dataclass(frozen=True)
class Unavailable:
    """The environment cannot run here: why, and what would change that. `packages`: Debian's names."""

    reason: str
    remedy: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a session may use at most: CPUs (CPU time by wall time) and bytes of memory; None: as much as there is."""

    cpus: float | None = None
    memory_bytes: int | None = None

    def __bool__(self) -> bool:
        return self.cpus is not None or self.memory_bytes is not None


@dataclass(frozen=True)
class Disk:
    """A file of the host's that a guest gets as a block device of its own, to measure storage on.

    It does not exist yet. `direct`: whether its file system has O_DIRECT, by which the page cache is passed by.
    """

    file: Path
    direct: bool


@dataclass(frozen=True)
class Launch:
    """What to start behind the boundary.

    `argv` is to be executed with the same paths inside as outside. `read_only_paths` must be visible inside, at their own
    paths (interpreter, package, the user's work tree); `scratch` is an existing host directory that is writable inside at
    its own path. `session_dir` is the session's own directory on the host, removed by its supervisor in any case.
    `network_namespace`, where there is one, is what the engine is to be started in (nsenter --net=FILE): its device
    `peer.DEVICE` leads to the host side (environments.network).

    `variables` are set wherever it runs; `host_variables`, the user's own, only on this machine.
    `layout`: the draw of the boot's memory layout (see layout), 32 bits; None: as the system gives it to each process.
    `agent`: the agent's options, where `argv` runs vprobe's agent; an environment that does not show the host's files brings
    the agent there by itself (see shipment). `cpus`: how many a machine of its own gets. `disk`, where storage is measured,
    is made and used by environments that take a block device and not a file of the scratch directory.
    """

    argv: tuple[str, ...]
    session_dir: Path
    scratch: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    read_only_paths: tuple[Path, ...] = ()
    working_directory: Path | None = None
    agent: str | None = None
    limits: Limits = field(default_factory=Limits)
    host_variables: Mapping[str, str] = field(default_factory=dict)
    network_namespace: Path | None = None
    cpus: int = 1
    disk: Disk | None = None
    layout: int | None = None


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

    @property
    def directory(self) -> Path:
        """The launch's session_dir, which is also the mark that processes of the session carry."""

    def pin(self, cpus: Sequence[int], others: Sequence[int] = ()) -> tuple[int, ...]:
        """Keep what runs the agent on these CPUs of the host, for the agent to pin itself.

        `others` are there for workloads that need more than those. The numbers that all have inside, in this order.
        """

    def phases(self, answered_ns: int, agent_ns: int, clock: Mapping[str, int]) -> dict[str, int]:
        """The phases of the start in their order, as details of lifecycle.start.

        `answered_ns`: when the agent's first message was here; `agent_ns` of it were the agent's own; `clock`: what the agent
        says of a guest's clock (protocol.GuestClock), {} where there is none.
        """

    def stderr_tail(self) -> str:
        """The last lines that engine and agent wrote to standard error, bounded and escaped."""

    def condition(self) -> str:
        """What can be told of it from outside while it does not answer; "" for nothing."""

    def waited_s(self) -> float:
        """For how long it could have run so far and others had the CPUs; 0 where nobody counts that."""

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

    @property
    def name(self) -> str:
        """As the user names it, with the argument after a colon where there is one."""

    @property
    def virt_class(self) -> VirtClass | None:
        """What kind of boundary it is; None where that is as probed over there."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What its agent offers to workloads: "os", "python", "kernels", "microvm", "commands", "storage", "network".

        "boots": a session boots a kernel of its own, which takes seconds: it is kept over several boots of a run.
        An environment may also have `lacks`, a mapping from what it does not offer to a reason of its own for that.
        """

    @property
    def boundary(self) -> frozenset[str]:
        """Keys of the agent's evidence ("namespaces.pid": key in a key), each of which must be there and differ from bare's.

        Empty for bare itself. See vprobe.measure.evidence for the keys.
        """

    def availability(self) -> Available | Unavailable:
        """Whether it can run here: found out by trying, within a bounded time, and without changing anything."""

    def agent_options(self) -> Mapping[str, str]:
        """Options of the agent behind this boundary, such as {"executor": "microvm"}."""

    def start(self, launch: Launch) -> Session:
        """Start the launch behind the boundary. RunError where the engine cannot be executed.

        An engine that starts and then fails shows by the end of file on the session's channel and by stderr_tail().
        """


IMAGES = frozenset({"podman", "docker"})
"""Kinds that run an image of the user's own, where there is one; they have a field `image`."""


def in_image(environment: Environment, image: str) -> Environment:
    """The same environment on an image of the user's own, in which commands alone can be compared."""
    if environment.name not in IMAGES:
        return environment
    found: Environment = replace(environment, image=image, capabilities=frozenset({"commands"}))  # type: ignore[type-var]
    return found


def names() -> tuple[str, ...]:
    """Every name that get() knows, the built-in ones first. Loads no environment."""
    added = sorted(point.name for point in metadata.entry_points(group=GROUP))
    return tuple(dict.fromkeys((*BUILT_IN, *added)))


def get(name: str) -> Environment:
    """The environment of that name. UsageError if there is none."""
    kind, colon, argument = name.partition(":")
    if kind in ARGUMENTS and not argument and (colon or kind not in BUILT_IN):
        raise UsageError(f"{name!a} needs an argument: {kind}:{ARGUMENTS[kind]}")
    known = BUILT_IN.get(name) or (BUILT_IN.get(kind, kind) if kind in ARGUMENTS else None)
    if known:
        module = importlib.import_module(f"{__name__}.{known}")
        found: Environment = module.environment(name)
        return found
    for point in metadata.entry_points(group=GROUP, name=kind):
        added: Environment = point.load()(name)
        return added
    raise unknown(name)


def unknown(name: str) -> UsageError:
    """The error for a name that does not exist, with what may have been meant."""
    close = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see 'vprobe envs'"
    return UsageError(f"no such environment: {name!a}", hint)
