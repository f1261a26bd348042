"""`vprobe envs`: which environments there are, and why each can or cannot run here."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.text import Text

from vprobe import environments
from vprobe.cli.completion import complete_names
from vprobe.cli.probe_screen import console
from vprobe.environments import Available, Environment, Unavailable
from vprobe.environments.survey import survey

Row = tuple[Environment, Available | Unavailable]
MARK_WIDTH = 7
NARROWEST = 30
"""Columns for reasons, however narrow the terminal is."""


def class_of(environment: Environment, found: Available | Unavailable) -> str:
    """Its class, or that this is as probed over there."""
    return str(environment.virt_class or (isinstance(found, Available) and found.virt_class) or "as-probed")


def as_json(rows: Sequence[Row]) -> str:
    """The array that scripts read."""
    table = [
        {
            "name": environment.name,
            "class": class_of(environment, found),
            "available": isinstance(found, Available),
            "reason": found.reason if isinstance(found, Unavailable) else None,
            "remedy": found.remedy or None if isinstance(found, Unavailable) else None,
            "version": found.version or None if isinstance(found, Available) else None,
        }
        for environment, found in rows
    ]
    return msgspec.json.encode(table).decode()


def describe(found: Available | Unavailable, *, apart: bool) -> Text:
    """The last column: the engine's version, or the reason and what to do, on a line of its own (`apart`) or on the same.

    `Text`, since it comes from the machine.
    """
    if isinstance(found, Available):
        return Text(found.version)
    text = Text(found.reason)
    if found.remedy:
        text.append(f"{chr(10) if apart else ' '}→ {found.remedy}", style="dim")
    return text


def print_table(rows: Sequence[Row], output: Console) -> None:
    """The table that a person reads: wrapped on a terminal; one line an environment, as long as it gets, in a pipe."""
    names = max(len(environment.name) for environment, _ in rows) + 2
    classes = max(len(class_of(*row)) for row in rows) + 2
    names, classes = max(names, len("ENVIRONMENT") + 2), max(classes, len("CLASS") + 2)
    indent = names + classes + MARK_WIDTH
    heading = f"{'ENVIRONMENT':{names}}{'CLASS':{classes}}{'':{MARK_WIDTH}}ENGINE, OR WHY NOT"
    output.print(Text(heading, "bold"), soft_wrap=True)
    for environment, found in rows:
        text = describe(found, apart=output.is_terminal)
        parts = text.wrap(output, max(output.width - indent, NARROWEST)) if output.is_terminal else [text]
        mark = (
            (f"{'✔ yes':{MARK_WIDTH}}", "green") if isinstance(found, Available) else (f"{'✘ no':{MARK_WIDTH}}", "red")
        )
        head = Text.assemble(f"{environment.name:{names}}{class_of(environment, found):{classes}}", mark)
        for number, part in enumerate(parts):
            part.rstrip()
            output.print(Text.assemble(head if number == 0 else " " * indent, part), soft_wrap=True)


def missing_packages(rows: Sequence[Row]) -> tuple[str, ...]:
    """Debian's names of the packages that would bring the engines that are missing."""
    packages = [name for _, found in rows if isinstance(found, Unavailable) for name in found.packages]
    return tuple(sorted(set(packages)))


@click.command("envs")
@click.argument("names", nargs=-1, shell_complete=complete_names)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON array.")
@click.option("--install-hints", is_flag=True, help="Print the command that installs the engines that are missing.")
def command(names: tuple[str, ...], json_output: bool, install_hints: bool) -> int:
    """List the environments and why each can or cannot run here.

    Each is tried for real, without changing anything. NAMES: only these.
    """
    chosen = [environments.get(name) for name in names or environments.names()]
    rows = list(zip(chosen, survey(chosen), strict=True))
    if json_output:
        click.echo(as_json(rows))
    elif install_hints:
        packages = missing_packages(rows)
        if packages:
            click.echo(f"apt install --no-install-recommends {' '.join(packages)}")
        else:
            click.echo("nothing that a package would bring is missing", err=True)
    else:
        print_table(rows, console())
    return 0
