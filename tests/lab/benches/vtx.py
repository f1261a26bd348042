"""VT-x (and AMD-V once more) on Bochs' processors: real VMX, on machines that own up to no hypervisor bit.

The probe is held against the guest's own kernel: the "vmx flags" of /proc/cpuinfo, what it logs, and what kvm_intel takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lab import microvm
from lab.bench import Bench, Problems, Row, document_of
from lab.bochs import Bochs
from lab.guest import Answer

KERNEL_FLAGS = {
    "vnmi": "IA32_VMX_PINBASED_CTLS.virtual_nmis",
    "preemption_timer": "IA32_VMX_PINBASED_CTLS.preemption_timer",
    "posted_intr": "IA32_VMX_PINBASED_CTLS.posted_interrupts",
    "tsc_offset": "IA32_VMX_PROCBASED_CTLS.tsc_offsetting",
    "vtpr": "IA32_VMX_PROCBASED_CTLS.tpr_shadow",
    "mtf": "IA32_VMX_PROCBASED_CTLS.monitor_trap_flag",
    "vapic": "IA32_VMX_PROCBASED_CTLS2.virt_apic_accesses",
    "ept": "IA32_VMX_PROCBASED_CTLS2.ept",
    "vpid": "IA32_VMX_PROCBASED_CTLS2.vpid",
    "unrestricted_guest": "IA32_VMX_PROCBASED_CTLS2.unrestricted_guest",
    "vapic_reg": "IA32_VMX_PROCBASED_CTLS2.apic_register_virt",
    "vid": "IA32_VMX_PROCBASED_CTLS2.virt_intr_delivery",
    "ple": "IA32_VMX_PROCBASED_CTLS2.pause_loop_exit",
    "shadow_vmcs": "IA32_VMX_PROCBASED_CTLS2.vmcs_shadowing",
    "pml": "IA32_VMX_PROCBASED_CTLS2.pml",
    "tsc_scaling": "IA32_VMX_PROCBASED_CTLS2.tsc_scaling",
}
"""A flag of /proc/cpuinfo's "vmx flags" -> the control that it stands for (arch/x86/include/asm/vmxfeatures.h)."""

KVM_PARAMETERS = {
    "ept": "IA32_VMX_PROCBASED_CTLS2.ept",
    "vpid": "IA32_VMX_PROCBASED_CTLS2.vpid",
    "unrestricted_guest": "IA32_VMX_PROCBASED_CTLS2.unrestricted_guest",
    "pml": "IA32_VMX_PROCBASED_CTLS2.pml",
}
"""A parameter of kvm_intel, Y where it uses the feature -> the control without which it cannot."""

SCRIPT = """
cp /proc/cpuinfo $OUT/cpuinfo
probe bare; tools bare
for needed in irqbypass kvm {needs}; do load $needed; done; load {module} && echo loaded > $OUT/verdict
for parameter in /sys/module/{module}/parameters/*; do echo "${{parameter##*/}} $(cat $parameter)"; done > $OUT/parameters
probe kvm; tools kvm
"""
MICROVM = SCRIPT + microvm.script(4)
"""The micro-VM takes an emulated processor a minute: it runs on some of them."""


def offered(document: Mapping[str, Any], control: str) -> bool:
    """The probe says that the control may be set."""
    found = document["virtualization"]["vtx"]["controls"].get(control)
    return bool(found and found["may_be_1"])


def intel(answer: Answer) -> Problems:
    """The kernel of the guest says the same as the probe, took VT-x, and ran the micro-VM on it."""
    document = document_of(answer.files["bare.json"])
    line = re.search(r"^vmx flags\s*: (.*)$", answer.text("cpuinfo"), re.M)
    flags = set(line[1].split()) if line else set()
    problems = [
        f"the kernel's vmx flag {flag} is {flag in flags}, the probe's {control} is not"
        for flag, control in KERNEL_FLAGS.items()
        if (flag in flags) != offered(document, control)
    ]
    problems += [] if "vmx" in words(answer, "flags") else ["the kernel has no flag vmx"]
    return problems + taken(answer, document)


def with_microvm(answer: Answer) -> Problems:
    """As intel, and the micro-VM ran: its hypercall is VMCALL here."""
    return intel(answer) + microvm.problems(answer)


def taken(answer: Answer, document: Mapping[str, Any]) -> Problems:
    """kvm_intel was loaded, and uses what the probe says is there."""
    if "loaded" not in answer.text("verdict"):
        return [f"kvm_intel was refused: {answer.text('errors').strip()[-300:]}"]
    seen = dict(line.split(maxsplit=1) for line in answer.text("parameters").splitlines() if " " in line)
    return [
        f"kvm_intel's parameter {name} is {seen.get(name)}, the probe's {control} is {offered(document, control)}"
        for name, control in KVM_PARAMETERS.items()
        if (seen.get(name) == "Y") != offered(document, control)
    ]


def words(answer: Answer, name: str) -> set[str]:
    """The words of a line of the first processor in /proc/cpuinfo."""
    line = re.search(rf"^{name}\s*: (.*)$", answer.text("cpuinfo"), re.M)
    return set(line[1].split()) if line else set()


def disabled(answer: Answer) -> Problems:
    """The kernel says what the probe says: the firmware disabled VMX, and kvm_intel is refused."""
    problems = (
        [] if "disabled by BIOS" in answer.text("dmesg") else ["the kernel does not say that the BIOS disabled VMX"]
    )
    problems += ["the kernel shows the flag vmx"] if "vmx" in words(answer, "flags") else []
    return problems + (["kvm_intel was loaded"] if answer.text("verdict") else [])


def strict(answer: Answer) -> Problems:
    """An MSR that faults is unknown: it is recorded with EIO, and nothing is said of its controls."""
    capture = json.loads(answer.text("bare.json"))
    vtx = document_of(answer.files["bare.json"])["virtualization"]["vtx"]
    failed = [index for index, value in capture["msrs"]["0"].items() if isinstance(value, dict) and value["errno"] == 5]
    told = [name for name in vtx["controls"] if name.startswith(("IA32_VMX_PROCBASED_CTLS3.", "IA32_VMX_EXIT_CTLS2."))]
    problems = [] if {"0x492", "0x493"} <= set(failed) else [f"the MSRs that fault are {failed}"]
    return problems + [f"{name} is told of an MSR that cannot be read" for name in told] + intel(answer)


def amd(answer: Answer) -> Problems:
    """kvm_amd took AMD-V and the micro-VM ran on it; nested paging is as the probe says."""
    if "loaded" not in answer.text("verdict"):
        return [f"kvm_amd was refused: {answer.text('errors').strip()[-300:]}"]
    npt = document_of(answer.files["bare.json"])["virtualization"]["amdv"]["features"].get("npt")
    problems = [] if bool(npt) == ("npt Y" in answer.text("parameters")) else [f"the probe says {npt} of nested paging"]
    return problems + microvm.problems(answer)


ENABLED = "IA32_FEATURE_CONTROL is locked with VMX enabled"
HOME = {"layers": "bochs (full-software)", "role": "guest"}


def model(name: str, about: str, machine: Bochs, controls: int, *, script: str = SCRIPT, check: Any = intel) -> Bench:
    """An Intel processor on which KVM works."""
    row = Row(vtx="present", reason=ENABLED, controls=controls, **HOME)
    views = {"bare": row, "kvm": row._replace(kvm="usable", backend="kvm_intel")}
    return Bench(
        f"vtx-{name}",
        about,
        machine,
        script.format(module="kvm_intel", needs=""),
        views,
        check=check,
        modules=("kvm_intel",),
    )


LOCKED = Row(vtx="disabled", reason="firmware locked IA32_FEATURE_CONTROL without VMX", controls=101, **HOME)
FIRMWARE = {"virtualization.vtx.remedy": "enable VT-x in the firmware set-up, then switch the machine off and on"}
NEVER_ENDS = ("exits.halt",)
"""Its timer runs out before the guest's STI; on Bochs' SVM KVM then enters the guest without end (780,000 entries were counted
in Bochs' log). It ends on Bochs' VT-x and on QEMU's SVM."""
RYZEN = Row(amdv="present", reason="VM_CR does not disable SVM", controls=6, **HOME)

BENCHES = (
    model("skylake", "Skylake-X", Bochs("corei7_skylake_x"), 101, script=MICROVM, check=with_microvm),
    model("haswell", "Haswell", Bochs("corei7_haswell_4770"), 97),
    model("sandy-bridge", "Sandy Bridge", Bochs("corei7_sandy_bridge_2600k"), 88),
    model("icelake", "Ice Lake", Bochs("corei7_icelake_u"), 104),
    model("tigerlake", "Tiger Lake", Bochs("tigerlake"), 108),
    model(
        "penryn",
        "Penryn: VT-x without nested paging",
        Bochs("core2_penryn_t9600"),
        66,
        script=MICROVM,
        check=with_microvm,
    ),
    model("lynnfield", "Lynnfield: nested paging without unrestricted guests", Bochs("corei5_lynnfield_750"), 87),
    model("strict", "Skylake-X whose unknown MSRs fault", Bochs("corei7_skylake_x", strict=True), 101, check=strict),
    Bench(
        "vtx-bios-disabled",
        "Skylake-X with VT-x switched off in the firmware's setup",
        Bochs("corei7_skylake_x", vmx_disabled=True),
        SCRIPT.format(module="kvm_intel", needs=""),
        {"bare": LOCKED, "kvm": LOCKED},
        {"bare": FIRMWARE, "kvm": FIRMWARE},
        check=disabled,
        modules=("kvm_intel",),
    ),
    Bench(
        "vtx-ryzen",
        "Ryzen: AMD-V on a machine without a hypervisor bit",
        Bochs("ryzen"),
        SCRIPT.format(module="kvm_amd", needs="ccp") + microvm.script(4, *NEVER_ENDS),
        {"bare": RYZEN, "kvm": RYZEN._replace(kvm="usable", backend="kvm_amd")},
        check=amd,
        modules=("kvm_amd",),
    ),
)
