"""What names an engine: variables of PID 1, cgroup paths, mounts, the first process, marker files.

They are claims: vprobe.probe.decode.container weighs them against the namespaces.
"""

from __future__ import annotations

import re

from vprobe.probe.decode.guest_evidence import wsl_version
from vprobe.probe.decode.namespaces import Namespaces
from vprobe.probe.raw import Raw
from vprobe.probe.record import Record

MANAGERS = {"zone": "illumos-lx", "containerd": "oci", "runc": "oci", "bwrap": "bubblewrap", "cri-o": "crio"}
"""Values of $container that are spelled otherwise than our kinds."""

CGROUP_PATTERNS = (
    ("podman", "libpod", r"/libpod[-_/]"),
    ("docker", "docker", r"/docker/[0-9a-f]{12,}|/docker-[0-9a-f]{12,}\.scope|^[^:\n]*:[^:\n]*:/docker/"),
    ("docker", "/ecs/", r"/ecs/[^/]+/[0-9a-f]{12,}"),
    ("docker", "/actions_job/", r"/actions_job/"),
    ("crio", "/crio-", r"/crio-[0-9a-f]{12,}"),
    ("lxc", "/lxc", r"/lxc/[^/\n]+|/lxc\.payload"),
    ("systemd-nspawn", "/machine.slice/", r"/machine\.slice/(systemd-nspawn@|machine-)[^\n]*payload"),
    ("rkt", "machine-rkt", r"/machine-rkt"),
    ("oci", "containerd", r"/cri-containerd-|/containerd/|/containerd-[0-9a-f]{12,}"),
    ("oci", "/kubepods", r"/kubepods"),
    ("oci", "/garden/", r"/garden/"),
    ("oci", "/buildkit/", r"/buildkit/"),
)
"""(kind, text that must be there, pattern): a pattern is compiled only where its text occurs."""
MOUNT_PATTERNS = (
    ("podman", "-containers/", r"/(overlay|vfs|btrfs|zfs|aufs)-containers/[0-9a-f]+/userdata/"),
    ("podman", "/containers/storage/", r"/containers/storage/"),
    ("podman", "libpod", r"/libpod/"),
    ("docker", "/docker/", r"/docker/(overlay2|containers|aufs|vfs|btrfs|rootfs|image)/"),
    ("docker", "/containers/", r"/containers/[0-9a-f]{64}/(hosts|hostname|resolv\.conf)"),
    ("lxc", "/l", r"/lib/(lxc|lxd|incus)/|/lxc/[^ /]+/rootfs|/snap/lxd/"),
    ("lxc", "lxc", r"^/\.lxc|lxcfs"),
    ("systemd-nspawn", "/machines/", r"/var/lib/machines/"),
    ("systemd-nspawn", "/nspawn/", r"/run/systemd/nspawn/"),
    ("oci", "containerd", r"io\.containerd\.|/var/lib/containerd/"),
    ("oci", "/kubelet/", r"/kubelet/pods/"),
)
MARKERS = (
    ("/run/.containerenv", "podman"),
    ("/.dockerenv", "docker"),
    ("/.dockerinit", "docker"),
    ("/run/secrets/kubernetes.io", "oci"),
    ("/.flatpak-info", "bubblewrap"),
    ("/.singularity.d/labels.json", "apptainer"),
    ("/.apptainer.d/labels.json", "apptainer"),
)
FIRST_PROCESSES = (("bwrap", "bubblewrap"), ("lxc-", "lxc"), ("init.lxc", "lxc"))
"""Beginnings of the name of PID 1 that only one tool uses."""
KUBELET = "/kubelet/pods/"
"""CRI-O and Podman store containers in the same way; the mounts of a pod tell them apart."""
ENGINE_MOUNTS = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"}
"""What Docker, Podman and their like mount over the image's own files, whatever the network."""

WATCHED_MOUNTS = {
    "/",
    "/run/host/container-manager",
    "/proc/cpuinfo",
    "/proc/sys/kernel/random/boot_id",
    *ENGINE_MOUNTS,
}
"""Mounts whose origin tells the engine."""
KNOWN_KINDS = {
    *(
        "lxc",
        "lxc-libvirt",
        "systemd-nspawn",
        "docker",
        "podman",
        "rkt",
        "wsl",
        "proot",
        "pouch",
        "openvz",
        "oci",
        "crio",
    ),
    *("illumos-lx", "bubblewrap", "apptainer", "container-other"),
}
"""Values of $container that are kinds; any other is container-other, as systemd has it."""


class Claim(Record):
    """A kind of container that something names. `marker`: a mere file, which images and snapshots carry along."""

    kind: str
    source: str
    marker: bool = False


def certain_claim(raw: Raw) -> Claim | None:
    """What the kernel itself says, and nothing can contradict."""
    status = _status_fields(raw)
    if raw.exists("/proc/vz") and not raw.exists("/proc/bc"):
        return Claim("openvz", "/proc/vz is there and /proc/bc is not")
    if wsl_version(raw):
        return Claim("wsl", f"/proc/sys/kernel/osrelease: WSL{wsl_version(raw)}")
    version, command_line = raw.text("/proc/version") or "", raw.text("/proc/cmdline") or ""
    if "gVisor" in version or "gvisor" in command_line:
        return Claim("gvisor", "/proc/version" if "gVisor" in version else "/proc/cmdline names the gVisor kernel")
    if status.get("VxID", status.get("s_context", "0")) not in {"0", ""}:
        return Claim("linux_vserver", f"/proc/self/status VxID: {status.get('VxID', '')}")
    tracer = status.get("TracerPid", "0")
    if tracer != "0" and (raw.text(f"/proc/{tracer}/comm") or "").startswith("proot"):
        return Claim("proot", f"/proc/{tracer}/comm: the tracer is proot")
    return _other_systems(raw)


def _other_systems(raw: Raw) -> Claim | None:
    """FreeBSD's and Solaris' own words, from a live system or a recorded tree."""
    if (raw.text("/sysctl/security.jail.jailed") or "0").rpartition(" ")[2] == "1":
        return Claim("freebsd-jail", "security.jail.jailed: 1")
    zone = raw.text("/zonename")
    if zone and zone != "global":
        return Claim("solaris-zone", f"zonename: {zone[:60]}")
    return None


def _status_fields(raw: Raw) -> dict[str, str]:
    pairs = (line.partition(":") for line in (raw.text("/proc/self/status") or "").splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def engine_claims(raw: Raw, namespaces: Namespaces) -> tuple[Claim, ...]:
    """Everything that names an engine, the most trustworthy first."""
    return (
        *_manager_claims(raw),
        *_cgroup_claims(raw),
        *_mount_claims(namespaces),
        *_process_claims(raw),
        *_markers(raw),
    )


def _manager_claims(raw: Raw) -> list[Claim]:
    claims = []
    for path in ("/run/host/container-manager", "/run/systemd/container"):
        words = (raw.text(path) or "").split()
        if words:
            claims.append(Claim(_manager_kind(words[0]), path, marker=path != "/run/host/container-manager"))
    for path in ("/proc/1/environ", "/proc/self/environ"):
        environment = raw.read(path)
        entries = environment.split(b"\0") if isinstance(environment, bytes) else ()
        claims += [claim for entry in entries for claim in _environment_claims(path, entry)]
    return claims


def _manager_kind(text: str) -> str:
    """The kind that a value of $container names; container-other for one that nobody knows."""
    kind = MANAGERS.get(text, text)
    return kind if kind in KNOWN_KINDS else "container-other"


def _environment_claims(path: str, entry: bytes) -> list[Claim]:
    name, _, value = entry.partition(b"=")
    text = value.decode("utf-8", "replace").strip()[:40]
    if name == b"container" and text:
        return [Claim(_manager_kind(text), f"{path}: container={text}")]
    if name in {b"APPTAINER_CONTAINER", b"SINGULARITY_CONTAINER"}:
        return [Claim("apptainer", f"{path}: {name.decode()}")]
    return [Claim("oci", f"{path}: KUBERNETES_SERVICE_HOST")] if name == b"KUBERNETES_SERVICE_HOST" else []


def _matching(rows: tuple[tuple[str, str, str], ...], text: str) -> list[str]:
    """Kinds whose pattern is found in the text."""
    return [kind for kind, needle, pattern in rows if needle in text and re.search(pattern, text, re.MULTILINE)]


def _cgroup_claims(raw: Raw) -> list[Claim]:
    claims = []
    for path in ("/proc/self/cgroup", "/proc/1/cgroup"):
        text = raw.text(path) or ""
        claims += [Claim(kind, path) for kind in _matching(CGROUP_PATTERNS, text)]
    return claims


def _mount_claims(namespaces: Namespaces) -> list[Claim]:
    """The root's own mount, and the files of /etc that engines mount over the image's."""
    claims = []
    for mount in namespaces.mounts or ():
        if mount.point in WATCHED_MOUNTS:
            text = f"{mount.root} {mount.source} {mount.options}/"
            claims += [Claim(kind, f"/proc/self/mountinfo: {mount.point}") for kind in _matching(MOUNT_PATTERNS, text)]
    if "podman" in {claim.kind for claim in claims} and any(KUBELET in mount.root for mount in namespaces.mounts or ()):
        claims = [claim.replace(kind="crio") if claim.kind == "podman" else claim for claim in claims]
    return claims


def _process_claims(raw: Raw) -> list[Claim]:
    name = raw.text("/proc/1/comm") or ""
    kind = next((kind for prefix, kind in FIRST_PROCESSES if name.startswith(prefix)), None)
    return [Claim(kind, f"/proc/1/comm: {name[:20]}")] if kind else []


def is_corroborated(claim: Claim, namespaces: Namespaces) -> bool:
    """A marker file counts where the root is foreign and an engine mounted its own files: images carry markers along."""
    if not claim.marker or namespaces.mounts is None:
        return True
    foreign = bool(namespaces.foreign_root) or namespaces.same_root_as_first_process is False
    return foreign and any(mount.point in ENGINE_MOUNTS for mount in namespaces.mounts)


def _markers(raw: Raw) -> list[Claim]:
    return [Claim(kind, path, marker=True) for path, kind in MARKERS if raw.exists(path)]
