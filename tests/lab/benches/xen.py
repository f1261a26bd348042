"""Xen under a Linux of its own: paravirtualized for real, in the first domain and in one that it starts."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from lab import tools
from lab.bench import Bench, Problems, Row
from lab.comparison import Comparison
from lab.guest import Answer, Setup
from lab.qemu import Qemu, Xen
from vprobe.probe.sources.capture import decode_capture

MODULES = ("xen_privcmd", "xenfs", "xen_evtchn", "xen_gntdev")
SCRIPT = """
probe dom0; tools dom0
for name in type guest_type; do cp /sys/hypervisor/$name $OUT/$name; done
cp /proc/xen/capabilities $OUT/capabilities
"""
PV_SCRIPT = SCRIPT + "$PYTHON $LAB/lab/xen_leaves.py > $OUT/leaves.json\n"


def pv(answer: Answer) -> Problems:
    """The hypervisor itself, asked past plain CPUID, gives its name and its hypercall page; the kernel calls the domain PV."""
    try:
        leaves = json.loads(answer.text("leaves.json"))
    except ValueError:
        return [f"Xen's leaves were not read: {answer.text('errors').strip()[-300:]}"]
    return hypervisor(answer, "PV", leaves["0x40000000"], leaves["0x40000002"])


def pvh(answer: Answer) -> Problems:
    """Plain CPUID, as the probe recorded it, has Xen's leaves."""
    recorded = decode_capture(answer.files["dom0.json"]).leaves
    return hypervisor(answer, "PVH", recorded[0x40000000, 0], recorded[0x40000002, 0])


def hypervisor(answer: Answer, guest_type: str, signature: Sequence[int], interface: Sequence[int]) -> Problems:
    """Name and hypercall pages of leaves base and base + 2, and what the kernel says of the domain."""
    name = struct.pack("<3I", *signature[1:]).decode("latin-1")
    problems = [] if name == "XenVMMXenVMM" else [f"the leaves' signature is {name!r}"]
    problems += [] if interface[0] >= 1 else ["Xen offers no hypercall page"]
    said = {file: answer.text(file).strip() for file in ("type", "guest_type", "capabilities")}
    wanted = {"type": "xen", "guest_type": guest_type, "capabilities": "control_d"}
    return problems + ([f"the kernel says {said}"] if said != wanted else [])


KEPT = Row(amdv="hidden", reason="Xen keeps AMD-V for itself: this is its dom0", role="dom0")

TOOLSTACK = ("xen-utils-4.17", "xenstore-utils", "xen-utils-common")
START_DOMAIN = """
export PATH=/usr/lib/xen-4.17/bin:/usr/lib/xen-common/bin:$PATH LD_LIBRARY_PATH=/usr/lib/xen-4.17/lib/x86_64-linux-gnu
mkdir -p /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored /var/log/xen /run/lab/consoles /var/lock /run/lock
xenstored --pid-file=/run/lab/xenstored.pid
xen-init-dom0
xenconsoled --pid-file=/run/lab/xenconsoled.pid --log=guest --log-dir=/run/lab/consoles
cat > /run/lab/domain <<END
name = "bench"
type = "{type}"
kernel = "$LAB/lab/vmlinuz"
ramdisk = "$LAB/lab/inner.cpio"
memory = 640
extra = "console=hvc0 quiet panic=-1"
on_poweroff = "destroy"
on_crash = "destroy"
END
step start the domain
xl create /run/lab/domain
step wait for the domain to end
tries=0
until ! xl domid bench >/dev/null 2>&1 || [ $tries -ge 300 ]; do sleep 1; tries=$((tries + 1)); done
cp /run/lab/consoles/guest-bench.log $OUT/domain
"""


PV_DOMAIN = Row(
    amdv="hidden",
    reason="xen keeps AMD-V for itself: a paravirtual guest has no use of it, whatever CPUID shows",
    controls=3,
    layers="xen (paravirtual), qemu (full-software)",
    role="guest",
)
PVH_DOMAIN = Row(
    amdv="hidden",
    reason="xen does not show AMD-V to this machine; hidden cannot be told from absent here",
    layers="xen (full-hardware)",
    role="guest",
)


def domain(kind: str, about: str, row: Row, guest_type: str) -> Bench:
    """A domain without privileges, started by PV dom0 with Xen's own tools."""
    return Bench(
        f"xen-domu-{kind}",
        about,
        Qemu(cpu="max,-smap,-rdtscp,-xsave", memory_mib=3072, xen=Xen("dom0_mem=1536M,max:1536M"), limit_s=600),
        START_DOMAIN.format(type=kind),
        {"domain": row},
        facts={"domain": {"hypervisor.kind": "xen"}},
        boot_modules=(*MODULES, "xen_gntalloc"),
        packages=TOOLSTACK,
        inner=Setup(script=tools.SCRIPT + "probe domain; tools domain\n", host_root=False, port="/dev/hvc0"),
        inner_answer="domain",
    )


MEASURED = (
    *("cpu.integer_chain", "cpu.float_chain", "cpu.sha256", "cpu.zlib", "memory.chase[l2]", "memory.triad"),
    *("memory.first_touch", "memory.mprotect", "memory.munmap", "system.getpid", "system.clock_gettime", "system.read"),
    *("system.stat", "system.signal", "system.pipe_round_trip", "system.fork_wait", "system.fork_exec", "system.mmap"),
    "system.page_fault",
)
SUITES = f"""
probe guest; tools guest
vprobe bench --env bare --preset quick --boots 4 --seed 1 {" ".join(f"--select '{name}'" for name in MEASURED)} -o $OUT/run.json
gzip -f $OUT/run.json
"""
"""The same seed, so that the arms alternate alike in both guests."""

PLAIN = Row(
    amdv="present", reason="VM_CR does not disable SVM", controls=3, layers="qemu (full-software)", role="guest"
)

BENCHES = (
    Bench(
        "xen-pv",
        "the first domain, paravirtualized",
        Qemu(cpu="max,-smap", memory_mib=2048, xen=Xen()),
        PV_SCRIPT,
        {"dom0": KEPT._replace(layers="xen (paravirtual), qemu (full-software)", controls=3)},
        facts={"dom0": {"hypervisor.evidence.8": "/proc/xen (dom0, guest type PV)", "kvm.remedy": "run VMs under Xen"}},
        check=pv,
        boot_modules=MODULES,
    ),
    Bench(
        "xen-pvh",
        "the first domain, PVH",
        Qemu(
            cpu="max,-rdtscp,-xsave",
            memory_mib=2048,
            devices=("amd-iommu,intremap=on",),
            xen=Xen("dom0_mem=1024M,max:1024M dom0=pvh", virtio=",iommu_platform=on,disable-legacy=on"),
        ),
        SCRIPT,
        {"dom0": KEPT._replace(layers="xen (full-hardware)")},
        facts={
            "dom0": {"hypervisor.evidence.8": "/proc/xen (dom0, guest type PVH)", "kvm.remedy": "run VMs under Xen"}
        },
        check=pvh,
        boot_modules=MODULES,
    ),
    domain("pv", "a domain without privileges, paravirtualized", PV_DOMAIN, "PV"),
    domain("pvh", "a domain without privileges, PVH", PVH_DOMAIN, "PVH"),
    Bench(
        "xen-suites-plain",
        "cpu, memory and system in a plain guest of the emulated machine",
        Qemu(cpu="max,-smap", memory_mib=2048, command_line="tsc=reliable", limit_s=900),
        SUITES,
        {"guest": PLAIN},
    ),
    Bench(
        "xen-suites-pv",
        "the same on the same machine, in Xen's first domain",
        Qemu(cpu="max,-smap", memory_mib=2048, xen=Xen("dom0_mem=1700M,max:1700M"), limit_s=900),
        SUITES,
        {"guest": KEPT._replace(layers="xen (paravirtual), qemu (full-software)", controls=3)},
        boot_modules=MODULES,
    ),
)

COMPARISONS = (
    Comparison(
        name="xen-pv",
        about="Xen's paravirtualization against the same emulated machine without it",
        plain="xen-suites-plain",
        layered="xen-suites-pv",
        dear={"system.getpid": 3, "system.read": 3, "memory.mprotect": 2, "system.page_fault": 1.5},
        same=("cpu.integer_chain", "cpu.sha256"),
    ),
)
