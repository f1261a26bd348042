"""AMD-V on QEMU's emulated processor: real SVM instructions, MSRs and kvm_amd, in every state of the modules."""

from __future__ import annotations

import gzip
import json

from lab import microvm
from lab.bench import Bench, Problems, Row
from lab.guest import Answer
from lab.qemu import Qemu

KVM = ("kvm_amd",)
FIRMWARE_LOCK = "VM_CR does not disable SVM"
NOT_READ = "firmware lock not read: MSR 0xc0010114: "
UNDER = {"layers": "qemu (full-software)", "role": "guest"}
HERE = {"amdv": "present", "controls": 3, **UNDER}
USABLE = Row(reason=FIRMWARE_LOCK, kvm="usable", backend="kvm_amd", **HERE)

STATES = f"""
load irqbypass; load kvm; load ccp
probe bare; tools bare
load kvm_amd nested=0
probe kvm; tools kvm
probe user as_user
unload msr
probe no-msr
unload kvm_amd
load msr
load kvm_amd nested=1
probe nested
{microvm.script(128)}"""


MEASURED = (
    "cpu.integer_chain",
    "memory.first_touch",
    "system.getpid",
    "exits.out",
    "exits.cpuid",
    "exits.create_vm",
    "lifecycle.start",
    "lifecycle.stop",
    "lifecycle.memory",
)
MEASURE = f"""
load irqbypass; load kvm; load ccp; load kvm_amd nested=0
probe kvm; tools kvm
vprobe envs --json > $OUT/envs.json
vprobe bench --env bare,namespaces,kvm,qemu-kvm --preset quick --boots 3 {" ".join(f"--select '{name}'" for name in MEASURED)} \\
    -o $OUT/run.json --report $OUT/report.html
gzip -f $OUT/run.json
"""


HUGE_PAGES = 160
HUGE = f"""
load irqbypass; load kvm; load ccp; load kvm_amd nested=0
echo {HUGE_PAGES} > /proc/sys/vm/nr_hugepages
probe kvm; tools kvm
step guest on huge pages
$PYTHON $LAB/lab/hugepages.py > $OUT/hugepages.json
"""
LEAST_USED = 32
"""Huge pages that a guest which answers has at least touched: 64 MiB."""


def huge(answer: Answer) -> Problems:
    """The nested guest got all of the huge pages and answered from them; all were free again after it."""
    said = json.loads(answer.text("hugepages.json") or "{}")
    if "trouble" in said or not said:
        return [said.get("trouble") or f"no guest was tried: {answer.text('errors').strip()[-1500:]}"]
    wanted = {"before": HUGE_PAGES, "after": HUGE_PAGES, "bytes": HUGE_PAGES << 21}
    problems = [
        f"{name} is {said[name]} and should be {value}" for name, value in wanted.items() if said[name] != value
    ]
    used = said["before"] - said["while"]
    return problems + ([] if used >= LEAST_USED else [f"the guest answered with {used} huge pages in use"])


def measured(answer: Answer) -> Problems:
    """Every environment gave samples, the nested guest showed that it is one, and the report was written."""
    try:
        run = json.loads(gzip.decompress(answer.files["run.json.gz"]))
    except KeyError:
        return [f"no run came back: {answer.text('errors').strip()[-1500:]}"]
    seen = {arm for visit in run["visits"] for arm, samples in visit["samples"].items() if samples["values"]}
    wanted = {"bare", "namespaces", "kvm", "qemu-kvm"}
    problems = [f"no samples of {name}" for name in sorted(wanted - seen)]
    return problems + ([] if "</html>" in answer.text("report.html") else ["no report was written"])


BENCHES = (
    Bench(
        name="amdv",
        about="AMD-V in every state: modules loaded or not, root and user, nesting on and off; the micro-VM",
        machine=Qemu(memory_mib=1024),
        script=STATES,
        modules=KVM,
        in_ci=True,
        check=microvm.problems,
        facts={
            "bare": {"kvm.remedy": "modprobe kvm_amd (see the kernel log if that fails)"},
            "kvm": {"kvm.nested.state": "disabled"},
            "user": {"kvm.remedy": "run as root, or give the device a group (chgrp kvm /dev/kvm; chmod g+rw /dev/kvm)"},
            "nested": {"kvm.nested.state": "present"},
        },
        views={
            "bare": Row(reason=FIRMWARE_LOCK, **HERE),
            "kvm": USABLE,
            "user": Row(reason=NOT_READ + "EACCES", kvm="unknown", backend="kvm_amd", **HERE),
            "no-msr": Row(reason=NOT_READ + "ENOENT", kvm="usable", backend="kvm_amd", **HERE),
            "nested": USABLE,
        },
    ),
    Bench(
        name="amdv-bench",
        about="bare, namespaces, kvm and a nested Linux guest, measured into a report",
        machine=Qemu(memory_mib=4096, limit_s=1200),
        script=MEASURE,
        modules=KVM,
        check=measured,
        views={"kvm": USABLE},
    ),
    Bench(
        name="amdv-hugepages",
        about="a nested Linux guest on KVM whose memory are huge pages",
        machine=Qemu(memory_mib=2048, limit_s=600),
        script=HUGE,
        modules=KVM,
        check=huge,
        views={"kvm": USABLE},
    ),
)
