"""`vprobe bench`: parse, plan, measure, print."""

from __future__ import annotations

import functools
import math
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from vprobe.cli.completion import complete_names
from vprobe.cli.progress import Progress, duration
from vprobe.environments import IMAGES, Environment, Limits
from vprobe.environments.limits import MINIMUM_CPUS, parse_memory
from vprobe.environments.sessions import sweep
from vprobe.errors import UsageError
from vprobe.measure import plan as planning
from vprobe.measure.advice import advice
from vprobe.measure.benchmarks import PREFIX, relative_path
from vprobe.measure.engine import StillOpen, measure
from vprobe.measure.fingerprint import host_facts
from vprobe.measure.journal import part_of, seed_of
from vprobe.measure.plan import BENCHMARKS, PRESETS, Plan
from vprobe.measure.variants import parse_variants
from vprobe.model import GateVerdict, RuleResult, Run, Verdict
from vprobe.probe import probe_host


def parse_cpus(text: str | None, count: int = 1) -> tuple[int, ...]:
    """The CPUs that --pin names, or the last ones that this process may use. UsageError for one that it may not.

    `count`: how many are needed, for as much CPU time as --cpus allows.
    """
    allowed = os.sched_getaffinity(0)
    if text is None:
        if count > len(allowed):
            raise UsageError(f"--cpus asks for {count} CPUs, and this process may use {len(allowed)}", "ask for fewer")
        return tuple(sorted(allowed, reverse=True)[:count])
    try:
        cpus = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise UsageError(f"--pin {text!r} is not a list of CPU numbers", "for example --pin 1 or --pin 2,3") from None
    for cpu in cpus:
        if cpu not in allowed:
            names = ",".join(map(str, sorted(allowed)))
            raise UsageError(f"--pin {cpu}: this process may not use that CPU", f"it may use {names}")
    if len(cpus) < count:
        raise UsageError(f"--cpus asks for {count} CPUs, and --pin names {len(cpus)}", "name more, or ask for fewer")
    return cpus


def check_image(image: str | None, names: Sequence[str], has_command: bool) -> None:
    """UsageError where --image cannot do anything."""
    if image is None:
        return
    if not image or image.startswith("-") or not image.isprintable():
        raise UsageError(f"--image {image!a} is not the name of an image", "for example --image debian:12")
    if not has_command:
        raise UsageError("--image says in what --command is run, and there is none", "give --command 'CMD'")
    if names != ["auto"] and not IMAGES & set(names):
        takers = " and ".join(sorted(IMAGES))
        raise UsageError(f"--image: none of the environments runs images; {takers} do", "name one in --env")


def parse_environments(text: str) -> list[str]:
    """The names that --env gives."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--env names no environment", "for example --env bare,runc,kvm; vprobe envs lists them")
    return names


def say(console: Console, text: str) -> None:
    """One line as it is: no markup in it, no colour, no wrapping."""
    console.print(Text(text), soft_wrap=True)


def show_plan(plan: Plan, console: Console) -> None:
    """What would be measured, for --dry-run."""
    say(console, f"arms: {', '.join(arm.name for arm in plan.arms)}")
    boots = f"{plan.looks[0]}, {plan.looks[1]} or {plan.looks[2]}" if plan.looks else str(plan.preset.boots)
    say(
        console,
        f"{boots} boots of up to {plan.preset.rounds} rounds, blocks of {plan.preset.block_ns / 1e6:g} ms, "
        f"on CPU {','.join(map(str, plan.cpus))}, seed {plan.seed}",
    )
    if plan.time_budget_s is not None:
        say(console, f"no boot that would end after {plan.time_budget_s:g} s; {plan.fewest_boots} in any case")
    for task in plan.tasks:
        arms = [arm.name for arm in plan.arms_for(task)]
        say(console, f"  {task.name:<28} {', '.join(arms) or 'nowhere'}")


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise UsageError(f"-o {output} is a directory", "name a file")
    parent = output.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"-o {output}: {parent} is not a directory that can be written to", "name another file")


def _finish(run: Run, output: Path, report: Path | None, as_json: bool, console: Console, study: bool) -> None:
    from vprobe.analysis import compare  # noqa: PLC0415 - only a finished run needs them
    from vprobe.cli.compare import show, show_study  # noqa: PLC0415

    comparisons = compare(run)
    if as_json:
        click.echo(msgspec.json.encode(comparisons).decode())
    else:
        show(comparisons, run)
        if study:
            click.echo()
            show_study(comparisons, run)
    say(console, f"run file: {output}")
    if report is not None:
        from vprobe.cli.report import write_report  # noqa: PLC0415

        write_report([(output.name, run)], report)
        say(console, f"report:   {report}")


@dataclass(frozen=True)
class Options:
    """The command line of `vprobe bench`, as it was given."""

    env: str
    select: tuple[str, ...]
    variant: tuple[str, ...]
    preset: str
    boots: int | None
    time_budget: float | None
    seed: int | None
    output: Path
    report: Path | None
    resume: bool
    own: str | None
    pytest_path: Path | None
    pin: str | None
    scratch: Path | None
    dry_run: bool
    as_json: bool
    image: str | None = None
    cpus: float | None = None
    memory: str | None = None
    adaptive: bool = False
    kernel: Path | None = None
    disk: Path | None = None
    rule: tuple[str, ...] = ()


def seed_for(options: Options) -> int:
    """The seed that the options name, or that of the run to go on with, or a new one."""
    if options.seed is not None:
        return options.seed
    return seed_of(options.output) if options.resume else secrets.randbits(32)


def guests_as(options: Options) -> Callable[[Environment], Environment]:
    """What --kernel and --disk make of a Linux guest; other environments stay as they are."""
    if options.disk is not None and options.own is None:
        raise UsageError("--disk is for --command", "--command 'CMD' is run in the image's own root")
    if options.kernel is None and options.disk is None:
        return lambda environment: environment
    from vprobe.environments import guest  # noqa: PLC0415 - brings asyncio along, for those who use guests

    return functools.partial(guest.configured, kernel=options.kernel, disk=options.disk)


def make_plan(options: Options, seed: int, command_line: tuple[str, ...], console: Console) -> Plan:
    """What the options ask for, on this machine. What "auto" leaves out is said on `console`."""
    preset = PRESETS[options.preset]
    benchmarks = None if options.pytest_path is None else str(relative_path(options.pytest_path, Path.cwd()))
    if options.boots is not None:
        preset = replace(preset, boots=options.boots)
    looks = planning.looks_for(preset.boots) if options.adaptive or options.rule else ()
    if options.time_budget is not None:
        preset = planning.within(preset, options.time_budget, looks[0] if looks else preset.boots)
    limits = Limits(options.cpus, None if options.memory is None else parse_memory(options.memory))
    cpus = parse_cpus(options.pin, math.ceil(limits.cpus or 1))
    variants = parse_variants(options.variant, options.own or benchmarks)
    has_command = options.own is not None or any(one.command for one in variants)
    workloads = planning.select(options.select, bool(has_command or benchmarks), preset)
    names = parse_environments(options.env)
    check_image(options.image, names, has_command)
    chosen, left_out = planning.choose_environments(names, options.image, limits, guests_as(options))
    arms = planning.make_arms(chosen, variants)
    budget_s, fewest_boots = options.time_budget, 1
    if preset.hurries and names == ["auto"] and options.boots is None and budget_s is None and not looks:
        from vprobe.analysis.estimate import minimum_boots  # noqa: PLC0415 - brings numpy along, which is needed at the end

        budget_s, fewest_boots = planning.automatic_budget_s(len(arms)), minimum_boots()
    own = [planning.command_task(options.own)] if has_command else []
    own += [planning.benchmarks_task(benchmarks)] if benchmarks else []
    second_cpu = cpus[1] if len(cpus) > 1 else max(os.sched_getaffinity(0) - {cpus[0]}, default=None)
    facts = host_facts(cpus[0], options.scratch)
    tasks, skipped = planning.make_tasks(workloads, facts, arms, own, second_cpu)
    for name, why in left_out:
        say(console, f"left out: {name}: {why.reason}; {why.remedy}")
    return Plan(
        arms=arms,
        tasks=tasks,
        skipped=skipped,
        preset=preset,
        seed=seed,
        cpus=cpus,
        command_line=command_line,
        command=options.own,
        limits=limits,
        image=options.image,
        benchmarks=benchmarks,
        time_budget_s=budget_s,
        fewest_boots=fewest_boots,
        looks=looks,
        scratch=options.scratch,
        second_cpu=second_cpu,
    )


def show_advice(plan: Plan, probe: dict[str, Any], console: Console) -> None:
    """What makes this machine noisy, in a line."""
    below = probe["hypervisor"]["kind"] if probe["hypervisor"]["role"] == "guest" else None
    for sentence in advice(plan.cpus[0], below):
        say(console, f"noise: {sentence}")


def question(plan: Plan, texts: Sequence[str]) -> StillOpen:
    """What an adaptive run is to answer: the gate's verdict by these rules, or without rules that of every comparison.

    UsageError for a rule that the plan can never answer.
    """
    from vprobe.analysis import compare  # noqa: PLC0415 - only adaptive runs need them before they are measured
    from vprobe.analysis.bases import BASELINE, check_base  # noqa: PLC0415
    from vprobe.analysis.gate import gate  # noqa: PLC0415
    from vprobe.analysis.rules import parse_rule  # noqa: PLC0415

    rules = [parse_rule(text) for text in texts]
    arms = [arm.arm for arm in plan.arms]
    for rule in rules:
        if rule.base == BASELINE:
            raise UsageError(
                f"--rule {rule.text!r}: a stored run is compared when this one is complete", "by vprobe gate"
            )
        workloads, places = (
            # which benchmarks there are is known when they have run
            any(map(rule.takes_workload, (t.name for t in plan.tasks)))
            or (plan.benchmarks is not None and rule.text.startswith(PREFIX)),
            any(map(rule.takes_arm, arms)),
        )
        if not workloads or not places:
            raise UsageError(
                f"--rule {rule.text!r} matches nothing that is measured", "--dry-run shows what is measured"
            )
        if rule.share is not None:
            check_base(arms, rule.base)

    def still_open(run: Run) -> set[str]:
        if rules:
            return {row.workload for row in gate(run, rules).rules if row.verdict == GateVerdict.INCONCLUSIVE}
        return {row.workload for row in compare(run).comparisons if row.verdict == Verdict.INCONCLUSIVE}

    return still_open


def measure_shown(
    plan: Plan, output: Path, console: Console, *, resume: bool = False, still_open: StillOpen | None = None
) -> Run:
    """Measure a plan into a run file, with progress."""
    sweep()
    probe = probe_host().document()
    show_advice(plan, probe, console)
    progress = Progress(plan, console)
    try:
        run = measure(plan, probe, output, resume=resume, observer=progress, still_open=still_open)
    finally:
        progress.close()
    boots = len({visit.boot for visit in run.visits})
    short = boots < plan.boots and not progress.all_answered
    fewer = f" ({boots} of {plan.boots} boots: the time budget is used up)" if short else ""
    say(console, f"measured in {duration(progress.elapsed_s)}{fewer}")
    return run


def measure_again(run: Run, rows: Sequence[RuleResult]) -> Run:
    """The workloads and arms of some rows of a run, on as many fresh boots as its command line asks for.

    The command line is the one in the run file; UsageError where it is not one of `vprobe bench`.
    """
    if list(run.command[:2]) != ["vprobe", "bench"]:
        raise UsageError("the run file does not hold a command line of vprobe bench", "measure again with vprobe bench")
    context = command.make_context("bench", list(run.command[2:]))
    console = Console(stderr=True)
    plan = make_plan(Options(**context.params), secrets.randbits(32), run.command, console)
    with tempfile.TemporaryDirectory(prefix="vprobe-confirm-") as directory:
        fixed = replace(only(plan, rows), looks=())  # a confirmation is one look at a number of boots that is fixed
        return measure_shown(fixed, Path(directory) / "run.json", console)


def only(plan: Plan, rows: Sequence[RuleResult]) -> Plan:
    """The part of a plan that some rows need: their workloads, their arms, and every arm that these may be compared with."""
    workloads = {row.workload for row in rows}
    places = {row.environment for row in rows} | {planning.BASE, planning.CONTROL}
    bases = {row.base for row in rows}
    together = any(workload.startswith(PREFIX) for workload in workloads)  # benchmarks are run as a whole
    return replace(
        plan,
        arms=tuple(
            arm for arm in plan.arms if arm.environment.name in places or bases & {arm.name, arm.environment.name}
        ),
        tasks=tuple(task for task in plan.tasks if task.name in workloads or (together and task.name == BENCHMARKS)),
        skipped=tuple(skip for skip in plan.skipped if skip.workload in workloads),
    )


@click.command(name="bench")
@click.option(
    "--env",
    default="auto",
    show_default=True,
    metavar="NAMES",
    help="Environments, by commas.",
    shell_complete=complete_names,
)
@click.option("--select", multiple=True, metavar="GLOB", help="Workloads; only * and ? are wild.")
@click.option("--variant", multiple=True, metavar="NAME=SPEC", help="git:REV, env:VAR=VALUE or a command; two or more.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True)
@click.option("--boots", type=click.IntRange(1, 1000), help="Boots; more boots narrow the intervals.")
@click.option("--adaptive", is_flag=True, help="Look at most three times, and go on only with what is still open.")
@click.option(
    "--rule", multiple=True, metavar="RULE", help="Adaptive, until the gate could answer this rule; may repeat."
)
@click.option("--time-budget", type=click.FloatRange(1), metavar="S", help="Start no boot that would end later.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all orders; drawn if not given.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="vprobe-run.json", show_default=True)
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write the report, too.")
@click.option("--resume", is_flag=True, help="Go on with the run that was interrupted.")
@click.option("--command", "own", metavar="CMD", help="Measure this command, by /bin/sh, in every environment.")
@click.option(
    "--pytest",
    "pytest_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Measure the pytest-benchmark tests in this directory or file, each by its full name.",
)
@click.option(
    "--image", metavar="IMAGE", help="Run --command in this image where podman and docker run it; it must be here."
)
@click.option(
    "--cpus", type=click.FloatRange(MINIMUM_CPUS, 4096), metavar="N", help="CPU time for each session, in CPUs."
)
@click.option("--memory", metavar="SIZE", help="Memory for each session, such as 512M; without swap.")
@click.option("--kernel", type=click.Path(path_type=Path), metavar="FILE", help="Kernel of Linux guests.")
@click.option(
    "--disk", type=click.Path(path_type=Path), metavar="FILE", help="Image whose root --command sees in guests."
)
@click.option("--pin", metavar="CPUS", help="CPUs for all arms [default: one, the last that may be used].")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where storage workloads have their files, which are removed afterwards [default: TMPDIR, or /var/tmp].",
)
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON document.")
def command(**words: Any) -> None:
    """Measure workloads in every environment, side by side.

    \b
      vprobe bench                                    all that can run here
      vprobe bench --env bare,runc,kvm --report r.html
      vprobe bench --env bare --command 'make test'
      vprobe bench --env bare,runc --pytest benchmarks/
      vprobe bench --env bare --command 'make test' --variant base=git:main --variant head=git:HEAD
    """
    options = Options(**words)
    console = Console(stderr=True)
    _check_output(options.output)
    seed = seed_for(options)
    plan = make_plan(options, seed, ("vprobe", *sys.argv[1:]), console)
    still_open = question(plan, options.rule) if plan.looks else None
    if options.dry_run:
        show_plan(plan, Console())
        show_advice(plan, probe_host().document(), Console())
        return
    try:
        run = measure_shown(plan, options.output, console, resume=options.resume, still_open=still_open)
    except KeyboardInterrupt:
        if part_of(options.output).exists():
            say(console, "what was measured is kept: the same command with --resume goes on")
        raise
    _finish(run, options.output, options.report, options.as_json, console, options.preset == "felter")
