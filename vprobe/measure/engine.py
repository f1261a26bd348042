"""The engine: boots, visits, journal. Knows the order of things; what a visit is, its own modules know."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vprobe import __version__
from vprobe.environments import Available
from vprobe.environments.sessions import open_run
from vprobe.environments.survey import answer_of
from vprobe.measure import benchmarks, whole_sessions
from vprobe.measure.agent import LARGE_BYTES
from vprobe.measure.calibration import BlockSize, calibrate, round_ns, settle, warm_iterations
from vprobe.measure.channel import Channel
from vprobe.measure.fingerprint import fingerprint, ns_per_tick
from vprobe.measure.guests import Guests, is_guest
from vprobe.measure.journal import Journal, Line
from vprobe.measure.plan import BASE, BENCHMARKS, COMMAND, Plan, PlannedArm, Task
from vprobe.measure.protocol import PrepareReply
from vprobe.measure.schedule import draw_rows, visit_source
from vprobe.measure.sessions import Boot, Site, boot, controller_beside, probed
from vprobe.measure.variants import check_out
from vprobe.measure.visit import Watch, finished, prepare, release, run_rounds
from vprobe.model import EnvironmentRecord, Run, Skipped, Visit, WorkloadRecord
from vprobe.suites import KernelCall

CANARY_HANDLE = 1
CALIBRATION_NS = 50_000_000
MIN_ROUNDS = 16
MIN_LONG_ROUNDS = 3
"""Where a block is a single operation, which no block can make shorter."""


class Observer(Protocol):
    """Somebody who is told how a run goes on."""

    def begin(self, total_visits: int, done: Sequence[Visit]) -> None:
        """The run starts; `done` was measured before it was interrupted."""

    def boot(self, number: int) -> None:
        """A boot starts."""

    def waits_for(self, what: str) -> None:
        """What is being waited for from now on: a session's first message, or a workload."""

    def visit(self, visit: Visit) -> None:
        """A visit is on disk."""

    def look(self, boots: int, still_open: int, of: int) -> None:
        """An adaptive run was looked at: how many of its workloads go on."""


StillOpen = Callable[[Run], Collection[str]]
"""Names of the workloads of which a run, as far as it is measured, does not yet answer what was asked."""


class Silent:
    """Nobody is told."""

    def begin(self, total_visits: int, done: Sequence[Visit]) -> None:
        """Nothing."""

    def boot(self, number: int) -> None:
        """Nothing."""

    def waits_for(self, what: str) -> None:
        """Nothing."""

    def visit(self, visit: Visit) -> None:
        """Nothing."""

    def look(self, boots: int, still_open: int, of: int) -> None:
        """Nothing."""


@dataclass
class Engine:
    """One run of a plan. Make it with `measure()`."""

    plan: Plan
    journal: Journal
    observer: Observer
    site: Site
    still_open: StillOpen | None = None
    sizes: dict[tuple[str, str], BlockSize] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    records: dict[str, EnvironmentRecord] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    guests: Guests = field(init=False)

    def __post_init__(self) -> None:
        self.guests = Guests(self.plan.preset.boots_per_guest)

    def run(self) -> Run:
        """Measure what is not yet in the journal, and write the run file."""
        self._remember()
        self.observer.begin(self.plan.boots * len(self._runnable()), self.journal.lines)
        with self.guests:
            self._boots()
        run = self._assemble()
        self.journal.complete(run)
        return run

    def _boots(self) -> None:
        began_s, longest_s = time.monotonic(), 0.0
        for number in range(self.plan.boots):
            if number in self.plan.looks and not self._look(number):
                break
            budget_s = self.plan.time_budget_s
            is_late = budget_s is not None and time.monotonic() - began_s + longest_s > budget_s
            if is_late and number >= self.plan.fewest_boots:
                break
            boot_began_s = time.monotonic()
            self._boot(number)
            longest_s = max(longest_s, time.monotonic() - boot_began_s)

    def _look(self, boots: int) -> bool:
        """Whether there is anything left to measure after so many boots; later ones measure only what is still open.

        The same on a run that is resumed, since only these boots are looked at.
        """
        assert self.still_open is not None
        still_open = set(self.still_open(self._assemble(boots)))
        if any(name.startswith(benchmarks.PREFIX) for name in still_open):
            still_open.add(BENCHMARKS)  # they are run together
        names = [task.name for task in self._runnable()]
        self.answered |= {name for name in names if name not in still_open}
        self.observer.look(boots, len(names) - len(self.answered), len(names))
        return len(self.answered) < len(names)

    def _runnable(self) -> list[Task]:
        return [task for task in self.plan.tasks if self._arms(task)]

    def _arms(self, task: Task) -> tuple[PlannedArm, ...]:
        gone = {skip.arm for skip in self.skipped if skip.workload == task.name}
        return tuple(arm for arm in self.plan.arms_for(task) if arm.name not in gone)

    def _remember(self) -> None:
        """Take over block sizes, rounds, skips and evidence of the visits that are on disk already."""
        tasks = {task.name: task for task in self.plan.tasks}
        for line in self.journal.lines:
            task = tasks.get(line.workload) or tasks[BENCHMARKS]
            for arm, samples in line.samples.items():
                took_ns = statistics.median(samples.outside_ns) if samples.outside_ns else 0
                warm = warm_iterations(task, samples.iterations, took_ns / samples.iterations)
                self.sizes[line.workload, arm] = BlockSize(samples.iterations, warm)
            self.rounds[line.workload] = len(line.rows)
            self.skipped += [skip for skip in line.skipped if skip not in self.skipped]
            for record in line.environments:
                self.records[record.name] = record

    def _boot(self, number: int) -> None:
        finished_names = self.journal.finished(number)
        pending = [task for task in self._runnable() if task.name not in finished_names | self.answered]
        if not pending:
            return
        self.observer.boot(number)
        pending = drawn_order(pending, random.Random(f"{self.plan.seed}/{number}/tasks"))
        order = self._orders("boot", number, self.plan.arms, 1)[1][0]
        kept = {arm.name for arm in self.plan.arms if is_guest(arm.environment)}
        self.guests.begin_boot(number)
        site = self._site_of(number)
        told, others = self.observer.waits_for, self.plan.other_cpus
        with boot(self.plan.arms, order, site, self.plan.cpus, kept, self.guests, told, others) as this:
            self._record(this)
            canary_channel = self._canary(this)
            for task in pending:
                together = whole_sessions.GROUPS.get(task.name, (task.name,))
                if task is next(other for other in pending if other.name in together):  # the rest come along with it
                    self._visit(this, task, number, canary_channel)

    def _site_of(self, number: int) -> Site:
        """The site of a boot, with its draw of the memory layout.

        Commands of the user's own keep the layout that the system gives each of them: a boot has many runs of them, and what
        is compared need not be the same program, of which one draw might favour one.
        """
        draw = None if self.plan.has_command else visit_source(self.plan.seed, number, "layout").getrandbits(32)
        return replace(self.site, layout=draw)

    def _orders(
        self, what: str, number: int, arms: Sequence[PlannedArm], rounds: int
    ) -> tuple[tuple[int, ...], list[list[str]]]:
        """Rows of the square and the orders that they give to the arms that take part."""
        square, names = self.plan.square, {arm.name for arm in arms}
        rows = draw_rows(len(square), rounds, visit_source(self.plan.seed, number, what))
        return rows, [[name for name in square[row] if name in names] for row in rows]

    def _record(self, this: Boot) -> None:
        """Keep what the first session of each environment saw."""
        for arm in self.plan.arms:
            if arm.environment.name in self.records:
                continue
            found, hashes = answer_of(arm.environment), this.hashes[arm.name]
            version = found.version if isinstance(found, Available) else ""
            virt_class, probe = arm.environment.virt_class, None
            if virt_class is None:  # what it is only a look from inside tells
                virt_class = found.virt_class if isinstance(found, Available) else None
                probe = probed(this.channel(arm.name))
            self.records[arm.environment.name] = EnvironmentRecord(
                name=arm.environment.name,
                virt_class=virt_class,
                version=version,
                python_hash=hashes.python_hash,
                vprobe_hash=hashes.vprobe_hash,
                evidence=this.agents[arm.name].hello.evidence,
                probe=probe,
            )

    def _canary(self, this: Boot) -> Channel | None:
        """A channel to bare with the canary prepared, or None where kernels do not run."""
        bare = next(arm for arm in self.plan.arms if arm.environment.name == BASE)
        if not this.agents[bare.name].hello.native:
            return None
        channel = this.channel(bare.name)
        request = {"op": "prepare", "handle": CANARY_HANDLE, "call": asdict(KernelCall("integer_chain"))}
        channel.request(request, PrepareReply, 30.0)
        return channel

    def _visit(self, this: Boot, task: Task, number: int, canary_channel: Channel | None) -> None:
        lifecycle = task.name in whole_sessions.GROUPS
        self.observer.waits_for(f"sessions to start and stop, for {task.name}" if lifecycle else task.name)
        this.wake_only(() if lifecycle else [arm.name for arm in self._arms(task)])
        visit = self._block_visit
        if lifecycle:
            visit = self._lifecycle_visit
        elif task.name == COMMAND:
            visit = self._command_visit
        elif task.name == BENCHMARKS:
            visit = self._benchmarks_visit
        with contextlib.nullcontext() if lifecycle else controller_beside(self.plan.cpus):
            visit(this, task, number, Watch.begin(self.plan.cpus[0], canary_channel, CANARY_HANDLE))

    def _block_visit(self, this: Boot, task: Task, number: int, watch: Watch) -> None:
        handle = CANARY_HANDLE + 1
        source = visit_source(self.plan.seed, number, f"{task.name}/prepare")
        seed = source.getrandbits(62)
        arms = self._arms(task)
        # In another order each time: which arm gets its memory first decides what memory it gets.
        arms = tuple(source.sample(arms, len(arms)))
        ready, skipped = prepare(this, arms, task, handle, seed)
        self.skipped += skipped
        arms = tuple(arm for arm in arms if arm.name in ready)
        if arms:
            sizes = self._sizes(this, task, arms, handle)
            rows, orders = self._orders(task.name, number, arms, self.rounds[task.name])
            columns = run_rounds(this, handle, orders, sizes, {arm.name: arm.work_factor for arm in arms})
        noise = watch.end(release(this, ready, handle))
        if arms:
            samples = {arm: column.samples(task) for arm, column in columns.items()}
            self._append(finished(task, number, this.cpu, rows, noise, samples), skipped)

    def _sizes(self, this: Boot, task: Task, arms: Sequence[PlannedArm], handle: int) -> dict[str, BlockSize]:
        """Block sizes of the arms: the frozen ones, or calibrated now."""
        names = [arm.name for arm in arms]
        if not all((task.name, name) in self.sizes for name in names):
            preset = self.plan.preset
            found = {name: calibrate(this.channel(name), handle, task, preset.block_ns) for name in names}
            base = next((arm.name for arm in arms if arm.environment.name == BASE), None)
            sizes = settle(task, found, base)
            self.sizes |= {(task.name, name): size for name, size in sizes.items()}
            fewest = MIN_LONG_ROUNDS if any(size.timed == 1 for size in sizes.values()) else MIN_ROUNDS
            fitting = preset.budget_ns(len(self.plan.tasks)) // round_ns(found, sizes)
            self.rounds.setdefault(task.name, min(max(fitting, fewest), preset.rounds))
        return {name: self.sizes[task.name, name] for name in names}

    def _command_visit(self, this: Boot, task: Task, number: int, watch: Watch) -> None:
        arms = self._arms(task)
        commands = whole_sessions.commands_by_arm(arms, self.plan.command)
        first, rounds = whole_sessions.command_rounds(this, commands, self.plan.preset.command_budget_ns)
        rounds = self.rounds.setdefault(task.name, rounds)
        rows, orders = self._orders(task.name, number, arms, rounds)
        samples = whole_sessions.measure_command(this, commands, orders, first)
        self._append(finished(task, number, this.cpu, rows, watch.end(None), samples))

    def _benchmarks_visit(self, this: Boot, task: Task, number: int, watch: Watch) -> None:
        arms, path = self._arms(task), self.plan.benchmarks or ""
        first = {arm.name: benchmarks.run_benchmarks(this, arm.name, path) for arm in arms}
        spent_ns = sum(one.whole.ns for one in first.values())
        rounds = whole_sessions.rounds_within(spent_ns, self.plan.preset.command_budget_ns)
        rounds = self.rounds.setdefault(task.name, rounds)
        rows, orders = self._orders(task.name, number, arms, rounds)
        samples, skipped = benchmarks.measure_benchmarks(this, path, orders, first)
        noise, done = watch.end(None), self.journal.finished(number)
        for name in [name for name in samples if name not in (*done, BENCHMARKS)] + [BENCHMARKS]:
            # The whole comes last: only with it the visit is done, and what lacks is measured when the run is resumed.
            lacking = [skip for skip in skipped if skip.workload == name and skip not in self.skipped]
            self.skipped += lacking
            visit = msgspec.structs.replace(finished(task, number, this.cpu, rows, noise, samples[name]), workload=name)
            self._append(visit, lacking)

    def _lifecycle_visit(self, this: Boot, task: Task, number: int, watch: Watch) -> None:
        """All that is pending of the workloads that are measured together with a task."""
        group, done = whole_sessions.GROUPS[task.name], self.journal.finished(number) | self.answered
        tasks = {one.name: one for one in self.plan.tasks if one.name in group and one.name not in done}
        with_guests = number % self.plan.preset.boots_per_guest_start == 0
        due = [arm for arm in self.plan.arms if with_guests or not is_guest(arm.environment)]
        slow = any(is_guest(arm.environment) for arm in due)
        arms = {arm.name: arm for arm in due}
        # Nothing is measured on a disk or a second CPU of these sessions: they have none.
        site = replace(self.site, direct="", cpus=len(self.plan.cpus))
        if group is whole_sessions.LIVES:
            rows, orders = self._orders("lifecycle", number, due, 1 if slow else self.plan.preset.lifecycle_rounds)
            found, skipped = whole_sessions.measure_lifecycle(
                arms, orders, site, this.bare_evidence, memory=whole_sessions.MEMORY in tasks
            )
        else:
            rows, orders = self._orders("density", number, due, 1)
            found, skipped = whole_sessions.measure_density(arms, orders[0], site, this.bare_evidence)
        noise = watch.end(None)
        new = [skip for skip in skipped if skip.workload in tasks and skip not in self.skipped]
        self.skipped += new
        for name, samples in found.items():
            if name in tasks:
                own = [skip for skip in new if skip.workload == name]
                self._append(finished(tasks[name], number, this.cpu, rows, noise, samples), own)

    def _append(self, visit: Visit, skipped: Sequence[Skipped] = ()) -> None:
        extra = msgspec.structs.asdict(visit) | {"guest_boot": visit.boot // self.plan.preset.boots_per_guest}
        environments_seen = tuple(self.records.values()) if not self.journal.lines else ()
        self.journal.append(Line(**extra, skipped=tuple(skipped), environments=environments_seen))
        if visit.workload in {task.name for task in self.plan.tasks}:
            self.observer.visit(visit)

    def _records(self, seen: set[str], in_order: Sequence[str]) -> Iterator[WorkloadRecord]:
        for task in self.plan.tasks:
            if task.name in seen:
                yield task.record
            if task.name == BENCHMARKS:
                yield from benchmarks.records(in_order, task.record)

    def _assemble(self, boots: int | None = None) -> Run:
        """The run so far; of its first `boots` only, where these are named."""
        visits = tuple(
            Visit(**{name: getattr(line, name) for name in Visit.__struct_fields__})
            for line in self.journal.lines
            if boots is None or line.boot < boots
        )
        seen = {visit.workload for visit in visits}
        return msgspec.structs.replace(
            self.journal.run,
            environments=tuple(self.records.values()),
            workloads=tuple(self._records(seen, [visit.workload for visit in visits])),
            visits=visits,
            skipped=(*self.plan.skipped, *self.skipped),
        )


def drawn_order(tasks: Sequence[Task], source: random.Random) -> list[Task]:
    """Tasks in a random order, in which those that can work in the same memory stand together: an agent keeps it for them.

    Those that need the most of it come first, since memory that is too small is made anew.
    """

    def call(task: Task) -> KernelCall:
        return task.call or KernelCall("")

    def memory(task: Task) -> tuple[int, int]:
        return call(task).page_bytes, call(task).ring

    groups = list(dict.fromkeys(map(memory, tasks)))
    source.shuffle(groups)
    order = source.sample(tasks, len(tasks))
    return sorted(order, key=lambda task: (groups.index(memory(task)), -(call(task).memory_bytes // LARGE_BYTES)))


def plan_hash(plan: Plan) -> str:
    """SHA-256 over everything that decides what is measured."""
    parts: list[Any] = [
        [
            (
                arm.arm,
                str(getattr(arm.environment, "machine", "")),
                sorted(arm.variant.variables.items()),
                arm.variant.command,
                arm.variant.revision,
            )
            for arm in plan.arms
        ],
        [task.record for task in plan.tasks],
        asdict(plan.preset),
        plan.cpus,
        plan.second_cpu,
        plan.command,
        plan.benchmarks,
        plan.seed,
        plan.looks,
        str(plan.scratch or ""),
        asdict(plan.limits),
        plan.image,
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _empty_run(plan: Plan, probe: dict[str, Any]) -> Run:
    engines = {}
    for arm in plan.arms:
        found = answer_of(arm.environment)
        if isinstance(found, Available) and found.version:
            engines[arm.environment.name] = found.version
    limits = {name: value for name, value in asdict(plan.limits).items() if value is not None}
    return Run(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        vprobe_version=__version__,
        seed=plan.seed,
        command=plan.command_line,
        probe=probe,
        pin=plan.cpus,
        fingerprint=msgspec.structs.replace(fingerprint(probe, engines), limits=limits, image=plan.image or ""),
        environments=(),
        arms=tuple(arm.arm for arm in plan.arms),
        workloads=(),
        square=plan.square,
        skipped=plan.skipped,
        looks=plan.looks,
    )


@contextlib.contextmanager
def _site(plan: Plan, tick_ns: float) -> Iterator[Site]:
    """The run's own temporary directory, gone afterwards."""
    # A command of the user's own gets the user's variables; workloads of ours must not depend on them.
    own = {name: value for name, value in os.environ.items() if name != "TMPDIR"} if plan.has_command else {}
    with open_run(plan.scratch) as directory:
        cpus = len(plan.cpus) + len(plan.other_cpus)
        yield Site(directory, plan.working_directory, tick_ns, own, plan.has_network, cpus, plan.limits, plan.direct)


def measure(
    plan: Plan,
    probe: dict[str, Any],
    output: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    still_open: StillOpen | None = None,
) -> Run:
    """Measure a plan into a run file; with `resume`, go on where the journal ends. `still_open`: for a plan with looks.

    Raises RunError where an agent breaks (the journal is kept), UsageError and IncomparableError where the journal does
    not fit. Whatever is started is ended in any case.
    """
    tick_ns = ns_per_tick(CALIBRATION_NS)
    probe = {**probe, "cpu": {**probe["cpu"], "tsc_hz": round(1e9 / tick_ns)}}
    opened = Journal.resume if resume else Journal.create
    journal = opened(output, plan_hash(plan), _empty_run(plan, probe))
    try:
        with _site(plan, tick_ns) as site:
            variants = {arm.variant.name: arm.variant for arm in plan.arms}
            trees = {name: check_out(one, plan.working_directory, site.run.path) for name, one in variants.items()}
            arms = tuple(replace(arm, variant=trees[arm.variant.name]) for arm in plan.arms)
            return Engine(replace(plan, arms=arms), journal, observer or Silent(), site, still_open).run()
    finally:
        gc.unfreeze()
        journal.close()
