"""The one screen of `vprobe probe`: a table that fits the terminal, coloured only there."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from vprobe.probe.facts import Fact
from vprobe.probe.report import HostReport
from vprobe.states import State

STYLES = {
    State.PRESENT: "green",
    State.ABSENT: "dim",
    State.HIDDEN: "yellow",
    State.DISABLED: "red",
    State.UNKNOWN: "magenta",
}
LABEL_WIDTH = 14
NOTABLE_AMDV = ("npt", "nrip_save", "flushbyasid", "decodeassists", "avic", "x2avic", "vgif", "v_vmsave_vmload", "vnmi")
NOTABLE_VTX = (
    ("EPT", "PROCBASED_CTLS2", "ept"),
    ("VPID", "PROCBASED_CTLS2", "vpid"),
    ("unrestricted guest", "PROCBASED_CTLS2", "unrestricted_guest"),
    ("posted interrupts", "PINBASED_CTLS", "posted_interrupts"),
    ("VMCS shadowing", "PROCBASED_CTLS2", "vmcs_shadowing"),
    ("PML", "PROCBASED_CTLS2", "pml"),
    ("APICv", "PROCBASED_CTLS2", "virt_intr_delivery"),
    ("TSC scaling", "PROCBASED_CTLS2", "tsc_scaling"),
)


def printable(text: object) -> str:
    """Text of the machine with control characters made visible, so that it cannot drive the terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in str(text))


def console(*, wrap: bool = True) -> Console:
    """Standard output: coloured on a terminal that NO_COLOR does not forbid; a pipe gets lines of any length unbroken."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a brand name may hold what the locale's encoding cannot
    output = Console(highlight=False, soft_wrap=not wrap)
    if not output.is_terminal and wrap:
        output = Console(highlight=False, width=max(output.width, 100))
    return output


def print_screen(report: HostReport) -> None:
    """Print to standard output."""
    output = console()
    for subject, text in _rows(report):
        lines = text.wrap(output, max(output.width - LABEL_WIDTH, 20))
        for number, line in enumerate(lines):
            line.rstrip()
            label = f"{subject if number == 0 else '':{LABEL_WIDTH}}"
            output.print(Text.assemble((label, "bold"), line), soft_wrap=True)


def _rows(report: HostReport) -> list[tuple[str, Text]]:
    rows = [("CPU", _cpu(report))]
    rows.append(("VT-x", _with_notes(report.vtx.fact, _notable_vtx(report))))
    rows.append(("AMD-V", _with_notes(report.amdv.fact, _notable_amdv(report))))
    rows += [("runs under", _hypervisor(report)), ("container", _container(report)), ("KVM", _kvm(report))]
    rows.append(("SEV", _state(report.sev.fact)))
    rows.append(("TDX", _state(report.tdx)))
    rows.append(("SGX", _state(report.sgx)))
    confidential = f"this machine is a {report.confidential.kind} guest" if report.confidential.kind else ""
    rows.append(("confidential", _with_notes(report.confidential.fact, confidential)))
    rows.append(("IOMMU", _with_notes(report.iommu.fact, report.iommu.kind or "")))
    rows.append(("mitigations", _mitigations(report)))
    return rows


def _state(fact: Fact) -> Text:
    text = Text.assemble((fact.state.value, STYLES[fact.state]))
    if fact.reason:
        text.append(f": {printable(fact.reason)}")
    if fact.remedy and fact.state is not State.PRESENT:
        text.append(f"\n-> {printable(fact.remedy)}")
    return text


def _with_notes(fact: Fact, notes: str) -> Text:
    text = _state(fact)
    if notes:
        text.append(f"\n{printable(notes)}")
    return text


def _cpu(report: HostReport) -> Text:
    cpu = report.cpu
    lines = [
        " ".join(
            printable(part) for part in (cpu.brand or cpu.vendor or "unknown processor", cpu.architecture or "") if part
        )
    ]
    numbers = (("family", cpu.family), ("model", cpu.model), ("stepping", cpu.stepping))
    named = " ".join(f"{name} {number}" for name, number in numbers if number is not None)
    details = [named] if named else []
    details += [f"{_count(cpu.logical_cpus, 'logical CPU')}{_packages(cpu.topology)}"] if cpu.logical_cpus else []
    details += [f"microcode {printable(cpu.microcode)}"] if cpu.microcode else []
    lines.append(", ".join(details))
    caches = [
        f"L{cache.level}{cache.type[0] if cache.level == 1 else ''} {_size(cache.size_bytes)}" for cache in cpu.caches
    ]
    lines.append(", ".join(caches))
    if report.inconsistent_cpus:
        lines.append(f"its CPUs differ in {len(report.inconsistent_cpus)} leaves or MSRs: see --all")
    return Text("\n".join(line for line in lines if line))


def _packages(topology: dict[str, Any]) -> str:
    """Packages, cores and kinds of core, where there is more than one."""
    parts = [_count(topology[name], name[:-1]) for name in ("packages", "cores") if topology.get(name)]
    parts += [f"{count} threads of {kind} cores" for kind, count in topology.get("core_kinds", {}).items()]
    return f" ({', '.join(parts)})" if parts else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _size(size_bytes: int) -> str:
    return (
        f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 and not size_bytes % (1 << 20) else f"{size_bytes >> 10} KiB"
    )


def _hypervisor(report: HostReport) -> Text:
    hypervisor = report.hypervisor
    if hypervisor.kind is None:
        return _state(hypervisor.fact)
    layers = " > ".join(
        f"{layer.kind} ({layer.virt_class}{', facade' if layer.facade else ''})" for layer in hypervisor.layers
    )
    notes = [
        f"{name} {value}"
        for name, value in (("monitor", hypervisor.monitor), ("platform", hypervisor.platform))
        if value
    ]
    if hypervisor.role != "guest":
        notes.insert(0, f"this is its {hypervisor.role}" if hypervisor.role else "as guest or as root: not recorded")
    text = Text(printable(", ".join([layers, *notes])))
    if hypervisor.fact.reason:
        remedy = f" -> {hypervisor.fact.remedy}" if hypervisor.fact.remedy else ""
        text.append(f"\n{printable(hypervisor.fact.reason)}{printable(remedy)}")
    return text


def _container(report: HostReport) -> Text:
    container = report.container
    text = Text(printable(container.kind or container.fact.state.value))
    if container.fact.reason:
        text.append(f": {printable(container.fact.reason)}")
    return text


def _kvm(report: HostReport) -> Text:
    kvm = report.kvm
    word = {True: "usable", False: "not usable", None: "unknown"}[kvm.usable]
    text = Text.assemble((word, STYLES[kvm.fact.state]))
    text.append(f": {printable(kvm.fact.reason)}")
    if kvm.fact.remedy:
        text.append(f"\n-> {printable(kvm.fact.remedy)}")
    text.append(f"\nnested: {kvm.nested.state.value}: {printable(kvm.nested.reason)}")
    return text


def _notable_vtx(report: HostReport) -> str:
    if report.vtx.source == "cpuinfo":
        return " ".join(report.vtx.kernel_flags)
    notable = ", ".join(label for label, msr, control in NOTABLE_VTX if report.vtx.control(msr, control))
    return f"{notable} (as KVM shows it to guests)" if notable and report.vtx.source == "kvm" else notable


def _notable_amdv(report: HostReport) -> str:
    return ", ".join(name for name in NOTABLE_AMDV if report.amdv.features.get(name))


def _mitigations(report: HostReport) -> Text:
    vulnerable = [name for name, text in report.mitigations.items() if text.startswith("Vulnerable")]
    if not report.mitigations:
        return Text.assemble(("unknown", STYLES[State.UNKNOWN]))
    text = Text(f"{len(report.mitigations)} known to the kernel")
    if vulnerable:
        text.append(f", vulnerable: {printable(', '.join(vulnerable))}", style="red")
    return text
