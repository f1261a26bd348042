"""`vprobe gate`: judge a run by rules, for CI."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from vprobe.analysis.bases import BASELINE
from vprobe.analysis.comparable import parse_across
from vprobe.analysis.exporters.gate_text import print_gate
from vprobe.analysis.exporters.github import MAXIMUM_SUMMARY_BYTES, annotation_lines, step_summary
from vprobe.analysis.exporters.junit import junit_xml
from vprobe.analysis.exporters.openmetrics import openmetrics_text
from vprobe.analysis.gate import Confirm, gate
from vprobe.analysis.gate_config import GateConfig, find_config, load_config
from vprobe.analysis.rules import FORM, Rule, parse_rule
from vprobe.cli.compare import output_console
from vprobe.errors import ExitCode, RunError, UsageError
from vprobe.model import GateReport, GateVerdict, RuleResult, Run
from vprobe.runfile import load, write_whole

EXIT_CODES = {
    GateVerdict.PASS: ExitCode.PASS,
    GateVerdict.FAIL: ExitCode.FAIL,
    GateVerdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    GateVerdict.INCOMPARABLE: ExitCode.INCOMPARABLE,
}
POLICIES = click.Choice([verdict.value for verdict in GateVerdict])
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def settings(
    config: Path | None,
    rules: Sequence[str],
    across: str,
    baseline: Path | None,
    confirm: bool,
    inconclusive: str | None = None,
    missing: str | None = None,
) -> GateConfig:
    """The settings of the file, overruled by the command line. UsageError where there are no rules at all."""
    found = load_config(config) if config else find_config(Path.cwd())
    policy = replace(
        found.policy,
        inconclusive=GateVerdict(inconclusive) if inconclusive else found.policy.inconclusive,
        missing=GateVerdict(missing) if missing else found.policy.missing,
    )
    merged = replace(
        found,
        rules=tuple(rules) or found.rules,
        across=parse_across(across) if across else found.across,
        baseline=baseline or found.baseline,
        confirm=confirm or found.confirm,
        policy=policy,
    )
    if not merged.rules:
        raise UsageError("there is no rule to judge by", f"give --rule {FORM}, or [tool.vprobe.gate] in vprobe.toml")
    return merged


def check_baseline(rules: Sequence[Rule], given: Path | None, from_command_line: bool) -> Path | None:
    """The baseline if any rule compares with it. UsageError for one that was named and that no rule uses."""
    if any(rule.base == BASELINE and rule.share is not None for rule in rules):
        return given
    if from_command_line:
        raise UsageError("no rule compares with the baseline", "end one with ' vs baseline'")
    return None


def measure_again(run: Run, rows: Sequence[RuleResult]) -> Run:
    """The failed rows on fresh boots, by the engine."""
    from vprobe.cli import bench  # noqa: PLC0415 - only --confirm measures

    return bench.measure_again(run, rows)


def write_files(
    report: GateReport, run: Run, junit: Path | None, openmetrics: Path | None, markdown: Path | None
) -> None:
    """Write what was asked for. RunError where a file cannot be written."""
    contents = (
        (junit, junit_xml(report)),
        (openmetrics, openmetrics_text(report, run.created).encode()),
        (markdown, step_summary(report).encode()),
    )
    for path, data in contents:
        if path is not None:
            try:
                write_whole(path, data)
            except OSError as error:
                raise RunError(f"{path} cannot be written: {error.strerror}", "name another file") from None


def tell_github(report: GateReport, as_json: bool) -> None:
    """Annotate the worst rows and append to the step's summary."""
    # With --json standard output is one document; the runner reads commands from standard error as well.
    for line in annotation_lines(report):
        click.echo(line, err=as_json)
    name = os.environ.get(SUMMARY_VARIABLE)
    if not name:
        click.echo(f"vprobe: --github: {SUMMARY_VARIABLE} is not set, so there is no step summary", err=True)
        return
    path = Path(name)
    try:
        used = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(step_summary(report, MAXIMUM_SUMMARY_BYTES - used))
    except OSError as error:
        raise RunError(f"the step summary {path} cannot be written: {error.strerror}") from None


def show(report: GateReport, github: bool) -> None:
    """Print the verdict for a person."""
    # Under GitHub, names of the run file could be taken for workflow commands: they are off while such text is printed.
    token = secrets.token_hex(16)
    if github:
        click.echo(f"::stop-commands::{token}")
    print_gate(report, output_console())
    if github:
        sys.stdout.flush()
        click.echo(f"::{token}::")


@click.command(name="gate")
@click.argument("run_file", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="GLOB@ENV[:pNN]<=LIMIT[ vs BASE]; may be repeated."
)
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN", help="Stored run for rules 'vs baseline'.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML with the table [tool.vprobe.gate]."
)
@click.option(
    "--confirm",
    is_flag=True,
    help="Measure failed rows again, by the command line in RUN; only what fails twice fails.",
)
@click.option("--across", default="", metavar="FACTS", help="Facts in which the baseline may differ, by commas.")
@click.option("--inconclusive", type=POLICIES, help="What a row that is not decided counts as [default: itself].")
@click.option("--missing", type=POLICIES, help="What a row that was not measured counts as [default: incomparable].")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit XML, too.")
@click.option("--github", is_flag=True, help="Annotate, and append to the step summary of GitHub Actions.")
@click.option(
    "--openmetrics", type=click.Path(path_type=Path), metavar="FILE", help="Write an OpenMetrics textfile, too."
)
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as Markdown, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON document.")
def command(
    run_file: Path,
    rules: tuple[str, ...],
    baseline: Path | None,
    config: Path | None,
    confirm: bool,
    across: str,
    inconclusive: str | None,
    missing: str | None,
    junit: Path | None,
    github: bool,
    openmetrics: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> int:
    """Judge RUN by rules; the exit code is the verdict.

    \b
      vprobe gate run.json --rule 'memory.*@kvm<=15%'
      vprobe gate run.json --rule '*@*<=3% vs base'          two variants in one run
      vprobe gate run.json --rule 'lifecycle.start@runc:p95<=80ms'
      vprobe gate run.json --rule '*@*<=5% vs baseline' --baseline old.json

    Exit codes: 0 pass, 1 fail, 3 inconclusive, 4 incomparable, 2 for a rule that cannot be judged.
    """
    chosen = settings(config, rules, across, baseline, confirm, inconclusive, missing)
    parsed = [parse_rule(text) for text in chosen.rules]
    stored = check_baseline(parsed, chosen.baseline, baseline is not None)
    run = load(run_file)

    def again(rows: Sequence[RuleResult]) -> Run:
        return measure_again(run, rows)

    seam: Confirm | None = again if chosen.confirm else None
    report = gate(
        run,
        parsed,
        baseline=load(stored) if stored else None,
        across=chosen.across,
        policy=chosen.policy,
        confirm=seam,
    )
    write_files(report, run, junit, openmetrics, markdown)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        show(report, github)
    if github:
        tell_github(report, as_json)
    return int(EXIT_CODES[report.verdict])
