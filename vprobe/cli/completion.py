"""What the shell's tab completes: names of environments. Loads none of them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from vprobe import environments


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of environments, also after the last comma of a list."""
    del ctx, param
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    fitting = [name for name in environments.names() if name.startswith(last) and name not in given]
    return [CompletionItem(f"{before}{comma}{name}") for name in fitting]
