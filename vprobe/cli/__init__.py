"""The command line: one file a verb. Each parses, calls and prints; application.py finds them.

This module loads nothing, because importing click takes longer than `vprobe probe --json` takes to answer.
"""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command `vprobe`; never returns."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["probe", "--json"]:
        from vprobe.cli import quick  # noqa: PLC0415 - the answer that scripts wait for

        quick.main()
    sys.exit(run(words))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    from vprobe.cli import application  # noqa: PLC0415 - loads click

    return application.run(arguments)
