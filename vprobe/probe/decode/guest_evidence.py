"""What the kernel knows of the machine below it: Xen's files, device tree, s390 and POWER, WSL, clock sources, PCI.

Each reader is one small function that returns findings; their order is the order of their weight.
"""

from __future__ import annotations

from enum import IntEnum

from vprobe.probe.decode.flags import cpuinfo_fields
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import table


class Strength(IntEnum):
    """How much a finding weighs against CPUID signatures and DMI strings."""

    CERTAIN = 0  # decides alone
    GOOD = 1  # decides where neither signature nor DMI does
    WEAK = 2  # decides where nothing else does
    BARE_METAL = 3  # says that there is no hypervisor


class Finding(Record):
    """One witness. `stacked`: its kind is shown as a layer beside the concluded one."""

    kind: str
    strength: Strength
    source: str
    role: str | None = None
    virt_class: str | None = None
    stacked: bool = False


def kernel_findings(raw: Raw) -> tuple[Finding, ...]:
    """Every witness in the kernel's files."""
    return tuple(finding for reader in READERS for finding in reader(raw))


def _user_mode_linux(raw: Raw) -> list[Finding]:
    vendor = cpuinfo_fields(raw).get("vendor_id", "")
    if vendor == "User Mode Linux":
        return [Finding("uml", Strength.CERTAIN, f"/proc/cpuinfo vendor_id: {vendor}")]
    if vendor.startswith("PowerVM Lx86"):
        return [Finding("powervm_lx86", Strength.CERTAIN, f"/proc/cpuinfo vendor_id: {vendor}")]
    return []


CONTROL_DOMAIN_FEATURE = 11
"""Bit of /sys/hypervisor/properties/features (XENFEAT_dom0)."""


def _xen(raw: Raw) -> list[Finding]:
    kind_file = raw.text("/sys/hypervisor/type")
    if kind_file and kind_file != "xen":
        return [Finding("vm-other", Strength.GOOD, f"/sys/hypervisor/type: {kind_file[:40]}")]
    has_proc = raw.exists("/proc/xen")
    if not has_proc and kind_file is None:
        return []
    role = "dom0" if _is_dom0(raw) else "guest"
    source = "/proc/xen" if has_proc else "/sys/hypervisor/type: xen"
    strength = Strength.CERTAIN if has_proc or role == "dom0" else Strength.GOOD
    guest_type = raw.text("/sys/hypervisor/guest_type")
    words = f"{role}, guest type {guest_type[:8]}" if guest_type else role
    return [Finding("xen", strength, f"{source} ({words})", role, _xen_class(raw), stacked=True)]


def _is_dom0(raw: Raw) -> bool:
    features = (raw.text("/sys/hypervisor/properties/features") or "").removeprefix("0x")
    try:
        return bool(int(features, 16) >> CONTROL_DOMAIN_FEATURE & 1)
    except ValueError:
        return "control_d" in (raw.text("/proc/xen/capabilities") or "").replace(",", " ").split()


def _xen_class(raw: Raw) -> str | None:
    """PV guests are changed to call Xen; HVM and PVH guests use the hardware. Without a word: PV has no Xen leaves."""
    guest_type = raw.text("/sys/hypervisor/guest_type")
    if guest_type:
        return "paravirtual" if guest_type == "PV" else "full-hardware"
    from vprobe.probe.decode.cpuid import Cpuid  # noqa: PLC0415
    from vprobe.probe.decode.dmi import dmi_strings  # noqa: PLC0415

    if Cpuid(raw.leaves).has_hypervisor or "HVM domU" in dmi_strings(raw).values():
        return "full-hardware"
    return "paravirtual" if raw.exists("/proc/xen") else None


def _s390(raw: Raw) -> list[Finding]:
    information = raw.text("/proc/sysinfo")
    if not information:
        return []
    for line in information.splitlines():
        name, _, value = line.partition(":")
        if name.startswith("VM") and name.strip().endswith("Control Program"):
            kind = "zvm" if value.strip().startswith("z/VM") else "kvm"
            return [Finding(kind, Strength.CERTAIN, f"/proc/sysinfo {name.strip()}: {value.strip()[:40]}")]
    source = "/proc/sysinfo: no VM control program" + (" (a partition of PR/SM)" if "LPAR" in information else "")
    return [Finding("none", Strength.BARE_METAL, source)]


def _power(raw: Raw) -> list[Finding]:
    fields = cpuinfo_fields(raw)
    platform, model = fields.get("platform", ""), fields.get("model", "")
    if platform == "PowerNV":
        return [Finding("none", Strength.BARE_METAL, "/proc/cpuinfo platform: PowerNV")]
    if "emulated by qemu" in model:
        return [Finding("kvm", Strength.CERTAIN, f"/proc/cpuinfo model: {model[:60]}")]
    partition = raw.exists("/proc/device-tree/ibm,partition-name") and raw.exists("/proc/device-tree/hmc-managed?")
    emulated = raw.exists("/proc/device-tree/chosen/qemu,graphic-width")
    if (partition and not emulated) or platform == "pSeries":
        shared = "shared_processor_mode=1" in (raw.text("/proc/ppc64/lparcfg") or "")
        source = "/proc/device-tree/ibm,partition-name" if partition else "/proc/cpuinfo platform: pSeries"
        return [Finding("powervm", Strength.CERTAIN, source + (", shared processors" if shared else ""))]
    return []


def _device_tree(raw: Raw) -> list[Finding]:
    found = []
    compatible = raw.text("/proc/device-tree/hypervisor/compatible")
    if compatible is not None:
        words = compatible.replace("\0", " ")
        kind = next(
            (kind for word, kind in (("linux,kvm", "kvm"), ("xen", "xen"), ("vmware", "vmware")) if word in words), ""
        )
        found.append(Finding(kind or "vm-other", Strength.CERTAIN, f"device tree hypervisor: {words[:60]}"))
    root = (raw.text("/proc/device-tree/compatible") or "").split("\0")
    if "qemu,pseries" in root or any("fw-cfg" in name for name in raw.listing("/proc/device-tree")):
        found.append(Finding("qemu", Strength.GOOD, "device tree: QEMU's machine"))
    elif "linux,dummy-virt" in root:
        found.append(Finding("vm-other", Strength.WEAK, "device tree compatible: linux,dummy-virt"))
    return found


def _sparc(raw: Raw) -> list[Finding]:
    if cpuinfo_fields(raw).get("type") == "sun4v":
        return [Finding("ldoms", Strength.CERTAIN, "/proc/cpuinfo type: sun4v (a logical domain)")]
    return []


def wsl_version(raw: Raw) -> int | None:
    """1 or 2 under the Windows Subsystem for Linux; None elsewhere. Version 2 has a kernel of its own in a Hyper-V guest."""
    release = raw.text("/proc/sys/kernel/osrelease") or _release_of_version(raw)
    if "WSL2" in release or "microsoft-standard" in release:
        return 2
    return 1 if "Microsoft" in release or "WSL" in release else None


def _release_of_version(raw: Raw) -> str:
    words = (raw.text("/proc/version") or "").split()
    return words[2] if len(words) > 2 and words[:2] == ["Linux", "version"] else ""


def _windows_subsystem(raw: Raw) -> list[Finding]:
    version = wsl_version(raw)
    if version == 2:
        return [Finding("microsoft", Strength.GOOD, "/proc/sys/kernel/osrelease: WSL2 runs in a Hyper-V guest")]
    return []


def _buses(raw: Raw) -> list[Finding]:
    found = []
    if raw.listing("/sys/bus/vmbus/devices"):
        found.append(Finding("microsoft", Strength.GOOD, "/sys/bus/vmbus/devices"))
    # The bus itself is there wherever the kernel has Xen built in; drivers register and devices appear in a domain only.
    used = next((name for name in ("devices", "drivers") if raw.listing(f"/sys/bus/xen/{name}")), None)
    if used:
        found.append(Finding("xen", Strength.GOOD, f"/sys/bus/xen/{used}"))
    return found


def _clock_sources(raw: Raw) -> list[Finding]:
    words = (raw.text("/sys/devices/system/clocksource/clocksource0/available_clocksource") or "").split()
    kinds = table("hypervisor_evidence")["clocksources"]
    return [Finding(kinds[word], Strength.GOOD, f"clock source {word}") for word in words if word in kinds]


def _model_name(raw: Raw) -> list[Finding]:
    name = cpuinfo_fields(raw).get("model name", "")
    if name.startswith("QEMU"):
        return [Finding("qemu", Strength.WEAK, f"/proc/cpuinfo model name: {name[:60]}")]
    if name.startswith("Common") and "KVM processor" in name:
        return [Finding("kvm", Strength.WEAK, f"/proc/cpuinfo model name: {name[:60]}")]
    return []


def _pci(raw: Raw) -> list[Finding]:
    content = raw.read("/proc/bus/pci/devices")
    if isinstance(content, Unread):
        return []
    vendors = table("hypervisor_evidence")["pci_vendors"]
    kinds: dict[str, str] = {}
    for line in content.decode("latin-1").splitlines():
        columns = line.split()
        if len(columns) > 1 and columns[1][:4] in vendors:
            kinds.setdefault(vendors[columns[1][:4]], columns[1][:4])
    return [Finding(kind, Strength.WEAK, f"PCI vendor {vendor}") for kind, vendor in kinds.items()]


READERS = (
    _user_mode_linux,
    _xen,
    _s390,
    _power,
    _device_tree,
    _sparc,
    _windows_subsystem,
    _buses,
    _clock_sources,
    _model_name,
    _pci,
)
