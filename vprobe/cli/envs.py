"""`vprobe envs`: which environments there are, and why each can or cannot run here."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vprobe import environments
from vprobe.environments import Available, Environment, Unavailable
from vprobe.environments.survey import survey

Row = tuple[Environment, Available | Unavailable]


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of environments for the shell's completion, also after the last comma of a list."""
    del ctx, param
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    fitting = [name for name in environments.names() if name.startswith(last) and name not in given]
    return [CompletionItem(f"{before}{comma}{name}") for name in fitting]


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


def describe(found: Available | Unavailable) -> Text:
    """The last column: the engine's version, or the reason and what to do. `Text`, since it comes from the machine."""
    if isinstance(found, Available):
        return Text(found.version)
    text = Text(found.reason)
    if found.remedy:
        text.append(f"\n→ {found.remedy}", style="dim")
    return text


def as_table(rows: Sequence[Row]) -> Table:
    """The table that a person reads."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ENVIRONMENT", "CLASS", "", "ENGINE, OR WHY NOT"):
        table.add_column(heading, no_wrap=heading in ("ENVIRONMENT", "CLASS"), overflow="fold")
    for environment, found in rows:
        mark = Text("✔ yes", "green") if isinstance(found, Available) else Text("✘ no", "red")
        table.add_row(Text(environment.name), class_of(environment, found), mark, describe(found))
    return table


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
        Console().print(as_table(rows))
    return 0
