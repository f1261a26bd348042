"""`vprobe probe`: what is this machine, and can it virtualize?"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from vprobe.probe import probe_host


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema vprobe.probe/1).")
def command(as_json: bool) -> int:
    """Say what this machine is and whether it can virtualize."""
    report = probe_host()
    if as_json:
        print_json(report.document())
    else:
        from vprobe.cli.probe_screen import print_screen  # noqa: PLC0415 - rich is not loaded for --json

        print_screen(report)
    return 0


def print_json(document: Any) -> None:
    """One document, one line end; characters outside ASCII are escaped, so that any terminal and locale will do."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
