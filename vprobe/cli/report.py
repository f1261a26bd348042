"""`vprobe report`: read runs, compare them, write one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vprobe import reports, runfile
from vprobe.analysis import compare
from vprobe.errors import RunError
from vprobe.model import Run


@click.command(name="report")
@click.argument("runs", metavar="RUN…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="Where to write it.",
)
@click.option(
    "--lang", type=click.Choice(reports.LANGUAGES), default="en", show_default=True, help="Language of the texts."
)
def command(runs: tuple[Path, ...], output: Path, lang: str) -> None:
    """Write one HTML file that a reader can check: no network, no script needed to read it.

    With several runs, the first is the one that the others are compared with.
    """
    write_report([(path.name, runfile.load(path)) for path in runs], output, lang)
    click.echo(f"wrote {output}")


def write_report(loaded: Sequence[tuple[str, Run]], output: Path, lang: str = "en") -> None:
    """Write the report of named runs. RunError where the file cannot be written."""
    measured = [reports.Measured(name, run, compare(run)) for name, run in loaded]
    across = [compare(run, loaded[0][1]) for _, run in loaded[1:]]
    _write(output, reports.render(measured, across=across, language=lang))


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing of it."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}", "name another file with -o") from None
