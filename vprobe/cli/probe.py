"""`vprobe probe`: what is this machine, and can it virtualize?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from vprobe.cli.document import print_json
from vprobe.errors import ExitCode, InvalidFileError, UsageError
from vprobe.probe import probe_host
from vprobe.probe.report import HostReport


@click.command(short_help="Say what this machine is and whether it can virtualize.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema vprobe.probe/1).")
@click.option("--all", "everything", is_flag=True, help="Every decoded CPUID leaf, MSR field and control.")
@click.option("--raw", "raw_text", is_flag=True, help="Every CPUID leaf of every CPU, in the format of cpuid -r.")
@click.option("--capture", metavar="FILE", help="Write everything that was read as one JSON file, for --from.")
@click.option("--with-identifiers", is_flag=True, help="Keep serial numbers, UUIDs, MAC addresses, host names in it.")
@click.option(
    "--from",
    "file",
    metavar="FILE",
    help="Decode a capture, cpuid -r text or an AIDA64 / InstLatX64 dump instead; - reads it from a pipe.",
)
@click.option("--sysroot", metavar="DIR", help="Read /proc, /sys, /run and markers below DIR; CPUID only with --from.")
@click.option("--diff", is_flag=True, help="Compare the features of the FILEs; exit code 1 if they differ.")
@click.argument("files", nargs=-1, metavar="[FILE]...")
def command(
    as_json: bool,
    everything: bool,
    raw_text: bool,
    capture: str | None,
    with_identifiers: bool,
    file: str | None,
    sysroot: str | None,
    diff: bool,
    files: tuple[str, ...],
) -> int:
    """Say what this machine is and whether it can virtualize.

    Where it cannot, the reason and the remedy are given. What could not be read is unknown, never absent.
    """
    _refuse_contradictions(
        diff=diff, files=files, recorded=bool(file or sysroot), capture=capture, identifiers=with_identifiers
    )
    if diff:
        return _print_diff(files, as_json=as_json)
    report = read_report(file, sysroot, with_identifiers=with_identifiers)
    if capture is not None:
        return _write_capture(report, capture, with_identifiers=with_identifiers)
    _print_report(report, as_json=as_json, everything=everything, raw_text=raw_text)
    return ExitCode.PASS


def _refuse_contradictions(
    *, diff: bool, files: tuple[str, ...], recorded: bool, capture: str | None, identifiers: bool
) -> None:
    if files and not diff:
        raise UsageError(
            f"unexpected argument {files[0]!r}", "use --from FILE to decode a file, --diff A B to compare files"
        )
    if diff and len(files) < 2:
        raise UsageError("--diff compares two files or more", "name captures made with `vprobe probe --capture FILE`")
    if capture is not None and recorded:
        raise UsageError("--capture records this machine, not a record", "leave --from and --sysroot out")
    if identifiers and capture is None:
        raise UsageError("--with-identifiers belongs to --capture", "add --capture FILE")


def read_report(file: str | None, sysroot: str | None, *, with_identifiers: bool = False) -> HostReport:
    """The report on this machine, or on what was recorded of another. Notes on what was left out go to stderr."""
    if file is None and sysroot is None:
        return probe_host(with_identifiers=with_identifiers)
    from vprobe.probe.report import decode  # noqa: PLC0415
    from vprobe.probe.sources.combined import read_recorded  # noqa: PLC0415 - not for the live machine

    raw, notes = read_recorded(file, sysroot)
    for note in notes:
        click.echo(f"vprobe: {note!a}"[:200], err=True)
    return decode(raw)


def _print_report(report: HostReport, *, as_json: bool, everything: bool, raw_text: bool) -> None:
    if raw_text:
        from vprobe.probe.sources.text import format_cpuid  # noqa: PLC0415

        sys.stdout.write(format_cpuid(report.raw))
    elif as_json:
        print_json(report.document() | ({"details": report.details()} if everything else {}))
    elif everything:
        from vprobe.cli.probe_details import print_details  # noqa: PLC0415 - rich is not loaded for --json

        print_details(report)
    else:
        from vprobe.cli.probe_screen import print_screen  # noqa: PLC0415

        print_screen(report)


def _write_capture(report: HostReport, path: str, *, with_identifiers: bool) -> int:
    from vprobe.probe.sources.capture import encode_capture  # noqa: PLC0415

    content = encode_capture(report.raw, with_identifiers=with_identifiers)
    try:
        if path == "-":
            sys.stdout.write(content.decode())
        else:
            Path(path).write_bytes(content)
    except OSError as error:
        raise InvalidFileError(f"{path}: {error.strerror}", "name a file that can be written") from None
    if path != "-":
        click.echo(f"vprobe: {len(content)} bytes in {path}; decode them with `vprobe probe --from {path}`", err=True)
    return ExitCode.PASS


def _print_diff(files: tuple[str, ...], *, as_json: bool) -> int:
    from vprobe.probe.diff import compare_hosts  # noqa: PLC0415

    names = _names(files)
    difference = compare_hosts({name: read_report(path, None) for name, path in zip(names, files, strict=True)})
    if as_json:
        print_json(difference.document())
    else:
        from vprobe.cli.probe_details import print_difference  # noqa: PLC0415

        print_difference(difference)
    if difference.differ:
        return ExitCode.FAIL
    return ExitCode.INCONCLUSIVE if difference.unknown else ExitCode.PASS


def _names(files: tuple[str, ...]) -> list[str]:
    """Short names of the hosts: the files' own, whole paths where these are not distinct."""
    short = [os.path.basename(path) for path in files]  # noqa: PTH119
    if len(set(short)) == len(files):
        return short
    return [path if files.count(path) == 1 else f"{path} ({number})" for number, path in enumerate(files, 1)]
