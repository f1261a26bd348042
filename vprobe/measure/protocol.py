"""What agents may say. Every message is decoded into one of these types or refused."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=10**18)]
Text = Annotated[str, msgspec.Meta(max_length=8192)]


class GuestClock(msgspec.Struct, frozen=True):
    """A guest's own clock, which began when its kernel did, at two moments of its start."""

    init_ns: Nanoseconds  # the kernel ran init
    started_ns: Nanoseconds  # the agent's first instruction in Python


class Hello(msgspec.Struct, frozen=True):
    """An agent's first message."""

    hello: Annotated[int, msgspec.Meta(ge=1, le=1)]
    pid: Annotated[int, msgspec.Meta(ge=1)]
    agent_ns: Nanoseconds  # from its first instruction in Python to this message, by its own clock: guests have another
    native: bool
    evidence: dict[str, Any]
    clock: GuestClock | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer has: the request's number, and the error if there was one."""

    id: int
    error: Text = ""
    unsupported: bool = False


class BlockReply(Reply, frozen=True, kw_only=True):
    """One block: its timed part, and all else that it took: warm-up, set-up, what the workload itself does not time."""

    ns: Nanoseconds = 0
    warm_ns: Nanoseconds = 0
    details: dict[Text, float] = {}


class PrepareReply(Reply, frozen=True, kw_only=True):
    """A workload is ready: the page size of its memory."""

    page_bytes: int = 0


class CountersReply(Reply, frozen=True, kw_only=True):
    """An agent's involuntary context switches so far, and its clock."""

    involuntary: int = 0
    clock_ns: Nanoseconds = 0


class CommandReply(Reply, frozen=True, kw_only=True):
    """One run of the user's command."""

    ns: Nanoseconds = 0
    user_ns: Nanoseconds = 0
    system_ns: Nanoseconds = 0
    peak_bytes: int = 0
    status: int = 0
    output: Text = ""


class ProbeReply(Reply, frozen=True, kw_only=True):
    """A part of the probe's document, and how many characters it has in all."""

    text: Annotated[str, msgspec.Meta(max_length=16384)] = ""
    total: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0


class BenchmarkResult(msgspec.Struct, frozen=True):
    """One benchmark of one run of pytest-benchmark: its own statistics."""

    name: Annotated[str, msgspec.Meta(max_length=4096)]
    median_ns: float
    min_ns: float
    mean_ns: float
    stddev_ns: float
    rounds: int


class BenchmarksReply(Reply, frozen=True, kw_only=True):
    """Some of the benchmarks of the last run, from the one that was asked for on; none when there are no more."""

    benchmarks: tuple[BenchmarkResult, ...] = ()


class EvidenceReply(Reply, frozen=True, kw_only=True):
    """Hashes of what runs inside."""

    python_hash: Annotated[str, msgspec.Meta(max_length=64)] = ""
    vprobe_hash: Annotated[str, msgspec.Meta(max_length=64)] = ""
