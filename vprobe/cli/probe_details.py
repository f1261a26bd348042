"""The long outputs of `vprobe probe`: everything that was decoded (--all), and what hosts have in common (--diff)."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from vprobe.cli.probe_screen import console, print_screen, printable
from vprobe.probe.decode.cpuid import Cpuid
from vprobe.probe.decode.leaves import REGISTER_NAMES, DecodedLeaf, decode_leaves
from vprobe.probe.diff import Difference
from vprobe.probe.raw import Unread
from vprobe.probe.report import HostReport


def print_details(report: HostReport) -> None:
    """The screen, then every leaf, MSR, control, field and piece of evidence."""
    print_screen(report)
    output = console(wrap=False)
    _print_flags(report, output)
    for cpu, leaves in list(report.raw.cpuid.items())[:1]:
        _title(output, f"CPUID of CPU {cpu}" + (" (--raw has the others)" if len(report.raw.cpuid) > 1 else ""))
        for leaf in decode_leaves(Cpuid(leaves)):
            _print_leaf(leaf, output)
    _print_differences(report, output)
    _print_msrs(report, output)
    _print_controls(report, output)
    _print_features(report, output)
    _print_evidence(report, output)


def _title(output: Console, text: str) -> None:
    output.print(f"\n{text}", style="bold", markup=False)


def _line(output: Console, text: str) -> None:
    output.print(f"  {printable(text)}", markup=False)


def _words(output: Console, words: Iterable[str]) -> None:
    """Many words: wrapped on a terminal, in one line elsewhere."""
    output.print("  " + printable(" ".join(words)), markup=False, soft_wrap=not output.is_terminal)


def _print_flags(report: HostReport, output: Console) -> None:
    _title(output, f"Flags ({len(report.cpu.flags)})")
    _words(output, report.cpu.flags)


def _print_leaf(leaf: DecodedLeaf, output: Console) -> None:
    registers = " ".join(f"{name}={value:08x}" for name, value in zip(REGISTER_NAMES, leaf.registers, strict=True))
    _line(
        output,
        f"{leaf.leaf:08x}.{leaf.subleaf:02x} {registers}  {leaf.name}"
        + ("" if leaf.decoded else " (out of range, not decoded)"),
    )
    if leaf.text:
        _line(output, f'    "{leaf.text}"')
    if leaf.fields and any(leaf.registers):
        _line(output, "    " + ", ".join(f"{name} {value}" for name, value in leaf.fields.items()))
    if leaf.flags:
        _line(output, "    " + " ".join(leaf.flags))
    for register, bits in leaf.unknown_bits.items():
        _line(output, f"    unknown bits set: {register.upper()}[{','.join(str(bit) for bit in bits)}]")


def _print_differences(report: HostReport, output: Console) -> None:
    if report.inconsistent_cpus:
        _title(output, "CPUs that differ")
    for difference in report.inconsistent_cpus:
        for cpus, value in difference["values"].items():
            _line(output, f"{difference['what']}  CPU {cpus}: {value}")


def _print_msrs(report: HostReport, output: Console) -> None:
    for cpu, values in list(report.raw.msrs.items())[:1]:
        _title(output, f"MSRs of CPU {cpu}")
        failed: dict[str, list[str]] = {}
        for index, value in values.items():
            if isinstance(value, Unread):
                failed.setdefault(value.name, []).append(f"{index:08x}")
            else:
                _line(output, f"{index:08x} {value:016x}")
        for name, indexes in failed.items():
            _line(output, f"not read ({name}): {' '.join(indexes)}")


def _print_controls(report: HostReport, output: Console) -> None:
    capabilities = report.vtx.capabilities
    if capabilities.controls or capabilities.fields:
        _title(output, f"VT-x controls and fields (source: {report.vtx.source})")
    words = {(False, False): "no", (True, False): "may be 1", (True, True): "must be 1", (False, True): "contradictory"}
    for name, control in capabilities.controls.items():
        _line(output, f"{name}: {words[control['may_be_1'], control['must_be_1']]}")
    for name, value in capabilities.fields.items():
        _line(output, f"{name}: {value}" + (f" ({value:#x})" if value > 9 else ""))
    for name, bits in capabilities.unknown_bits.items():
        _line(output, f"{name}: unknown bits set: {','.join(str(bit) for bit in bits)}")


def _print_features(report: HostReport, output: Console) -> None:
    amdv = report.amdv
    if amdv.revision is not None:
        _title(output, f"AMD-V revision {amdv.revision}, {amdv.asids} ASIDs")
        for name, present in amdv.features.items():
            _line(output, f"{name}: {'yes' if present else 'no'}")
    if report.sev.features:
        _title(output, "Memory encryption")
        for name, present in report.sev.features.items():
            _line(output, f"{name}: {'yes' if present else 'no'}")
    for name, bits in {**amdv.unknown_bits, **report.sev.unknown_bits}.items():
        _line(output, f"{name}: unknown bits set: {','.join(str(bit) for bit in bits)}")
    if report.hypervisor.paravirtual_features:
        _title(output, "Paravirtual features")
        _line(output, " ".join(report.hypervisor.paravirtual_features))


def _print_evidence(report: HostReport, output: Console) -> None:
    _title(output, "Evidence")
    facts = {
        "VT-x": report.vtx.fact,
        "AMD-V": report.amdv.fact,
        "SEV": report.sev.fact,
        "TDX": report.tdx,
        "SGX": report.sgx,
        "IOMMU": report.iommu.fact,
        "hypervisor": report.hypervisor.fact,
        "container": report.container.fact,
        "confidential": report.confidential.fact,
        "KVM": report.kvm.fact,
        "nested": report.kvm.nested,
    }
    for name, fact in facts.items():
        for line in fact.evidence:
            _line(output, f"{name}: {line}")
    for name, text in report.mitigations.items():
        _line(output, f"mitigation {name}: {text}")


def print_difference(difference: Difference) -> None:
    """The common baseline, and who lacks what: one paragraph for each group of hosts that lack the same."""
    output = console(wrap=False)
    output.print(f"{len(difference.common)} features are common to all {len(difference.hosts)} hosts", markup=False)
    if not difference.missing:
        output.print("no host lacks a feature that another has", markup=False)
    by_hosts: dict[tuple[str, ...], list[str]] = {}
    for feature, hosts in difference.missing.items():
        by_hosts.setdefault(hosts, []).append(feature)
    for hosts, features in by_hosts.items():
        _title(output, f"{len(features)} missing on {printable(', '.join(hosts))}")
        _words(output, features)
    if difference.properties:
        _title(output, "Other differences")
    for name, values in difference.properties.items():
        _line(output, f"{name}: " + "; ".join(f"{host}: {value}" for host, value in values.items()))
    for kind, hosts in difference.unknown.items():
        _title(output, f"Not compared: {DIFFERENCE_KINDS[kind]}, not read on {printable(', '.join(hosts))}")


DIFFERENCE_KINDS = {
    "flags": "the processor's flags",
    "vtx": "VT-x controls",
    "amdv": "AMD-V features",
    "sev": "SEV features",
}
