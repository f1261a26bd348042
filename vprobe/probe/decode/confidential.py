"""Confidential computing and enclaves: SEV, TDX and SGX of the processor, and whether this machine is such a guest.

AMD APM vol. 2, 15.34 and vol. 3, E.4.17 (0x8000001F); Intel TDX module specification (leaf 0x21); Intel SDM vol. 3D, chapter
36 (SGX enumeration); Hyper-V top level functional specification (isolation leaf).
"""

from __future__ import annotations

from vprobe.probe.decode.cpuid import EAX, EBX, ECX, EDX, Cpuid, Vendor, register_text
from vprobe.probe.decode.flags import kernel_flags
from vprobe.probe.decode.signatures import find_signatures, hyperv_partition
from vprobe.probe.decode.subject import Subject
from vprobe.probe.decode.svm import decode_bits, note_unknown
from vprobe.probe.facts import Fact
from vprobe.probe.record import Record
from vprobe.probe.tables import table
from vprobe.states import State

SEV_LEAF, SGX_LEAF, TDX_LEAF = 0x8000001F, 0x12, 0x21
SEV_STATUS, FEATURE_CONTROL, KEY_PARTITIONING, SYSCFG = 0xC0010131, 0x3A, 0x87, 0xC0010010
TDX_SIGNATURE = "IntelTDX    "
TDX_MODELS = {0x8F, 0xAD, 0xAE, 0xAF, 0xCF, 0xDD}
"""Xeon models of family 6 that may have TDX: Sapphire Rapids and later."""
FIRST_SEV_FAMILY = 0x17
"""Zen; Hygon's families are later ones."""
SGX_COMPANION = "clflushopt"
"""Every processor with SGX (Skylake, Goldmont Plus and later) has this flag, too."""
ISOLATED_KINDS = {"vbs": "vbs", "snp": "sev-snp", "tdx": "tdx"}


class Sev(Record):
    """The sev object of the document."""

    fact: Fact
    features: dict[str, bool]
    unknown_bits: dict[str, list[int]]
    encryption_bit: int | None
    guests: int | None


class Guest(Record):
    """The confidential object of the document: what protects this very machine from its host."""

    fact: Fact
    kind: str | None


def decode_sev(subject: Subject) -> Sev:
    """The SEV family on this processor, as a host or as a guest sees it."""
    registers = subject.cpuid.get(SEV_LEAF) if subject.vendor is Vendor.AMD else None
    features: dict[str, bool] = {}
    unknown: dict[str, list[int]] = {}
    if registers:
        rows = table("sev_features")["eax"]
        note_unknown(unknown, "8000001F.EAX", rows, registers[EAX])
        features = decode_bits(rows, registers[EAX])
    return Sev(
        fact=_sev_state(subject, features),
        features=features,
        unknown_bits=unknown,
        encryption_bit=registers[EBX] & 0x3F if registers and registers[EAX] & 3 else None,
        guests=registers[ECX] if registers and features["sev"] else None,
    )


def _sev_state(subject: Subject, features: dict[str, bool]) -> Fact:
    flag = features["sev"] if features else subject.flag("sev")
    may_hide = (subject.cpu.family or 0) >= FIRST_SEV_FAMILY
    unfit = _unfit(subject, Vendor.AMD, "SEV", flag, kernel_may_hide=may_hide)
    if unfit:
        return unfit
    evidence = [f"CPUID 0x8000001f EAX[1] = {int(features['sev'])}"] if features else []
    parameter = subject.raw.text("/sys/module/kvm_amd/parameters/sev")
    kernel = kernel_flags(subject.raw)
    if parameter is not None:
        evidence.append(f"/sys/module/kvm_amd/parameters/sev: {parameter[:10]}")
    if parameter in {"N", "0"}:
        remedy = "enable SEV in the firmware set-up, and load kvm_amd with sev=1"
        return Fact(State.DISABLED, "the processor has SEV, but kvm_amd does not use it", remedy, tuple(evidence))
    if features and kernel and "sev" not in kernel and subject.keeper is None:
        remedy = "enable memory encryption (SMEE, SEV) in the firmware set-up"
        return Fact(
            State.DISABLED, "the processor has SEV, but the kernel turned its flag off", remedy, tuple(evidence)
        )
    syscfg = subject.raw.msr(SYSCFG)
    if isinstance(syscfg, int):
        evidence.append(
            f"MSR 0xc0010010 (SYSCFG) = {syscfg:#x}: memory encryption is {'on' if syscfg >> 23 & 1 else 'not on'}"
        )
    return Fact(State.PRESENT, "", "", tuple(evidence))


def _unfit(
    subject: Subject, vendor: Vendor, name: str, flag: bool | None, *, kernel_may_hide: bool = False
) -> Fact | None:
    """Why the technology cannot be present; None where its flag is set.

    `kernel_may_hide`: old kernels do not know the flag, newer ones clear it where firmware disables the technology, so that
    /proc/cpuinfo alone cannot tell that it is not there.
    """
    if subject.is_x86 is False or subject.vendor not in {vendor, None}:
        return Fact(State.ABSENT, f"this processor's maker does not use {name}")
    if flag is None:
        return Fact(State.UNKNOWN, "CPUID was not recorded", "record it with `vprobe probe --capture FILE`")
    if flag:
        return None
    if subject.keeper is not None:
        return subject.keeper.hides(name)
    if kernel_may_hide and not subject.cpuid:
        reason = f"the kernel does not show {name}: an old one never does, a newer one only where firmware turned it on"
        return Fact(State.UNKNOWN, reason, "record CPUID with `vprobe probe --capture FILE`")
    return Fact(State.ABSENT, f"{subject.witness} not show {name}")


def decode_sgx(subject: Subject) -> Fact:
    """SGX: the flag, the enclave leaf and the lock register."""
    may_hide = SGX_COMPANION in subject.cpu.flags
    unfit = _unfit(subject, Vendor.INTEL, "SGX", subject.flag("sgx"), kernel_may_hide=may_hide)
    if unfit:
        return unfit
    evidence = ["CPUID 0x7 EBX[2] = 1"] if subject.cpuid else ["/proc/cpuinfo flag sgx = 1"]
    remedy = "enable SGX in the firmware set-up"
    control = subject.raw.msr(FEATURE_CONTROL)
    if isinstance(control, int):
        evidence.append(f"MSR 0x3a = {control:#x}")
        if control & 1 and not control >> 18 & 1:
            return Fact(State.DISABLED, "firmware locked IA32_FEATURE_CONTROL without SGX", remedy, tuple(evidence))
    leaf = subject.cpuid.get(SGX_LEAF)
    if leaf and not leaf[EAX] & 1:
        evidence.append("CPUID 0x12 EAX[0] = 0")
        return Fact(State.DISABLED, "the processor has SGX, but firmware did not turn it on", remedy, tuple(evidence))
    reason = "" if isinstance(control, int) else "firmware lock not read"
    return Fact(State.PRESENT, reason, "", tuple(evidence))


def is_tdx_guest(cpuid: Cpuid) -> bool:
    """Leaf 0x21 spells Intel's signature."""
    registers = cpuid.get(TDX_LEAF)
    return (
        bool(registers) and register_text(registers[EBX], registers[EDX], registers[ECX]) == TDX_SIGNATURE
        if registers
        else False
    )


def decode_tdx(subject: Subject) -> Fact:
    """TDX: as a guest by its leaf; as a host by what the kernel or the key partitioning register says."""
    if is_tdx_guest(subject.cpuid) or "tdx_guest" in subject.cpu.flags:
        return Fact(State.PRESENT, "this machine is a TDX guest", "", ('CPUID 0x21: "IntelTDX    "',))
    kernel = kernel_flags(subject.raw)
    parameter = subject.raw.text("/sys/module/kvm_intel/parameters/tdx")
    if "tdx_host_platform" in kernel:
        if parameter in {"N", "0"}:
            return Fact(
                State.DISABLED,
                "kvm_intel does not use TDX",
                "load kvm_intel with tdx=1",
                (f"kvm_intel tdx={parameter}",),
            )
        return Fact(State.PRESENT, "this machine is a TDX host", "", ("/proc/cpuinfo flag tdx_host_platform",))
    keys = subject.raw.msr(KEY_PARTITIONING)
    flag = isinstance(keys, int) and keys >> 32 > 0
    unfit = _unfit(subject, Vendor.INTEL, "TDX", flag)
    if unfit is None:
        return Fact(State.PRESENT, "firmware set TDX key ids aside", "", (f"MSR 0x87 = {keys:#x}",))
    if unfit.state is State.ABSENT and not isinstance(keys, int) and _may_have_tdx(subject):
        return Fact(
            State.UNKNOWN, "CPUID does not tell, and MSR 0x87 was not read", "run as root with the msr driver loaded"
        )
    foreign = subject.is_x86 is False or subject.vendor not in {Vendor.INTEL, None}
    known = foreign or subject.cpu.flags or unfit.state is not State.ABSENT
    return unfit if known else unfit.replace(state=State.UNKNOWN)


def _may_have_tdx(subject: Subject) -> bool:
    return subject.vendor is Vendor.INTEL and subject.cpu.family == 6 and subject.cpu.model in TDX_MODELS


def decode_confidential(subject: Subject) -> Guest:
    """Which technology, if any, keeps the host out of this machine."""
    kind, evidence = _guest_kind(subject)
    if kind:
        return Guest(Fact(State.PRESENT, "", "", (evidence,)), kind)
    if subject.keeper is None:
        known = subject.cpu.flags or subject.is_x86 is False
        state = State.ABSENT if known else State.UNKNOWN
        return Guest(Fact(state, "not a guest" if known else "CPUID was not recorded"), None)
    if subject.vendor is Vendor.AMD and "sev" in subject.cpu.flags:
        status = subject.raw.msr(SEV_STATUS)
        if not isinstance(status, int):
            reason = f"CPUID shows SEV, but SEV_STATUS was not read: {status.name}"
            return Guest(Fact(State.UNKNOWN, reason, "run as root with the msr driver loaded"), None)
    known = bool(subject.cpu.flags) and subject.keeper.known and not _may_be_tdx_guest(subject)
    return Guest(Fact(State.ABSENT if known else State.UNKNOWN, "nothing shows that the host is kept out"), None)


def _may_be_tdx_guest(subject: Subject) -> bool:
    """An Intel guest whose leaf 0x21 should be there, but was not recorded."""
    recorded = bool(subject.cpuid) and subject.vendor is Vendor.INTEL
    return recorded and subject.was_left_out(TDX_LEAF, 0)


def _guest_kind(subject: Subject) -> tuple[str | None, str]:
    if is_tdx_guest(subject.cpuid):
        return "tdx", 'CPUID 0x21: "IntelTDX    "'
    if subject.raw.text("/sys/firmware/uv/prot_virt_guest") == "1":
        return "protvirt", "/sys/firmware/uv/prot_virt_guest: 1"
    status = subject.raw.msr(SEV_STATUS)
    if subject.vendor is Vendor.AMD and "sev" in subject.cpu.flags and isinstance(status, int) and status & 7:
        kind = "sev-snp" if status & 4 else "sev-es" if status & 2 else "sev"
        return kind, f"MSR 0xc0010131 (SEV_STATUS) = {status:#x}"
    partition = hyperv_partition(subject.cpuid, find_signatures(subject.cpuid))
    if partition and partition.isolation:
        return ISOLATED_KINDS[partition.isolation], f"Hyper-V isolation: {partition.isolation}"
    for device, kind in (("/dev/sev-guest", "sev-snp"), ("/dev/tdx_guest", "tdx")):
        if subject.keeper is not None and subject.raw.exists(device):
            return kind, device
    return None, ""
