"""Our side of a pair: workloads as `vprobe bench` runs them, in the agent of bare, on one CPU."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vprobe.suites import HostFacts, find

from vprobe import environments
from vprobe.environments.sessions import open_run
from vprobe.measure.calibration import BLOCK_TIMEOUT_S, BlockSize, calibrate, warm_iterations
from vprobe.measure.channel import Channel
from vprobe.measure.fingerprint import host_facts, ns_per_tick
from vprobe.measure.plan import PlannedArm, Task, make_arms, make_tasks
from vprobe.measure.protocol import CountersReply, PrepareReply
from vprobe.measure.sessions import Boot, Site, boot, controller_beside
from vprobe.measure.visit import value_of

CALIBRATION_NS = 50_000_000
TIMEOUT_S = 120.0


@dataclass(eq=False)
class Ours:
    """One workload, prepared: each call is a block, and gives the value of an operation in the workload's unit."""

    channel: Channel
    task: Task
    handle: int
    size: BlockSize

    def __call__(self) -> float:
        reply, _ = self.channel.block(self.handle, self.size.warm, self.size.timed, BLOCK_TIMEOUT_S)
        return value_of(self.task, reply.ns, self.size.timed)

    def detail(self, name: str) -> float:
        """A block, and what it tells of itself under that name."""
        reply, _ = self.channel.block(self.handle, self.size.warm, self.size.timed, BLOCK_TIMEOUT_S)
        return reply.details[name]


@dataclass
class Bench:
    """An agent on bare, and beside it one of the micro-VM where that was asked for: each workload runs where it can.

    `scratch`: where storage workloads have their file.
    """

    arms: Sequence[PlannedArm]
    this: Boot
    facts: HostFacts
    cpu: int
    scratch: Path
    handles: Iterator[int]

    @property
    def pid(self) -> int:
        """bare's agent's process."""
        return self.this.agents[self.arms[0].name].hello.pid

    def placed(self, name: str) -> tuple[Task, PlannedArm]:
        """A workload, resolved for this host, and the arm that runs it. LookupError where none can."""
        reason = "no such workload"
        for arm in self.arms:
            tasks, skipped = make_tasks([find(name)], self.facts, [arm])
            if not skipped:
                return tasks[0], arm
            reason = skipped[0].reason
        raise LookupError(reason)

    def task(self, name: str) -> Task:
        """A workload, resolved for this host."""
        return self.placed(name)[0]

    @contextlib.contextmanager
    def prepared(self, name: str, block_ns: int = 2_000_000, seed: int = 1, iterations: int = 0) -> Iterator[Ours]:
        """A workload with fresh memory; blocks of about `block_ns`, or of so many iterations."""
        task, arm = self.placed(name)
        handle, channel = next(self.handles), self.this.channel(arm.name)
        request: dict[str, Any] = {"op": "prepare", "handle": handle}
        if task.call is not None:
            request["call"] = {**asdict(task.call), "seed": seed}
        else:
            request |= {"workload": task.name, "parameters": task.record.parameters}
        channel.request(request, PrepareReply, TIMEOUT_S)
        try:
            timed = iterations or calibrate(channel, handle, task, block_ns).iterations
            yield Ours(channel, task, handle, BlockSize(timed, warm_iterations(task, timed, 0)))
        finally:
            channel.request({"op": "release", "handle": handle}, CountersReply, TIMEOUT_S)


@contextlib.contextmanager
def bench(cpu: int, *others: str) -> Iterator[Bench]:
    """Fresh agents on bare and in these environments, pinned, with this process beside them."""
    places = [environments.get(name) for name in ("bare", *others)]
    arms = make_arms(places, [])
    for place in places:
        found = place.availability()
        if isinstance(found, environments.Unavailable):
            raise LookupError(f"{place.name} is not available: {found.reason}")
    with open_run() as run:
        site = Site(run, Path.cwd(), ns_per_tick(CALIBRATION_NS), network=True)
        with boot(arms, [arm.name for arm in arms], site, (cpu,)) as this, controller_beside((cpu,)):
            yield Bench(arms, this, host_facts(cpu), cpu, run.scratch, itertools.count(1))
