"""AMD-V: revision, address-space identifiers, every feature bit, and what VM_CR says (AMD APM vol. 2, 15.4 and 15.30)."""

from __future__ import annotations

from vprobe.probe.decode.cpuid import EAX, EBX, ECX, EDX, Vendor
from vprobe.probe.decode.firmware import Lock, Technology, technology_state
from vprobe.probe.decode.flags import kernel_flags
from vprobe.probe.decode.subject import Subject, cleared_by, unread_remedy
from vprobe.probe.facts import Fact
from vprobe.probe.raw import Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import table

LEAF = 0x8000000A
VM_CR = 0xC0010114
SVML = 2
"""EDX bit of the leaf: a lock can be opened again with SVM_KEY."""


class Amdv(Record):
    """The amdv object of the document. None and empty: the leaf does not apply, or was not recorded."""

    fact: Fact
    revision: int | None
    asids: int | None
    features: dict[str, bool]
    unknown_bits: dict[str, list[int]]
    vm_cr: dict[str, bool] | None

    @property
    def npt(self) -> bool | None:
        """Nested paging; None: not known."""
        return self.features.get("npt")


def decode_amdv(subject: Subject) -> Amdv:
    """AMD-V on this machine."""
    vm_cr = subject.raw.msr(VM_CR)
    technology = Technology(
        name="AMD-V",
        flag=subject.flag("svm"),
        applies=subject.is_x86 is not False and subject.vendor in {Vendor.AMD, Vendor.OTHER, None},
        lock=_lock(subject, vm_cr),
        keeper=subject.keeper,
        known_model=subject.known_model("amdv"),
        kvm_works=subject.kvm_works,
        witness=subject.witness,
        evidence=_evidence(subject, vm_cr),
    )
    registers = subject.cpuid.get(LEAF) if subject.vendor is Vendor.AMD and subject.cpuid.has_svm else None
    features: dict[str, bool] = {}
    unknown: dict[str, list[int]] = {}
    if registers:
        rows = table("svm_features")
        for name, register in (("ecx", ECX), ("edx", EDX)):
            features |= decode_bits(rows[name], registers[register])
            note_unknown(unknown, f"8000000A.{name.upper()}", rows[name], registers[register])
        note_unknown(unknown, "8000000A.EAX", [{"bit": bit, "id": "revision"} for bit in range(8)], registers[EAX])
    return Amdv(
        fact=technology_state(technology),
        revision=registers[EAX] & 0xFF if registers else None,
        asids=registers[EBX] if registers else None,
        features=features,
        unknown_bits=unknown,
        vm_cr=decode_vm_cr(vm_cr) if isinstance(vm_cr, int) else None,
    )


def decode_bits(rows: list[dict[str, object]], value: int) -> dict[str, bool]:
    """id -> set, for every row that has a name."""
    return {
        str(row["id"]): bool(value >> int(str(row["bit"])) & 1)
        for row in rows
        if "id" in row and "bit" in row and not str(row["id"]).startswith("reserved_")
    }


def note_unknown(unknown: dict[str, list[int]], name: str, rows: list[dict[str, object]], value: int) -> None:
    """Set bits without a row that names them."""
    named = {int(str(row["bit"])) for row in rows if "bit" in row and not str(row.get("id")).startswith("reserved_")}
    bits = [bit for bit in range(32) if value >> bit & 1 and bit not in named]
    if bits:
        unknown[name] = bits


def decode_vm_cr(value: int) -> dict[str, bool]:
    """VM_CR's fields by id."""
    return {field["id"]: bool(value >> field["bit"] & 1) for field in table("svm_features")["vm_cr"]["fields"]}


def _lock(subject: Subject, value: int | Unread) -> Lock:
    if isinstance(value, Unread):
        why = "not recorded" if value.errno == 0 else f"MSR 0xc0010114: {value.name}"
        return Lock(None, why, unread_remedy(value, subject.raw.effective_uid))
    bits = decode_vm_cr(value)
    if not bits["svmdis"]:
        return Lock(True, "VM_CR does not disable SVM")
    firmware = "enable SVM in the firmware set-up, then switch the machine off and on"
    if not bits["lock"]:
        return Lock(False, "VM_CR.SVMDIS is set but not locked", firmware)
    key = subject.cpuid.register(LEAF, EDX) >> SVML & 1
    reason = "firmware disabled SVM and locked it" + (" with a key" if key else "")
    return Lock(False, reason, firmware)


def _evidence(subject: Subject, vm_cr: int | Unread) -> tuple[str, ...]:
    evidence = []
    if subject.cpuid.get(0x80000001):
        evidence.append(f"CPUID 0x80000001 ECX[2] = {int(subject.cpuid.has_svm)}")
        kernel = kernel_flags(subject.raw)
        if kernel and subject.cpuid.has_svm and "svm" not in kernel:
            evidence.append(f"/proc/cpuinfo has no svm flag: {cleared_by(subject, 'SVM')}")
    elif subject.cpu.flags:
        evidence.append(f"/proc/cpuinfo flag svm = {int('svm' in subject.cpu.flags)}")
    if isinstance(vm_cr, int):
        evidence.append(f"MSR 0xc0010114 = {vm_cr:#x}")
    elif vm_cr.errno:
        evidence.append(f"MSR 0xc0010114: {vm_cr.name}")
    return tuple(evidence)
