"""Single questions with one answer each, for CI jobs and provisioning scripts: `vprobe check NAME…`."""

from __future__ import annotations

from collections.abc import Callable

from vprobe.probe.facts import Fact
from vprobe.probe.record import Record
from vprobe.probe.report import HostReport
from vprobe.states import State, StrEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SCHEMA = "vprobe.check/1"


class Result(StrEnum):
    """What a check says. Unknown is never reported as fail."""

    PASS = "pass"  # noqa: S105 - the word of the contract, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Check(Record):
    """One answered question."""

    name: str
    result: Result
    reason: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "result": self.result.value,
            "reason": self.reason or None,
            "remedy": self.remedy or None,
        }


def run_checks(report: HostReport, names: tuple[str, ...]) -> tuple[Check, ...]:
    """The answers in the order of the names. KeyError for a name that is not in CHECKS."""
    return tuple(CHECKS[name](name, report) for name in names)


def _by_state(name: str, fact: Fact) -> Check:
    results = {State.PRESENT: Result.PASS, State.UNKNOWN: Result.UNKNOWN}
    return Check(name, results.get(fact.state, Result.FAIL), fact.reason or fact.state.value, fact.remedy)


def _by_answer(name: str, answer: bool | None, yes: str, no: str, remedy: str = "") -> Check:
    if answer is None:
        return Check(name, Result.UNKNOWN, f"not read: {no}", remedy)
    return Check(name, Result.PASS if answer else Result.FAIL, yes if answer else no)


def _kvm(name: str, report: HostReport) -> Check:
    results = {True: Result.PASS, False: Result.FAIL, None: Result.UNKNOWN}
    return Check(name, results[report.kvm.usable], report.kvm.fact.reason, report.kvm.fact.remedy)


def _paging(name: str, technology: Fact, answer: bool | None, no: str) -> Check:
    """Nested paging rests on its technology: where that is not there, its reason is the answer."""
    if technology.state is not State.PRESENT:
        return _by_state(name, technology)
    return _by_answer(name, answer, "present", no, technology.remedy)


def _ept(name: str, report: HostReport) -> Check:
    return _paging(name, report.vtx.fact, report.vtx.ept, "the secondary controls do not allow EPT")


def _npt(name: str, report: HostReport) -> Check:
    return _paging(name, report.amdv.fact, report.amdv.npt, "CPUID 0x8000000a EDX[0] is clear")


def _sev_snp(name: str, report: HostReport) -> Check:
    if report.sev.fact.state is not State.PRESENT:
        return _by_state(name, report.sev.fact)
    return _by_answer(name, report.sev.features.get("sev_snp"), "present", "CPUID 0x8000001f EAX[4] is clear")


def _guest(name: str, report: HostReport) -> Check:
    hypervisor = report.hypervisor
    if hypervisor.kind is None:
        return _by_state(name, hypervisor.fact)
    if hypervisor.role is None:
        reason = f"runs under {hypervisor.kind}, but it was not recorded whether as its guest or as its root"
        return Check(name, Result.UNKNOWN, reason, "record CPUID with `vprobe probe --capture FILE`")
    if hypervisor.role != "guest":
        return Check(name, Result.FAIL, f"this is the {hypervisor.role} of {hypervisor.kind}, not a guest")
    return Check(name, Result.PASS, f"runs under {hypervisor.kind}")


def _bare_metal(name: str, report: HostReport) -> Check:
    fact = report.hypervisor.fact
    if fact.state is State.ABSENT:
        return Check(name, Result.PASS, fact.reason)
    if fact.state is State.UNKNOWN:
        return Check(name, Result.UNKNOWN, fact.reason, fact.remedy)
    role = f" as its {report.hypervisor.role}" if report.hypervisor.role not in {"guest", None} else ""
    return Check(name, Result.FAIL, f"runs under {report.hypervisor.kind}{role}")


def _container(name: str, report: HostReport) -> Check:
    fact = report.container.fact
    reason = f"in a container: {report.container.kind}" if fact.state is State.PRESENT else fact.reason
    return _by_state(name, fact.replace(reason=reason))


CHECKS: dict[str, Callable[[str, HostReport], Check]] = {
    "kvm": _kvm,
    "vtx": lambda name, report: _by_state(name, report.vtx.fact),
    "amdv": lambda name, report: _by_state(name, report.amdv.fact),
    "ept": _ept,
    "npt": _npt,
    "nested": lambda name, report: _by_state(name, report.kvm.nested),
    "iommu": lambda name, report: _by_state(name, report.iommu.fact),
    "sev": lambda name, report: _by_state(name, report.sev.fact),
    "sev-snp": _sev_snp,
    "tdx": lambda name, report: _by_state(name, report.tdx),
    "sgx": lambda name, report: _by_state(name, report.sgx),
    "guest": _guest,
    "bare-metal": _bare_metal,
    "container": _container,
}
