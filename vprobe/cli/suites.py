"""`vprobe suites`: the workloads."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from vprobe import environments, suites
from vprobe.cli.compare import output_console
from vprobe.measure.plan import offers


def rows() -> list[dict[str, Any]]:
    """One row a workload, as --json prints it."""
    known = [environments.get(name) for name in environments.names()]
    return [
        {
            "name": workload.name,
            "suite": workload.suite,
            "kind": workload.kind,
            "unit": workload.unit,
            "better": workload.better,
            "parameters": dict(workload.parameters),
            "environments": [one.name for one in known if not workload.needs - offers(one)],
            "description": " ".join(workload.doc.split()),
            "summary": " ".join(workload.doc.partition("\n\n")[0].split()),
        }
        for workload in suites.catalog().values()
    ]


@click.command(name="suites")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the workloads: what each measures, and its unit. Select them with `vprobe bench --select`."""
    if as_json:
        click.echo(json.dumps(rows(), indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("WORKLOAD", "KIND", "UNIT"):
        table.add_column(heading, no_wrap=True)
    table.add_column("WHAT IT MEASURES")
    for row in rows():
        table.add_row(row["name"].replace("[", r"\["), row["kind"], row["unit"], row["summary"].replace("[", r"\["))
    output_console().print(table)
