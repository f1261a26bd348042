"""`vprobe compare`: the arms of a run against their base, or a run against another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from vprobe.analysis import compare
from vprobe.analysis.exporters.csv import csv_text
from vprobe.analysis.exporters.markdown import markdown_text
from vprobe.analysis.exporters.table import print_table
from vprobe.errors import UsageError
from vprobe.model import Comparisons, Run
from vprobe.runfile import load

PIPED_COLUMNS = 100


def output_console() -> Console:
    """A console on standard output, wide enough for the tables where there is no terminal to ask (rich takes 80)."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_COLUMNS
    return Console(width=width)


def show(comparisons: Comparisons, run: Run) -> None:
    """Print a comparison of `run` for a person, on standard output."""
    print_table(comparisons, run, output_console())


def show_study(comparisons: Comparisons, run: Run) -> None:
    """Print the table of Felter et al. with the ratios of `run` beside it, as Markdown, on standard output."""
    from vprobe.reports.study import study_text  # noqa: PLC0415 - one form of several needs it

    click.echo(study_text(run, comparisons), nl=False)


def parse_margin(text: str) -> float:
    """2% or 0.02, as a share. UsageError for anything else, and for what is not in 0 to 100 %."""
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / (100 if "%" in text else 1)
    except ValueError:
        raise UsageError(f"--margin {text!r} is not a percentage", "for example --margin 2%") from None
    if not 0 <= value <= 1:
        raise UsageError(f"--margin {text!r} is not between 0 and 100 %", "for example --margin 2%")
    return value


@click.command(name="compare")
@click.argument("run_file", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("other_file", metavar="[OTHER]", required=False, type=click.Path(path_type=Path))
@click.option("--base", metavar="bare|ARM", help="What to compare with [default: bare, or the first variant].")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json", "csv", "felter"]),
    default="table",
    show_default=True,
    help="felter: beside the figures of the study of that name (ISPASS 2015), as the preset felter prints it.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--margin", default="2%", show_default=True, metavar="PERCENT", help="What counts as the same.")
def command(run_file: Path, other_file: Path | None, base: str | None, form: str, as_json: bool, margin: str) -> None:
    """Compare the arms of RUN with their base; or RUN with OTHER, an older run, arm by arm.

    A ratio above 1 is slower than the base. --base takes an environment, an arm or a variant.
    """
    if other_file is not None and base is not None:
        raise UsageError("--base has no meaning between two runs", "each arm is compared with itself in OTHER")
    share = parse_margin(margin)
    other = None if other_file is None else load(other_file)
    run = load(run_file)
    comparisons = compare(run, other, base=base, margin=share)
    form = "json" if as_json else form
    if form == "table":
        show(comparisons, run)
    elif form == "json":
        click.echo(msgspec.json.encode(comparisons).decode())
    elif form == "felter":
        show_study(comparisons, run)
    else:
        click.echo(markdown_text(comparisons, run) if form == "markdown" else csv_text(comparisons), nl=False)
