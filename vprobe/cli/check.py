"""`vprobe check NAME…`: single facts with an exit code, for scripts."""

from __future__ import annotations

import click

from vprobe.cli.document import print_json
from vprobe.cli.probe import read_report
from vprobe.cli.probe_screen import console, printable
from vprobe.errors import ExitCode, UsageError
from vprobe.probe.checks import CHECKS, SCHEMA, Check, Result, run_checks

GLYPHS = {Result.PASS: "green", Result.FAIL: "red", Result.UNKNOWN: "magenta"}


@click.command(short_help="Check single facts with an exit code, for scripts.")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema vprobe.check/1).")
@click.option("--from", "file", metavar="FILE", help="Check a capture or a CPUID dump instead of this machine.")
@click.option("--sysroot", metavar="DIR", help="Check the /proc and /sys that were recorded below DIR.")
def command(names: tuple[str, ...], as_json: bool, file: str | None, sysroot: str | None) -> int:
    """Check single facts of this machine, one line each.

    \b
    NAME is one or more of:
      kvm nested        KVM can be used here; its guests can virtualize in turn
      vtx ept           Intel's VT-x; extended page tables
      amdv npt          AMD-V; nested paging
      iommu             the kernel uses an IOMMU
      sev sev-snp tdx   confidential computing
      sgx               enclaves
      guest bare-metal  this machine is a virtual machine; is none
      container         this process is in a container

    Exit code: 0 all pass, 1 one fails, 3 none fails but one is unknown, 2 usage.
    """
    if not names:
        raise UsageError("no check was named", "name one or more of " + ", ".join(CHECKS))
    for name in names:
        if name not in CHECKS:
            raise UsageError(f"no check is named {printable(name)[:60]}", "name one or more of " + ", ".join(CHECKS))
    checks = run_checks(read_report(file, sysroot), names)
    if as_json:
        print_json({"schema": SCHEMA, "checks": [check.document() for check in checks]})
    else:
        _print_lines(checks)
    return exit_code(checks)


def exit_code(checks: tuple[Check, ...]) -> int:
    """Fail before unknown before pass."""
    results = {check.result for check in checks}
    if Result.FAIL in results:
        return ExitCode.FAIL
    return ExitCode.INCONCLUSIVE if Result.UNKNOWN in results else ExitCode.PASS


def _print_lines(checks: tuple[Check, ...]) -> None:
    output = console(wrap=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        remedy = f" -> {printable(check.remedy)}" if check.remedy else ""
        output.print(f"{check.name:{width}}  ", end="")
        output.print(f"{check.result.value:7}", style=GLYPHS[check.result], end="")
        output.print(f"  {printable(check.reason)}{remedy}", markup=False)
