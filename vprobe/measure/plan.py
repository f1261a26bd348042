"""What will be measured: arms, workloads and how finely. Made from a request, before anything runs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vprobe import environments
from vprobe.environments import Environment, Limits, Unavailable
from vprobe.environments.limits import obstacle
from vprobe.environments.survey import survey
from vprobe.errors import UnavailableError, UsageError
from vprobe.measure.schedule import williams_square
from vprobe.measure.variants import NO_VARIANT, Variant
from vprobe.model import Arm, Kind, Skipped, WorkloadRecord
from vprobe.suites import DEFAULT, FULL, QUICK, HostFacts, KernelCall, UnsupportedError, Workload, catalog
from vprobe.suites.storage import FILE_BYTES

COMMAND = "command.run"
"""Name of the workload that --command or a command variant makes."""

STORAGE = "storage"
"""Need of workloads that work in the scratch directory, and capability of environments that show it."""

NETWORK = "network"
"""Need of workloads that talk to the host side, and capability of environments that can be linked with it."""
NO_LIMITS = Limits()

BENCHMARKS = "pytest.run"
"""Name of the workload that --pytest makes: all of the user's benchmarks in one run of pytest."""

BOOTS = "boots"
"""Capability of environments whose start boots a kernel."""

BASE, CONTROL = "bare", "bare-aa"
"""The environment that all others are compared with, and its twin that shows what the machine alone can pretend."""


FEWEST_AT_A_LOOK = 9


@dataclass(frozen=True)
class Preset:
    """How finely is measured. A boot is the unit of analysis: more boots narrow the intervals, more rounds one boot's noise."""

    boots: int
    rounds: int
    block_ns: int
    lifecycle_rounds: int
    visit_budget_ns: int  # a workload whose blocks are long, or have many arms, gets fewer rounds
    boot_budget_ns: int  # where this allows each visit more than that, it gets more
    level: int  # the workloads of this level and below are measured unasked; the rest by --select
    command_budget_ns: int  # of one visit of an external command, all arms together
    boots_per_guest: int = 5  # a Linux guest takes seconds to start; its agent is executed anew in every boot
    workloads: tuple[str, ...] = ()  # globs, instead of a level: those that exist are measured unasked
    hurries: bool = False  # over all environments that can run, it takes the time of automatic_budget_s()

    def budget_ns(self, visits: int) -> int:
        """What a visit may take in a boot of so many. A boot takes its time to start in any case: few visits share it out."""
        return max(self.visit_budget_ns, self.boot_budget_ns // max(visits, 1))

    @property
    def boots_per_guest_start(self) -> int:
        """In how many boots the start of Linux guests is measured once, in one round."""
        return self.boots_per_guest // 2 + 1


STUDY = (
    *("cpu.xz", "cpu.dgemm[*", "memory.copy", "memory.scale", "memory.add", "memory.triad", "memory.random_access"),
    *("network.*", "storage.random_*", "storage.sequential_*", "storage.fsync"),
    *("applications.redis[*", "applications.sqlite"),
    # and the mechanisms by which the ratios are explained
    *("memory.tlb_reach[8192*", "memory.chase[64MiB*", "memory.first_touch", "system.getpid", "system.page_fault"),
    *("system.pipe_round_trip", "system.futex_round_trip", "timers.wake_up", "exits.out", "exits.hypercall"),
)
"""What the preset felter measures: the workloads of W. Felter et al., ISPASS 2015, as far as there are any here."""

PRESETS: Mapping[str, Preset] = {
    "quick": Preset(9, 240, 400_000, 1, 250_000_000, 1_000_000_000, QUICK, 6_000_000_000, 9, hurries=True),
    "default": Preset(20, 240, 500_000, 1, 110_000_000, 2_000_000_000, DEFAULT, 6_000_000_000),
    "felter": Preset(12, 60, 500_000, 2, 200_000_000, 200_000_000, FULL, 6_000_000_000, 12, STUDY),
    "full": Preset(40, 240, 500_000, 6, 1_200_000_000, 1_200_000_000, FULL, 10_000_000_000),
}

REASONS = {
    "os": "needs an operating system; {environment} runs native kernels only",
    "python": "needs Python; {environment} runs native kernels only",
    "commands": "needs an operating system to run commands; {environment} runs native kernels only",
    "kernels": "needs native kernels, which {environment} cannot run",
    STORAGE: "has no part of the scratch directory: its storage would be memory, or another file system's",
    "two_cpus": "needs two virtual CPUs; {environment} has one",
    NETWORK: "has no network of its own that a veth pair or a tap could lead to",
    "microvm": "measures leaving a micro-VM, which this is not",
}


@dataclass(frozen=True)
class PlannedArm:
    """An arm with the place that runs it. `work_factor` scales the iterations of every block: 1.05 does 5 % more work than
    is accounted for. It is a test's means to inject a known change, and 1 otherwise."""

    arm: Arm
    environment: Environment
    variant: Variant = NO_VARIANT
    work_factor: float = 1.0

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.arm.name


@dataclass(frozen=True)
class Task:
    """A workload, resolved for this host."""

    record: WorkloadRecord
    needs: frozenset[str]
    call: KernelCall | None = None

    @property
    def name(self) -> str:
        """Full name of the workload."""
        return self.record.name


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run. Two equal plans measure the same."""

    arms: tuple[PlannedArm, ...]
    tasks: tuple[Task, ...]
    skipped: tuple[Skipped, ...]
    preset: Preset
    seed: int
    cpus: tuple[int, ...]
    command_line: tuple[str, ...] = ()
    command: str | None = None
    benchmarks: str | None = None  # the path that --pytest names, as it is in the arms
    time_budget_s: float | None = None
    fewest_boots: int = 1  # are measured even where the time budget is too short for them
    second_cpu: int | None = None  # for workloads that need two
    working_directory: Path = field(default_factory=Path.cwd)
    limits: Limits = NO_LIMITS  # of every session
    image: str | None = None  # of the user's own, for the environments that run one
    scratch: Path | None = None  # where to make the scratch directory; None: see sessions.scratch_parent
    looks: tuple[int, ...] = ()  # boots after which to ask which workloads are still open; none: all boots in any case

    @property
    def boots(self) -> int:
        """The most boots that are measured."""
        return self.looks[-1] if self.looks else self.preset.boots

    @property
    def square(self) -> tuple[tuple[str, ...], ...]:
        """The balanced orders of all arms."""
        return williams_square([arm.name for arm in self.arms])

    @property
    def has_network(self) -> bool:
        """Whether a workload talks to the host side."""
        return any(NETWORK in task.needs for task in self.tasks)

    @property
    def other_cpus(self) -> tuple[int, ...]:
        """The CPU beside the measured ones that a workload works on, too; none where no workload needs it."""
        wanted = any("two_cpus" in task.needs for task in self.tasks)
        return () if self.second_cpu is None or self.second_cpu in self.cpus or not wanted else (self.second_cpu,)

    @property
    def direct(self) -> str:
        """How the scratch directory takes O_DIRECT (StorageFacts), where a workload is measured on it; "" where none is."""
        return next((str(task.record.parameters["direct"]) for task in self.tasks if STORAGE in task.needs), "")

    @property
    def has_command(self) -> bool:
        """Whether a command of the user's own is measured."""
        return any(task.name in (COMMAND, BENCHMARKS) for task in self.tasks)

    def arms_for(self, task: Task) -> tuple[PlannedArm, ...]:
        """The arms that can run a task, in the plan's order."""
        skipped = {skip.arm for skip in self.skipped if skip.workload == task.name}
        return tuple(arm for arm in self.arms if arm.name not in skipped)


def looks_for(boots: int) -> tuple[int, int, int]:
    """When an adaptive run looks at what it has: early, as a run of a fixed number of `boots` would, and at the latest.

    Fewer than FEWEST_AT_A_LOOK boots could answer nothing at the first look's share of alpha.
    """
    first = max(FEWEST_AT_A_LOOK, boots // 2)
    return first, 2 * first, 4 * first


def automatic_budget_s(arms: int) -> float:
    """What a quick run over whatever can run here may take: the more environments, the longer, but nobody chose them."""
    return 90.0 + 15.0 * max(0, arms - 5)


def within(preset: Preset, time_budget_s: float, boots: int) -> Preset:
    """A preset whose visits of an external command are short enough for so many boots to fit into the time.

    They get half of it; the rest is for starting sessions, and for looking a second time. Without this a small budget
    would end after one boot, of which nothing can be said.
    """
    share_ns = round(0.5 * time_budget_s / boots * 1e9)
    return replace(preset, command_budget_ns=min(preset.command_budget_ns, share_ns))


def matches(name: str, pattern: str) -> bool:
    """Whether a glob selects a name: only * and ? are wild, brackets are literal, an exact name always matches itself."""
    return name == pattern or fnmatch.fnmatchcase(name, re.sub(r"([\[])", r"[\1]", pattern))


def choose_environments(
    names: Sequence[str],
    image: str | None = None,
    limits: Limits = NO_LIMITS,
    configure: Callable[[Environment], Environment] = lambda environment: environment,
) -> tuple[tuple[Environment, ...], tuple[tuple[str, Unavailable], ...]]:
    """The environments to measure, bare and bare-aa always among them, and those that "auto" leaves out, with why.

    `configure` applies what the command line says of each before it is asked whether it can run.
    Raises UnavailableError for an environment that was named and cannot run here, UsageError for one that does not exist.
    """
    automatic = list(names) == ["auto"]
    wanted = list(environments.names()) if automatic else list(dict.fromkeys(names))
    wanted = [BASE, CONTROL, *[name for name in wanted if name not in (BASE, CONTROL)]]
    chosen, left_out = [], []
    known = [configure(environments.get(name)) for name in wanted]
    if image is not None:
        known = [environments.in_image(one, image) for one in known]
    for name, environment, answer in zip(wanted, known, survey(known), strict=True):
        found = answer if isinstance(answer, Unavailable) else obstacle(name.partition(":")[0], limits) or answer
        if not isinstance(found, Unavailable):
            chosen.append(environment)
        elif automatic:
            left_out.append((name, found))
        else:
            raise UnavailableError(f"environment {name} is not available: {found.reason}", found.remedy)
    return tuple(chosen), tuple(left_out)


def in_guest(environment: Environment, variant: Variant) -> Environment:
    """A guest as a variant makes it. UnavailableError where that cannot run."""
    from vprobe.environments import guest  # noqa: PLC0415 - brings asyncio along, for those who use guests

    place = guest.configured(environment, kernel=variant.kernel, qemu=variant.qemu)
    found = place.availability()
    if isinstance(found, Unavailable):
        raise UnavailableError(f"{environment.name}/{variant.name} is not available: {found.reason}", found.remedy)
    return place


def make_arms(chosen: Sequence[Environment], variants: Sequence[Variant]) -> tuple[PlannedArm, ...]:
    """Environment by variant; bare-aa repeats the first variant only, since it is a control and not a subject.

    Variants of guests leave the other environments alone. UsageError where there is no guest to make a difference in.
    """
    arms = []
    of_guests = any(variant.of_guests for variant in variants)
    if of_guests and not any(BOOTS in environment.capabilities for environment in chosen):
        raise UsageError("variants kernel: and qemu: need a Linux guest", "add one, such as --env bare,qemu-tcg")
    for environment in chosen:
        if of_guests and BOOTS not in environment.capabilities:
            arms.append(PlannedArm(Arm(environment.name, environment.name, None), environment, NO_VARIANT))
            continue
        for variant in variants or [NO_VARIANT]:
            if environment.name == CONTROL and variant is not (variants or [NO_VARIANT])[0]:
                continue
            plain = variant is NO_VARIANT or environment.name == CONTROL
            name = environment.name if plain else f"{environment.name}/{variant.name}"
            place = in_guest(environment, variant) if of_guests else environment
            arms.append(PlannedArm(Arm(name, environment.name, variant.name or None), place, variant))
    return tuple(arms)


def unasked(preset: Preset) -> tuple[Workload, ...]:
    """What a preset measures where nothing is selected."""
    everything = catalog()
    if preset.workloads:
        return tuple(w for name, w in everything.items() if any(matches(name, glob) for glob in preset.workloads))
    return tuple(w for w in everything.values() if w.level <= preset.level)


def select(patterns: Sequence[str], own: bool, preset: Preset = PRESETS["full"]) -> tuple[Workload, ...]:
    """The suites' workloads that the patterns name. UsageError for a pattern that names none.

    Without patterns: what the preset measures unasked, or none where the user brings something of their own.
    """
    everything = catalog()
    if not patterns:
        return () if own else unasked(preset)
    for pattern in patterns:
        if pattern not in (COMMAND, BENCHMARKS) and not any(matches(name, pattern) for name in everything):
            raise UsageError(f"no workload matches {pattern!r}", "vprobe suites lists them")
    return tuple(w for name, w in everything.items() if any(matches(name, pattern) for pattern in patterns))


def _resolve(workload: Workload, facts: HostFacts) -> Task:
    call = workload.make(facts, **workload.parameters) if workload.kind == Kind.KERNEL else None
    parameters = dict(workload.parameters)
    if STORAGE in workload.needs and facts.storage is not None:
        parameters |= {"direct": facts.storage.direct, "backing": dict(facts.storage.backing)}
    if call is not None:
        parameters = {name: value for name, value in asdict(call).items() if value != _DEFAULT_CALL[name]}
        parameters["kernel"] = call.kernel
    record = WorkloadRecord(
        name=workload.name,
        unit=workload.unit,
        better="higher" if workload.better == "higher" else "lower",
        kind=Kind(workload.kind),
        parameters=parameters,
    )
    return Task(record, workload.needs, call)


_DEFAULT_CALL = asdict(KernelCall(""))


def command_task(command: str | None) -> Task:
    """The workload that runs the user's own command."""
    parameters = {} if command is None else {"command": command}
    record = WorkloadRecord(name=COMMAND, unit="ns", better="lower", kind=Kind.EXTERNAL, parameters=parameters)
    return Task(record, frozenset({"commands"}))


def offers(environment: Environment) -> frozenset[str]:
    """What an environment offers to workloads; threads on two CPUs wherever there is an operating system to ask for them."""
    system = "os" in environment.capabilities
    return environment.capabilities | (frozenset({"two_cpus"}) if system else frozenset())


def benchmarks_task(path: str) -> Task:
    """The workload that runs the user's own pytest-benchmark directory, and becomes one for each benchmark."""
    record = WorkloadRecord(name=BENCHMARKS, unit="ns", better="lower", kind=Kind.EXTERNAL, parameters={"path": path})
    return Task(record, frozenset({"commands", "python"}))


def missing_capability(task: Task, environment: Environment) -> str | None:
    """Why an environment cannot run a task, or None."""
    own: Mapping[str, str] = getattr(environment, "lacks", {})
    for need in sorted(task.needs - offers(environment)):
        if getattr(environment, "image", None) is not None:
            return "in an image of the user's own only commands can be compared"
        return own.get(need) or REASONS[need].format(environment=environment.name)
    return None


def check_space(facts: HostFacts, arms: int) -> None:
    """UnsupportedError where the scratch directory has no room for a file of each arm, with a tenth to spare."""
    storage = facts.storage
    needed = arms * FILE_BYTES * 11 // 10
    if storage is None:
        raise UnsupportedError("nothing is known of the scratch directory")
    if storage.free_bytes < needed:
        raise UnsupportedError(
            f"{storage.directory} has {storage.free_bytes >> 20} MiB free and {arms} arms need {needed >> 20} MiB: "
            "name another directory by --scratch"
        )


def make_tasks(
    workloads: Sequence[Workload],
    facts: HostFacts,
    arms: Sequence[PlannedArm],
    own: Sequence[Task] = (),
    second_cpu: int | None = 0,
) -> tuple[tuple[Task, ...], tuple[Skipped, ...]]:
    """Resolve the workloads for this host, and say which arm skips which, and why."""
    tasks = list(own)
    skipped = []
    for workload in workloads:
        try:
            if STORAGE in workload.needs:
                check_space(facts, len(arms))
            tasks.append(_resolve(workload, facts))
        except UnsupportedError as error:
            skipped += [Skipped(arm.name, workload.name, str(error)) for arm in arms]
    for task in tasks:
        for arm in arms:
            reason = missing_capability(task, arm.environment)
            if not reason and "two_cpus" in task.needs and second_cpu is None:
                reason = "needs a second CPU, and this process may use one only"
            if reason:
                skipped.append(Skipped(arm.name, task.name, reason))
    return tuple(tasks), tuple(skipped)
