"""Which files the probe reads: rows, not code. The live machine and a recorded tree are read by the same rows."""

from __future__ import annotations

DEFAULT_LIMIT = 64 * 1024
"""Bytes of a file that are kept; what a machine says is bounded before it is looked at."""

FILES: dict[str, int] = {
    "/proc/cpuinfo": 8 * 1024 * 1024,
    "/proc/self/mountinfo": 1024 * 1024,
    "/proc/1/mountinfo": 1024 * 1024,
    "/proc/bus/pci/devices": 512 * 1024,
} | dict.fromkeys(
    (
        "/proc/version",
        "/proc/cmdline",
        "/proc/misc",
        "/proc/sysinfo",
        "/proc/sys/kernel/osrelease",
        "/proc/1/cgroup",
        "/proc/1/comm",
        "/proc/1/environ",
        "/proc/self/environ",
        "/proc/self/cgroup",
        "/proc/self/status",
        "/proc/xen/capabilities",
        "/proc/ppc64/lparcfg",
        "/sysctl/security.jail.jailed",
        "/zonename",
        "/.dockerenv",
        "/.dockerinit",
        "/.flatpak-info",
        "/.singularity.d/labels.json",
        "/.apptainer.d/labels.json",
        "/run/.containerenv",
        "/run/systemd/container",
        "/run/host/container-manager",
        "/sys/hypervisor/type",
        "/sys/hypervisor/uuid",
        "/sys/hypervisor/guest_type",
        "/sys/hypervisor/properties/features",
        "/sys/firmware/dmi/entries/0-0/raw",
        "/sys/firmware/uv/prot_virt_guest",
        "/sys/devices/system/clocksource/clocksource0/available_clocksource",
        "/sys/devices/system/cpu/cpu0/microcode/version",
        "/sys/module/kvm_intel/parameters/nested",
        "/sys/module/kvm_intel/parameters/tdx",
        "/sys/module/kvm_amd/parameters/nested",
        "/sys/module/kvm_amd/parameters/sev",
    ),
    DEFAULT_LIMIT,
)

DMI = (
    "bios_vendor",
    "bios_version",
    "board_name",
    "board_vendor",
    "chassis_asset_tag",
    "chassis_vendor",
    "product_family",
    "product_name",
    "product_sku",
    "product_version",
    "sys_vendor",
)
"""Files of /sys/class/dmi/id that name the maker; everybody may read them."""

DMI_IDENTIFIERS = ("board_serial", "chassis_serial", "product_serial", "product_uuid")
"""Files of /sys/class/dmi/id that name this one machine. Amazon's Xen guests are known by the UUID's first letters."""

DMI_TABLE = "/sys/firmware/dmi/tables/DMI"
"""All strings at once, serial numbers among them: read only where /sys/class/dmi/id is not there."""

DIRECTORIES = (
    "/proc/vz",
    "/proc/bc",
    "/proc/xen",
    "/proc/device-tree",
    "/sys/bus/vmbus/devices",
    "/sys/bus/xen/devices",
    "/sys/bus/xen/drivers",
    "/sys/class/dmi/id",
    "/sys/class/iommu",
    "/sys/class/misc",
    "/sys/kernel/iommu_groups",
    "/sys/module",
)

DEVICE_TREE = (
    "compatible",
    "model",
    "hmc-managed?",
    "ibm,partition-name",
    "chosen/qemu,graphic-width",
    "hypervisor/compatible",
)
"""Below /proc/device-tree, read where that exists."""

ALL_FILES_OF = {
    "/sys/devices/system/cpu/vulnerabilities": 4096,
    "/sys/firmware/acpi/tables": 4096,  # header and what follows it: FADT, DMAR and IVRS are decided in the first 300 bytes
}
"""Directories of which every file is read, up to so many bytes."""

LINKS = (*(f"/proc/self/ns/{kind}" for kind in ("cgroup", "ipc", "mnt", "pid", "user", "uts")), "/proc/1/ns/mnt")

STATUS = (
    "/",
    "/proc/1/root",
    "/dev/kvm",
    "/dev/sev",
    "/dev/sev-guest",
    "/dev/tdx_guest",
    "/dev/sgx_enclave",
    "/sys/fs/cgroup/cgroup.events",
    "/sys/fs/cgroup/cgroup.type",
    "/run/secrets/kubernetes.io",
)

CACHE_INDEXES = range(8)
CACHE_FILES = (
    "level",
    "type",
    "size",
    "ways_of_associativity",
    "coherency_line_size",
    "number_of_sets",
    "shared_cpu_list",
)
"""Below /sys/devices/system/cpu/cpu0/cache/indexN, read where there is no CPUID."""

KEPT_ENVIRONMENT = (b"container", b"KUBERNETES_SERVICE_HOST", b"APPTAINER_CONTAINER", b"SINGULARITY_CONTAINER")
"""Variables of /proc/1/environ that are kept; all others are dropped as they are read."""

MSRS = (
    *(0x3A, 0x8B, 0x10A, 0xCE, 0x87, 0xFE),
    *range(0x480, 0x494),
    *(0xC0000080, 0xC0010010, 0xC0010015, 0xC0010114, 0xC0010117, 0xC0010131),
)
"""Model-specific registers that the decoders know."""
