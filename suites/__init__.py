"""The workloads. A workload is declared once and knows nothing of environments.

Standard library only: the agent imports this package inside every environment.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SUITES = ("cpu", "memory", "system", "timers", "storage", "network", "exits", "applications", "lifecycle")
"""Modules of this package that declare workloads, in the order in which they are shown."""

SUITE_VERSION = "5"
"""Raised whenever a workload changes what it does: runs of different suite versions are not compared."""

PLACES = frozenset({"storage", "network"})
"""Needs that a Place fulfils."""

Parameters = Mapping[str, Any]
Details = Mapping[str, float]
Block = Callable[[int], "int | tuple[int | None, Details] | None"]
"""Performs n operations. Returns the ns that it took by its own account, or None to be timed from around; and, where it has
more to tell of the block, that by name. An attribute `close` of it is called in the end."""

QUICK, DEFAULT, FULL = 1, 2, 3
"""Levels of workloads: what a preset of that level measures without being asked, those of lower levels included."""


@dataclass(frozen=True)
class KernelCall:
    """How to run a native kernel: the agent needs nothing but this to do so.

    `setup` is what is done once before the first block: "none", "chase" (lay a pointer cycle over the memory), "echo"
    (spawn a peer, whose descriptors become a0 and a1), "futex" (spawn a peer that answers by futex) or "null" (open
    /dev/null, whose descriptor becomes a0).
    `refresh` is done before each block: "none" or "discard" (give the memory back, so that each touch faults).
    `bytes_per_iteration` turns time into bandwidth where the unit is B/s.
    `partner` is the kernel that runs on a second CPU, in the same memory, for as long as a block does; "" for none.
    `ring` is that of the guest where the kernel runs in a micro-VM: 3, or 0 for what faults elsewhere.
    `tells` names the detail that the kernel's result is, in ticks; "" for none.
    """

    kernel: str
    memory_bytes: int = 0
    page_bytes: int = 4096
    setup: str = "none"
    refresh: str = "none"
    stride: int = 64
    arguments: tuple[int, ...] = ()
    bytes_per_iteration: int = 0
    warm_iterations: int = 0  # needed before each block; 0: an eighth of the block
    maximum_iterations: int = 0  # of a block, warm-up included; 0: any
    seed: int = 1
    partner: str = ""
    tells: str = ""
    ring: int = 3


@dataclass(frozen=True)
class StorageFacts:
    """The directory that scratch directories are made in.

    `backing`: file system and block device, for the record. `direct`: how O_DIRECT is taken there: "strict" and "lenient" go
    past the page cache, and a strict one refuses what is not aligned; "none".
    """

    backing: Mapping[str, str]
    direct: str
    free_bytes: int
    directory: str


@dataclass(frozen=True)
class HostFacts:
    """What the controlling side knows of the host and sizes workloads by, once for all arms.

    `cache_bytes`: level to bytes of the data or unified cache of the measured CPU; a level that is not known is missing.
    """

    cache_bytes: Mapping[int, int]
    storage: StorageFacts | None = None


@dataclass(frozen=True)
class Place:
    """What an arm has of its own, as its agent sees it.

    `storage`: the file of storage workloads, which the first of them makes, or a block device. `peer`: the address of the host
    side, and its ports: ECHO, STREAM and CONNECT of vprobe.environments.peer.
    """

    storage: str
    peer: str = ""
    echo_port: int = 0
    stream_port: int = 0
    connect_port: int = 0


class UnsupportedError(Exception):
    """A workload does not fit this machine; the text says why, and becomes the reason of the skip."""


def native_extension() -> Any:
    """The module vprobe._native. UnsupportedError where it cannot be loaded: declarations are read there, too."""
    try:
        from vprobe import _native  # noqa: PLC0415 - see above
    except ImportError:
        raise UnsupportedError("the native extension cannot be loaded here") from None
    return _native


@dataclass(frozen=True)
class Workload:
    """One row of `vprobe suites`: a workload with its parameters.

    `make` takes the parameters, after HostFacts for kind "kernel", and returns a KernelCall for kind "kernel" (called on the
    controlling side), a Block for kind "python" (called by the agent); kind "external" is run by the engine itself. One that
    needs something of PLACES gets the Place first.
    """

    name: str
    suite: str
    kind: str
    unit: str
    better: str
    needs: frozenset[str]
    parameters: Parameters
    make: Callable[..., Any]
    doc: str
    level: int


_declared: dict[str, Workload] = {}


def workload(
    name: str,
    *,
    unit: str = "ns",
    better: str = "lower",
    kind: str = "kernel",
    needs: tuple[str, ...] = ("kernels",),
    parameters: Mapping[str, Parameters] | None = None,
    level: int = DEFAULT,
    levels: Mapping[str, int] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a workload. `parameters` maps the text in brackets to keyword arguments; without it there are none.

    `level`: the presets from that level on measure it without being asked; `levels` has those of single labels that differ.
    """

    def declare(make: Callable[..., Any]) -> Callable[..., Any]:
        rows = parameters or {"": {}}
        for label, values in rows.items():
            full = f"{name}[{label}]" if label else name
            _declared[full] = Workload(
                name=full,
                suite=name.partition(".")[0],
                kind=kind,
                unit=unit,
                better=better,
                needs=frozenset(needs),
                parameters=MappingProxyType(dict(values)),
                make=make,
                doc=(make.__doc__ or "").strip(),
                level=(levels or {}).get(label, level),
            )
        return make

    return declare


def catalog() -> Mapping[str, Workload]:
    """Every declared workload by name, in the order of SUITES."""
    for suite in SUITES:
        importlib.import_module(f"{__name__}.{suite}")
    return MappingProxyType(_declared)


def find(name: str) -> Workload:
    """The workload of that exact name. KeyError if there is none; only its own suite is imported."""
    suite = name.partition(".")[0]
    if suite in SUITES:
        importlib.import_module(f"{__name__}.{suite}")
    return _declared[name]
