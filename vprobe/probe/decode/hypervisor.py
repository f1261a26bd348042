"""Which hypervisors this machine runs under, as what, and on whose platform.

The evidence is collected by vprobe.probe.decode.guest_evidence, in the order of its weight; this module concludes.
"""

from __future__ import annotations

from vprobe.probe.decode.acpi import AcpiEvidence, acpi_evidence
from vprobe.probe.decode.cpuid import HYPERVISOR, Cpuid
from vprobe.probe.decode.dmi import DmiEvidence, dmi_evidence
from vprobe.probe.decode.firmware import Keeper
from vprobe.probe.decode.flags import cpuinfo_fields
from vprobe.probe.decode.guest_evidence import Finding, Strength, kernel_findings, wsl_version
from vprobe.probe.decode.signatures import Signature, find_signatures, hyperv_partition, paravirtual_features
from vprobe.probe.facts import Fact
from vprobe.probe.raw import Raw
from vprobe.probe.record import Record
from vprobe.probe.tables import table
from vprobe.states import State

FACADE = "microsoft"
"""Hyper-V's leaves are what other hypervisors put in front of their own."""
EMULATED_VENDORS = {
    "VirtualApple": "Apple's Rosetta translates this program",
    "MicrosoftXTA": "Windows on Arm translates this program",
    "Virtual CPU ": "an emulator for single programs",
    "PowerVM Lx86": "IBM's PowerVM Lx86 translates this program",
    "Neko Project": "the Neko Project emulator",
    "Insignia 586": "the Insignia emulator",
    "ConnectixCPU": "Connectix Virtual PC",
    "Compaq FX!32": "Compaq FX!32 translates this program",
}
"""Makers' names in leaf 0 that no processor has."""
NAMED_SINCE_THE_FLAG = {"nopl", "xtopology", "aperfmperf", "cpuid"}
"""Flags of Linux 2.6.27 and later. A kernel that shows none of them is too old to have shown "hypervisor"."""
EMULATORS = {"qemu", "bochs"}
CLOUD_KINDS = {"amazon": "kvm", "google": "kvm"}
"""systemd's words for two clouds whose machines run on KVM: the cloud is the platform, KVM the kind."""


BORROWERS = {"oracle", "parallels", "vmware"}
"""They may answer with other hypervisors' signatures."""


class Layer(Record):
    """One layer between this machine and the hardware, or what one pretends to be."""

    kind: str
    virt_class: str
    signature: str | None = None
    base: str | None = None
    facade: bool = False


class Hypervisor(Record):
    """The hypervisor object of the document. `role` is guest, root (Hyper-V) or dom0 (Xen); None: not recorded."""

    fact: Fact
    kind: str | None
    role: str | None
    layers: tuple[Layer, ...]
    monitor: str | None
    platform: str | None
    paravirtual_features: tuple[str, ...]

    @property
    def keeper(self) -> Keeper | None:
        """For sentences about what masks a feature; None where there is no hypervisor."""
        if self.kind:
            paravirtual = self.layers[0].virt_class == "paravirtual"
            return Keeper(self.kind, self.role or "guest", paravirtual=paravirtual)
        return Keeper("", "", known=False) if self.fact.state is State.UNKNOWN else None


def decode_hypervisor(raw: Raw) -> Hypervisor:
    """Everything below this machine's kernel that is not hardware."""
    cpuid = Cpuid(raw.leaves)
    signatures = find_signatures(cpuid)
    flagged = _hypervisor_flag(raw, cpuid)
    dmi = dmi_evidence(raw, flagged=flagged or bool(signatures))
    acpi = acpi_evidence(raw)
    findings = kernel_findings(raw)
    kind = _conclude_kind(signatures, dmi, (*acpi.findings, *findings), flagged=flagged)
    layers = _layers(kind, signatures, findings)
    if kind == "microsoft" and (partition := hyperv_partition(cpuid, signatures)) and partition.nested:
        layers += (Layer("microsoft", "full-hardware"),)  # this Hyper-V says that it runs under another one
    evidence = _evidence(cpuid, signatures, flagged) + dmi.evidence + acpi.evidence
    evidence += tuple(finding.source for finding in findings)
    return Hypervisor(
        fact=_fact(
            _state(kind, flagged, dmi, findings), kind, flagged, acpi, without_leaves=_without_hypervisor_leaves(cpuid)
        ).replace(evidence=evidence),
        kind=kind,
        role=_role(kind, cpuid, signatures, findings),
        layers=layers,
        monitor=_monitor(kind, acpi.monitor, dmi) if kind else None,
        platform=dmi.platform or _platform_of_xen(raw, kind),
        paravirtual_features=paravirtual_features(cpuid, signatures),
    )


def _hypervisor_flag(raw: Raw, cpuid: Cpuid) -> bool | None:
    """CPUID.1:ECX[31], else the kernel's flag of that name; None where neither was recorded or it has no meaning."""
    if cpuid.get(1):
        return cpuid.has_hypervisor
    if wsl_version(raw) == 1:
        return False  # its /proc/cpuinfo shows Windows' processor, and WSL 1 is no virtual machine
    flags = set(cpuinfo_fields(raw).get("flags", "").split())  # x86's word; Arm's Features have no flag for a guest
    if "hypervisor" in flags:
        return True
    return False if flags & NAMED_SINCE_THE_FLAG else None


def _conclude_kind(
    signatures: tuple[Signature, ...], dmi: DmiEvidence, findings: tuple[Finding, ...], *, flagged: bool | None
) -> str | None:
    """The hypervisor that this machine really runs under. None: there is none, or nobody names it."""
    certain = next((finding.kind for finding in findings if finding.strength is Strength.CERTAIN), None)
    if certain:
        return certain
    if dmi.kind in BORROWERS:
        return dmi.kind
    known = [signature.kind for signature in signatures if signature.kind]
    real = [kind for kind in known if kind != FACADE]
    if real:
        return real[-1]
    named = _named_by_firmware(dmi, findings)
    if known:  # Hyper-V's leaves alone
        return FACADE if named in {None, "virtualpc"} else "kvm" if named in EMULATORS else named
    if named == "virtualpc" and flagged:
        return "microsoft"
    if named in EMULATORS:
        return _emulator_or_kvm(named, findings, flagged=flagged)
    if named:
        return named
    weak = next((finding.kind for finding in findings if finding.strength is Strength.WEAK), None)
    return weak or ("vm-other" if flagged or signatures or dmi.virtual else None)


def _emulator_or_kvm(named: str, findings: tuple[Finding, ...], *, flagged: bool | None) -> str:
    """QEMU's firmware is the same under KVM; its old BIOS called itself Bochs, which never sets the hypervisor flag."""
    kinds = [finding.kind for finding in findings]
    if "kvm" in kinds:
        return "kvm"
    if named == "bochs" and ("qemu" in kinds or flagged):
        return "qemu" if "qemu" in kinds else "kvm"
    return named


def _named_by_firmware(dmi: DmiEvidence, findings: tuple[Finding, ...]) -> str | None:
    named = dmi.kind or next((finding.kind for finding in findings if finding.strength is Strength.GOOD), None)
    return CLOUD_KINDS.get(named, named) if named else None


def _layers(kind: str | None, signatures: tuple[Signature, ...], findings: tuple[Finding, ...]) -> tuple[Layer, ...]:
    """The concluded hypervisor first, then every other one that the leaves or the kernel name."""
    layers: list[Layer] = []
    for signature in signatures:
        name = signature.kind or "vm-other"
        virt_class = signature.virt_class or "full-hardware"
        facade = name != kind and (name == FACADE or kind in BORROWERS)
        layers.append(Layer(name, virt_class, signature.text, f"{signature.base:#x}", facade))
    for finding in findings:
        if finding.stacked and finding.kind not in {layer.kind for layer in layers}:
            layers.append(Layer(finding.kind, class_of(finding.kind, findings)))
    if kind and kind not in {layer.kind for layer in layers}:
        layers.insert(0, Layer(kind, class_of(kind, findings)))
    layers.sort(key=lambda layer: layer.kind != kind)
    return tuple(layers)


def class_of(kind: str, findings: tuple[Finding, ...] = ()) -> str:
    """The taxonomy's class of a hypervisor; Xen's depends on the kind of guest."""
    for finding in findings:
        if finding.kind == kind and finding.virt_class:
            return finding.virt_class
    return str(table("hypervisor_evidence")["classes"].get(kind, "full-hardware"))


def _role(
    kind: str | None, cpuid: Cpuid, signatures: tuple[Signature, ...], findings: tuple[Finding, ...]
) -> str | None:
    if kind is None or (kind in {FACADE, "vm-other"} and _role_was_left_out(cpuid, signatures)):
        return None
    if any(finding.kind == kind and finding.role == "dom0" for finding in findings):
        return "dom0"
    partition = hyperv_partition(cpuid, signatures)
    if kind == "microsoft" and partition and partition.is_root:
        return "root"
    if kind == "acrn" and "service_vm" in paravirtual_features(cpuid, signatures):
        return "root"
    return "guest"


def _role_was_left_out(cpuid: Cpuid, signatures: tuple[Signature, ...]) -> bool:
    """A dump without the hypervisor's leaves, or without the one that tells Hyper-V's root partition from a guest."""
    if _without_hypervisor_leaves(cpuid):
        return True
    bases = [signature.base for signature in signatures if signature.kind == FACADE]
    return bool(bases) and all((base + PRIVILEGES_LEAF, 0) not in cpuid.leaves for base in bases)


def _without_hypervisor_leaves(cpuid: Cpuid) -> bool:
    """CPUID shows a hypervisor, but none of its leaves was recorded."""
    return cpuid.has_hypervisor and not any(leaf >> 28 == HYPERVISOR >> 28 for leaf, _ in cpuid.leaves)


PRIVILEGES_LEAF = 3
"""Hyper-V's leaf base+3: what this partition may do."""


def _monitor(kind: str, by_acpi: str | None, dmi: DmiEvidence) -> str | None:
    if kind in {"oracle", "vmware", "parallels", "bhyve"}:
        return dmi.monitor or by_acpi
    if kind == "lkvm":
        return "kvmtool"
    if dmi.monitor in {"bochs", "qemu"} and kind in {"kvm", "qemu", "xen"}:
        return by_acpi or "qemu"
    if kind == "microsoft":
        return by_acpi
    return by_acpi or dmi.monitor or ("qemu" if kind == "qemu" else None)


def _platform_of_xen(raw: Raw, kind: str | None) -> str | None:
    """Amazon's Xen gives its machines UUIDs that begin with ec2."""
    uuid = raw.text("/sys/hypervisor/uuid") or ""
    return "aws" if kind == "xen" and uuid.lower().startswith("ec2") else None


def _state(kind: str | None, flagged: bool | None, dmi: DmiEvidence, findings: tuple[Finding, ...]) -> State:
    if kind:
        return State.PRESENT
    if flagged is False or dmi.bare_metal or any(finding.strength is Strength.BARE_METAL for finding in findings):
        return State.ABSENT
    return State.UNKNOWN


def _fact(state: State, kind: str | None, flagged: bool | None, acpi: AcpiEvidence, *, without_leaves: bool) -> Fact:
    """The state in words. The monitor on top may be unknown although the hypervisor is not."""
    if kind == "vm-other":
        why = "its CPUID leaves were not recorded" if without_leaves else "its signature is not known"
        return Fact(state, f"a hypervisor is there, but {why}")
    if kind and acpi.refused:
        return Fact(state, f"who made the ACPI tables, and so the monitor, was not read: {acpi.refused}", "run as root")
    if kind:
        return Fact(state)
    if flagged is False:
        return Fact(state, "no hypervisor shows itself")
    return Fact(
        state, "neither CPUID nor another witness was recorded", "record CPUID with `vprobe probe --capture FILE`"
    )


def _evidence(cpuid: Cpuid, signatures: tuple[Signature, ...], flagged: bool | None) -> tuple[str, ...]:
    evidence = []
    if cpuid.get(1):
        evidence.append(f"CPUID 0x1 ECX[31] = {int(cpuid.has_hypervisor)}")
    elif flagged is not None:
        evidence.append(f"/proc/cpuinfo flag hypervisor = {int(flagged)}")
    if cpuid.vendor_text in EMULATED_VENDORS:
        evidence.append(f'CPUID vendor "{cpuid.vendor_text}": {EMULATED_VENDORS[cpuid.vendor_text]}')
    evidence += [f'CPUID {signature.base:#x}: "{signature.text}"' for signature in signatures]
    return tuple(evidence)
