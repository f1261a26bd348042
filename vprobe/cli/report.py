"""`vprobe report`: read runs, compare them, write one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from vprobe import oracles, reports, runfile
from vprobe.analysis import compare
from vprobe.analysis.gate import gate
from vprobe.analysis.gate_config import load_config
from vprobe.analysis.rules import parse_rule
from vprobe.errors import InvalidFileError, RunError, UsageError
from vprobe.measure.plan import matches
from vprobe.model import GateReport, Run

MAXIMUM_PAGE_BYTES = 256 << 20
DEFAULT_OUTPUT = {"html": "report.html", "extract": "vprobe-run.json"}


@click.command(name="report")
@click.argument("runs", metavar="RUN…", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it [default: report.html]."
)
@click.option("--lang", default="en", show_default=True, metavar="LANG", help=f"{' or '.join(reports.LANGUAGES)}.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown"]),
    default="html",
    show_default=True,
    help="markdown: for a pull request; to standard output unless -o is given.",
)
@click.option(
    "--chart",
    type=click.Choice(list(reports.CHARTS)),
    help="Write only this chart of the first RUN, as SVG [default: to CHART.svg].",
)
@click.option("--select", multiple=True, metavar="GLOB", help="With --chart: only these workloads. May be repeated.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help="Judge by this rule, as vprobe gate does.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML with the table of gate rules.")
@click.option(
    "--oracles",
    "oracle_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Agreements that make oracles wrote.",
)
@click.option(
    "--extract", type=click.Path(path_type=Path), metavar="FILE.html", help="Write the run that a report carries."
)
def command(
    runs: tuple[Path, ...],
    output: Path | None,
    lang: str,
    form: str,
    chart: str | None,
    select: tuple[str, ...],
    rules: tuple[str, ...],
    config: Path | None,
    oracle_file: Path | None,
    extract: Path | None,
) -> None:
    """Write one HTML file that a reader can check: no network, no script needed to read it.

    With several runs, each is compared with the first. With --rule or --config the verdict of the gate leads.
    """
    if extract is not None:
        if runs:
            raise UsageError("--extract takes no RUN", "give either a report to take apart or runs to report")
        _extract(extract, output)
        return
    if not runs:
        raise UsageError("no run file is given", "name one that vprobe bench wrote, such as vprobe-run.json")
    loaded = [(path.name, runfile.load(path)) for path in runs]
    agreements = None if oracle_file is None else oracles.load(oracle_file)
    if chart is not None and form != "html":
        raise UsageError("--chart and --format do not go together", "a chart is SVG; leave one of them out")
    if select and chart is None:
        raise UsageError("--select goes with --chart", "the page and the table show every workload")
    report = _prepare(loaded, _judged(loaded[0][1], rules, config), lang, agreements)
    if chart is not None:
        _write(output or Path(f"{chart}.svg"), reports.CHARTS[chart](_selected(report, select)).encode())
    elif form == "markdown" and output is None:
        click.echo(reports.markdown(report), nl=False)
    elif form == "markdown" and output is not None:
        _write(output, reports.markdown(report).encode())
    else:
        _write(output or Path(DEFAULT_OUTPUT["html"]), reports.html(report).encode())


def write_report(runs: Sequence[tuple[str, Run]], path: Path) -> None:
    """Write the HTML report of runs by name, the later ones compared with the first. RunError where it cannot be written."""
    _save(path, reports.html(_prepare(runs, None, "en")).encode())


def _prepare(
    runs: Sequence[tuple[str, Run]],
    verdict: GateReport | None,
    language: str,
    agreements: oracles.OracleReport | None = None,
) -> reports.Report:
    """Every run compared within itself, and the later ones with the first."""
    return reports.prepare(
        [reports.Measured.of(name, run) for name, run in runs],
        [compare(run, runs[0][1]) for _, run in runs[1:]],
        verdict,
        language=language,
        oracles=agreements,
    )


def _selected(report: reports.Report, globs: Sequence[str]) -> reports.Report:
    """The first run of a report with only the workloads that any of the globs matches; all of them without globs."""
    first = report.measured[0]
    for glob in globs:
        if not any(matches(workload.name, glob) for workload in first.run.workloads):
            names = ", ".join(workload.name for workload in first.run.workloads)
            raise UsageError(f"--select {glob!r} matches no workload of the run", f"it has {names}"[:400])
    if globs:
        first = first.only(lambda name: any(matches(name, glob) for glob in globs))
    return replace(report, measured=(first,), across=())


def _judged(run: Run, rules: Sequence[str], config: Path | None) -> GateReport | None:
    if not rules and config is None:
        return None
    settings = load_config(config) if config is not None else None
    texts = tuple(rules) or (settings.rules if settings else ())
    if not texts:
        raise UsageError(f"{config} has no rule to judge by", "put rules there, or give --rule")
    across = settings.across if settings else frozenset[str]()
    baseline = runfile.load(settings.baseline) if settings and settings.baseline else None
    return gate(run, [parse_rule(text) for text in texts], baseline=baseline, across=across)


def _extract(page: Path, output: Path | None) -> None:
    """Write every run that a report carries; of several, the second and later ones get a number."""
    try:
        with page.open("rb") as file:
            text = file.read(MAXIMUM_PAGE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InvalidFileError(f"{page} cannot be read: {error.strerror}", "name a report") from None
    target = output or Path(DEFAULT_OUTPUT["extract"])
    for index, data in enumerate(reports.extract(text)):
        path = target if index == 0 else target.with_name(f"{target.stem}-{index + 1}{target.suffix}")
        _write(path, data)
    agreements = reports.extract_oracles(text)
    if agreements is not None:
        _write(target.with_name(f"{target.stem}-oracles.json"), agreements)


def _write(path: Path, data: bytes) -> None:
    """Write a file and say where it is."""
    _save(path, data)
    click.echo(f"wrote {path}")


def _save(path: Path, data: bytes) -> None:
    """Write the whole file or nothing of it."""
    try:
        runfile.write_whole(path, data)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}", "name another file with -o") from None
