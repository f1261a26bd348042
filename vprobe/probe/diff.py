"""What several hosts have in common: the baseline of CPU features that a VM may be given if it is to move among them."""

from __future__ import annotations

from collections.abc import Callable

from vprobe.probe.record import Record
from vprobe.probe.report import HostReport
from vprobe.states import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SCHEMA = "vprobe.diff/1"


class Difference(Record):
    """Features of all hosts, and those that some lack: feature -> names of the hosts without it.

    `unknown`: kind of feature -> names of the hosts on which it was not read; such features are not compared.
    """

    hosts: tuple[str, ...]
    common: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    unknown: dict[str, tuple[str, ...]]
    properties: dict[str, dict[str, Any]]

    @property
    def differ(self) -> bool:
        """Some host lacks a feature that another has."""
        return bool(self.missing)

    def document(self) -> dict[str, Any]:
        """Plain JSON types: schema vprobe.diff/1."""
        return {
            "schema": SCHEMA,
            "hosts": list(self.hosts),
            "common": list(self.common),
            "missing": {feature: list(hosts) for feature, hosts in self.missing.items()},
            "unknown": {kind: list(hosts) for kind, hosts in self.unknown.items()},
            "properties": self.properties,
        }


def compare_hosts(reports: dict[str, HostReport]) -> Difference:
    """Features by host: flags, VT-x controls that may be 1, VT-x fields, AMD-V and SEV features."""
    unknown = {
        kind: lacking
        for kind, is_read in READ.items()
        if (lacking := tuple(name for name, report in reports.items() if not is_read(report)))
    }
    kinds = [kind for kind in READ if kind not in unknown]
    features = {name: _features(report, kinds) for name, report in reports.items()}
    everything = dict.fromkeys(feature for own in features.values() for feature in own)
    missing = {
        feature: lacking
        for feature in everything
        if (lacking := tuple(name for name, own in features.items() if feature not in own))
    }
    return Difference(
        hosts=tuple(reports),
        common=tuple(feature for feature in everything if feature not in missing),
        missing=missing,
        unknown=unknown,
        properties=_properties(reports),
    )


def _read_vtx(report: HostReport) -> bool:
    """The controls were read, or there can be none."""
    return bool(report.vtx.capabilities.controls) or report.vtx.fact.state not in {State.PRESENT, State.UNKNOWN}


def _read_amdv(report: HostReport) -> bool:
    return bool(report.amdv.features) or report.amdv.fact.state not in {State.PRESENT, State.UNKNOWN}


def _read_sev(report: HostReport) -> bool:
    return bool(report.sev.features) or report.sev.fact.state not in {State.PRESENT, State.UNKNOWN}


READ: dict[str, Callable[[HostReport], bool]] = {
    "flags": lambda report: bool(report.cpu.flags),
    "vtx": _read_vtx,
    "amdv": _read_amdv,
    "sev": _read_sev,
}
"""Kind of feature -> was it read on this host? What was not read, is not missing."""


def _features(report: HostReport, kinds: list[str]) -> dict[str, None]:
    """Features of these kinds that every CPU of one host has: what only some of its cores have, it does not have."""
    from vprobe.probe.decode.cpuid import Cpuid  # noqa: PLC0415
    from vprobe.probe.decode.flags import cpuid_flags  # noqa: PLC0415

    flags = dict.fromkeys(report.cpu.flags)
    for leaves in report.raw.cpuid.values():
        own = set(cpuid_flags(Cpuid(leaves)))
        flags = {flag: None for flag in flags if flag in own}
    controls = report.vtx.capabilities.controls
    found = {
        "flags": list(flags),
        "vtx": [f"vtx:{name}" for name, control in controls.items() if control["may_be_1"]],
        "amdv": [f"amdv:{name}" for name, present in report.amdv.features.items() if present],
        "sev": [f"sev:{name}" for name, present in report.sev.features.items() if present],
    }
    return dict.fromkeys(feature for kind in kinds for feature in found[kind])


def _properties(reports: dict[str, HostReport]) -> dict[str, dict[str, Any]]:
    """What is not a feature, but is worth seeing beside them, where it differs."""
    rows = {
        name: {
            "vendor": report.cpu.vendor,
            "brand": report.cpu.brand,
            "family, model, stepping": f"{report.cpu.family}, {report.cpu.model}, {report.cpu.stepping}",
            "microcode": report.cpu.microcode,
            "physical address bits": report.cpu.physical_bits,
            "virtual address bits": report.cpu.virtual_bits,
            "source of the VT-x controls": report.vtx.source,  # KVM's is a filtered view of the processor's
        }
        for name, report in reports.items()
    }
    names = next(iter(rows.values()), {})
    columns = {name: {host: row[name] for host, row in rows.items()} for name in names}
    return {name: values for name, values in columns.items() if len(set(values.values())) > 1}
