"""Containers: what the kernel says weighs more than what files claim."""

from __future__ import annotations

import pytest

from vprobe.probe.decode.container import Container
from vprobe.probe.raw import FileStatus
from vprobe.states import VirtClass

from .machines import INITIAL_NAMESPACES, PRIVATE_NAMESPACES, report

HOST_ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n22 27 0:21 / /proc rw - proc proc rw\n"
OVERLAY_ROOT = "500 400 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n"
ENGINE_FILES = "501 500 254:0 /x/hosts /etc/hosts rw - ext4 /dev/vda rw\n"
IDENTIFIER = "0123456789abcdef" * 4


def container(
    files: dict[str, str] | None = None,
    namespaces: dict[str, str] | None = None,
    mounts: str = "",
    same_root: bool | None = None,
    directories: dict[str, tuple[str, ...]] | None = None,
) -> Container:
    """What the decoder says of a process with these files, namespaces, mounts, and root."""
    recorded = {**(files or {}), **({"/proc/self/mountinfo": mounts} if mounts else {})}
    status = {}
    if same_root is not None:
        status = {"/": FileStatus(1, 2, 0, ""), "/proc/1/root": FileStatus(1, 2 if same_root else 3, 0, "")}
    fields = {"links": namespaces or {}, "status": status, "directories": directories or {}}
    return report(files=recorded, **fields).container


def test_stale_markers_are_contradicted_by_initial_namespaces() -> None:
    """The development machine: marker files of both engines, all namespaces initial, / the root of PID 1."""
    files = {"/.dockerenv": "", "/run/.containerenv": ""}
    found = container(files, INITIAL_NAMESPACES, HOST_ROOT, same_root=True)
    assert (found.kind, found.fact.state, found.virt_class) == ("none", "absent", VirtClass.NONE)
    assert set(found.contradicted) == {"/.dockerenv", "/run/.containerenv"}


@pytest.mark.parametrize("namespace", ["mnt", "net"])
def test_a_private_mount_or_network_namespace_alone_proves_nothing(namespace: str) -> None:
    """Any service with PrivateTmp has one."""
    links = {**INITIAL_NAMESPACES, f"/proc/self/ns/{namespace}": f"{namespace}:[4026532999]"}
    assert container(namespaces=links, mounts=HOST_ROOT, same_root=True).kind == "none"


def test_private_ipc_and_uts_alone_prove_nothing() -> None:
    """PrivateIPC and ProtectHostname of a service on the machine's own root."""
    links = {**INITIAL_NAMESPACES, "/proc/self/ns/ipc": "ipc:[4026532201]", "/proc/self/ns/uts": "uts:[4026532202]"}
    assert container(namespaces=links, mounts=HOST_ROOT, same_root=True).kind == "none"


def test_unshare_is_namespaces_even_under_a_stale_marker() -> None:
    """Private namespaces on the machine's own root: no engine, whatever /.dockerenv claims."""
    found = container({"/.dockerenv": ""}, PRIVATE_NAMESPACES, HOST_ROOT, same_root=True)
    assert (found.kind, found.contradicted) == ("namespaces", ("/.dockerenv",))


def test_a_runtime_without_an_engine_is_oci() -> None:
    """A private pid namespace with an overlaid root, and a marker that came with the image."""
    found = container({"/.dockerenv": ""}, PRIVATE_NAMESPACES, OVERLAY_ROOT)
    assert (found.kind, found.contradicted) == ("oci", ("/.dockerenv",))


def test_docker_is_believed_where_it_mounted_its_files() -> None:
    """/.dockerenv together with a mounted /etc/hosts on a foreign root."""
    assert container({"/.dockerenv": ""}, PRIVATE_NAMESPACES, OVERLAY_ROOT + ENGINE_FILES).kind == "docker"


def test_docker_with_the_hosts_pid_namespace() -> None:
    """docker --pid=host differs in mnt, ipc, uts and cgroup, and in the root."""
    links = {
        **PRIVATE_NAMESPACES,
        **{f"/proc/self/ns/{kind}": INITIAL_NAMESPACES[f"/proc/self/ns/{kind}"] for kind in ("pid", "user")},
    }
    assert container({"/.dockerenv": ""}, links, OVERLAY_ROOT + ENGINE_FILES, same_root=False).kind == "docker"


@pytest.mark.parametrize(
    ("files", "mounts", "kind"),
    [
        ({"/proc/1/environ": "container=podman\0"}, "", "podman"),
        ({"/proc/1/environ": "container=lxc\0"}, "", "lxc"),
        ({"/proc/1/environ": "container=systemd-nspawn\0"}, "", "systemd-nspawn"),
        ({"/proc/1/environ": "container=crio\0"}, "", "crio"),
        ({"/proc/1/environ": "container=lxc-libvirt\0"}, "", "lxc-libvirt"),
        ({"/proc/1/environ": "container=oci\0"}, "", "oci"),
        ({"/proc/1/environ": "container=whatever\0"}, "", "container-other"),
        ({"/run/host/container-manager": "systemd-nspawn\n"}, "", "systemd-nspawn"),
        ({"/proc/self/cgroup": f"0::/docker/{IDENTIFIER}\n"}, "", "docker"),
        ({"/proc/self/cgroup": f"12:pids:/system.slice/docker-{IDENTIFIER}.scope\n"}, "", "docker"),
        ({"/proc/self/cgroup": f"0::/machine.slice/libpod-{IDENTIFIER}.scope/container\n"}, "", "podman"),
        ({"/proc/self/cgroup": f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{IDENTIFIER}.scope\n"}, "", "oci"),
        ({"/proc/self/cgroup": f"0::/kubepods.slice/crio-{IDENTIFIER}.scope\n"}, "", "crio"),
        ({"/proc/1/cgroup": "0::/lxc.payload.web/init.scope\n"}, "", "lxc"),
        ({}, f"9 8 0:1 /var/lib/docker/containers/{IDENTIFIER}/hosts /etc/hosts rw - ext4 /dev/sda rw\n", "docker"),
        ({}, f"9 8 0:1 /storage/vfs-containers/{IDENTIFIER}/userdata/hosts /etc/hosts rw - tmpfs t rw\n", "podman"),
        ({}, "9 8 0:66 /.lxc-boot-id /proc/sys/kernel/random/boot_id ro - tmpfs none rw\n", "lxc"),
        ({}, "9 8 0:66 /proc/cpuinfo /proc/cpuinfo ro - fuse.lxcfs lxcfs rw\n", "lxc"),
        ({"/proc/1/comm": "bwrap\n"}, "", "bubblewrap"),
        ({"/proc/1/comm": "lxc-execute\n"}, "", "lxc"),
    ],
)  # fmt: skip
def test_engines_by_their_traces(files: dict[str, str], mounts: str, kind: str) -> None:
    """Variables of PID 1, cgroup paths, mounts and the first process name the engine."""
    assert container(files, PRIVATE_NAMESPACES, OVERLAY_ROOT + mounts).kind == kind
    assert container(files | ({"/proc/self/mountinfo": mounts} if mounts else {})).kind in {kind, "none"}


@pytest.mark.parametrize(
    ("files", "directories", "kind", "virt_class"),
    [
        ({}, {"/proc/vz": ("version",)}, "openvz", VirtClass.OS_LEVEL),
        ({"/proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft\n"}, {}, "wsl", VirtClass.OS_LEVEL),
        ({"/proc/sys/kernel/osrelease": "5.15.0-microsoft-standard-WSL2\n"}, {}, "wsl", VirtClass.OS_LEVEL),
        ({"/proc/version": "Linux version 4.4.0 (gVisor)\n"}, {}, "gvisor", VirtClass.USER_SPACE_KERNEL),
        ({"/proc/cmdline": "BOOT_IMAGE=/vmlinuz-4.4.0-gvisor quiet\n"}, {}, "gvisor", VirtClass.USER_SPACE_KERNEL),
        ({"/proc/self/status": "Name:\tx\nVxID:\t42\n"}, {}, "linux_vserver", VirtClass.OS_LEVEL),
        ({"/proc/self/status": "TracerPid:\t77\n", "/proc/77/comm": "proot-x86_64\n"}, {}, "proot", VirtClass.OS_LEVEL),
        ({"/sysctl/security.jail.jailed": "1\n"}, {}, "freebsd-jail", VirtClass.OS_LEVEL),
        ({"/zonename": "web1\n"}, {}, "solaris-zone", VirtClass.OS_LEVEL),
    ],
)
def test_what_the_kernel_says_is_certain(
    files: dict[str, str], directories: dict[str, tuple[str, ...]], kind: str, virt_class: VirtClass
) -> None:
    """No namespace can contradict the kernel's own word."""
    found = container(files, INITIAL_NAMESPACES, HOST_ROOT, same_root=True, directories=directories)
    assert (found.kind, found.virt_class) == (kind, virt_class)


@pytest.mark.parametrize(
    ("files", "directories"),
    [
        ({}, {"/proc/vz": (), "/proc/bc": ()}),
        ({"/proc/self/status": "VxID:\t0\nTracerPid:\t0\n"}, {}),
        ({"/proc/self/status": "TracerPid:\t77\n", "/proc/77/comm": "gdb\n"}, {}),
        ({"/sysctl/security.jail.jailed": "0\n"}, {}),
        ({"/zonename": "global\n"}, {}),
    ],
)
def test_hosts_of_containers_are_no_containers(files: dict[str, str], directories: dict[str, tuple[str, ...]]) -> None:
    """The OpenVZ host, VServer's context 0, a debugger's child, FreeBSD's and Solaris' own system."""
    assert container(files, INITIAL_NAMESPACES, HOST_ROOT, same_root=True, directories=directories).kind == "none"


def test_wsl1_has_no_hypervisor_and_wsl2_has_one() -> None:
    """WSL 1 translates system calls; WSL 2 is a Hyper-V guest."""
    shown = {"/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor\n"}
    first = report(files={"/proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft\n", **shown})
    second = report(files={"/proc/sys/kernel/osrelease": "5.15.0-microsoft-standard-WSL2\n"})
    assert (first.container.kind, first.hypervisor.kind, first.hypervisor.fact.state) == ("wsl", None, "absent")
    assert (second.container.kind, second.hypervisor.kind) == ("wsl", "microsoft")


def test_a_root_other_than_pid_1s_is_a_chroot() -> None:
    """By inode, by mount where the inode is the same, and by a mount table without a root."""
    assert container({}, INITIAL_NAMESPACES, HOST_ROOT, same_root=False).kind == "chroot"
    assert container({}, INITIAL_NAMESPACES, "22 27 0:21 / /proc rw - proc proc rw\n").kind == "chroot"
    bound = "234 27 254:0 / / rw - ext4 /dev/vda rw\n"
    links = {**INITIAL_NAMESPACES, "/proc/self/ns/mnt": "mnt:[4026531832]"}
    assert container({}, links, bound, same_root=True).kind == "chroot"
    assert container({}, links, HOST_ROOT, same_root=True).kind == "none"


def test_an_overlaid_root_beside_an_unreadable_pid_1_is_unknown() -> None:
    """A normal user cannot tell a chroot from a live system: that is not "none"."""
    found = container({}, INITIAL_NAMESPACES, OVERLAY_ROOT)
    assert (found.kind, found.fact.state, found.fact.remedy) == (None, "unknown", "run as root")


@pytest.mark.parametrize("root", ["/@", "/@rootfs", "/root", "/ostree/deploy/fedora/deploy/1.0"])
def test_subvolumes_of_a_host_are_its_own_root(root: str) -> None:
    """btrfs and ostree hosts mount a subdirectory of their file system on /."""
    mounts = f"27 1 254:0 {root} / rw - btrfs /dev/vda rw\n"
    assert container({"/.dockerenv": ""}, PRIVATE_NAMESPACES, mounts).kind == "namespaces"


def test_without_namespaces_the_traces_decide() -> None:
    """A recorded tree without /proc/self/ns: an engine's traces, none of them, or nothing recorded at all."""
    assert container({"/.dockerenv": ""}).kind == "docker"
    assert container({"/proc/1/cgroup": "0::/init.scope\n"}).kind == "none"
    assert container({}).fact.state == "unknown"


def test_without_namespaces_the_root_and_the_control_group_decide() -> None:
    """An overlaid root alone may be a live system; paths that OCI runtimes hide, or a control group below the first, are not."""
    masks = "".join(f"{60 + number} 1 0:5 / {path} rw - tmpfs tmpfs rw\n" for number, path in enumerate(MASKED))
    overlaid = container({"/proc/self/mountinfo": OVERLAY_ROOT, "/proc/1/cgroup": "0::/\n"})
    assert (overlaid.kind, overlaid.fact.state) == (None, "unknown")
    assert container({"/proc/self/mountinfo": OVERLAY_ROOT + masks, "/proc/1/cgroup": "0::/\n"}).kind == "oci"
    own_cgroup = {"/sys/fs/cgroup/cgroup.events": "populated 1\n", "/sys/fs/cgroup/cgroup.type": "domain\n"}
    assert container({**own_cgroup, "/proc/1/cgroup": "0::/\n"}).kind == "container-other"


MASKED = ("/proc/kcore", "/proc/keys")


def test_hostile_mount_tables_are_passed_over() -> None:
    """Lines that are no mounts, escapes that are none, and a line of any length."""
    mounts = "x\n - \n1 2 3 4 5 6 - \n" + "9" * 5000 + r" \040\999 - a b c" + "\n" + HOST_ROOT
    assert container({}, INITIAL_NAMESPACES, mounts, same_root=True).kind == "none"
