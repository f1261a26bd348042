"""Is this process in a container, and whose? Namespace inodes weigh more than what files and variables claim.

All fixed namespaces initial and / the root of PID 1: claims are contradicted. A private pid or user namespace with a foreign
root: a container. A private mount or network namespace alone is evidence of nothing: any service may have one.
"""

from __future__ import annotations

import re

from vprobe.probe.decode.guest_evidence import wsl_version
from vprobe.probe.decode.namespaces import Namespaces, decode_namespaces
from vprobe.probe.facts import Fact
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.states import State, VirtClass

CLASSES = {"gvisor": VirtClass.USER_SPACE_KERNEL}
"""Every other kind shares one kernel among many user spaces."""

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


class Container(Record):
    """The container object of the document. `kind` "none": not in a container; None: not known."""

    fact: Fact
    kind: str | None
    virt_class: str | None
    contradicted: tuple[str, ...]


def decode_container(raw: Raw) -> Container:
    """The kind of container, the evidence for it, and the evidence against which it stands."""
    certain = _certain(raw)
    if certain:
        return _found(certain.kind, "", (certain.source,))
    namespaces = decode_namespaces(raw)
    claims = _claims(raw, namespaces)
    evidence = _namespace_evidence(raw, namespaces)
    if namespaces.all_initial:
        return _in_initial_namespaces(namespaces, claims, evidence)
    if namespaces.initial:
        return _in_private_namespaces(namespaces, claims, evidence)
    return _without_namespaces(raw, claims, evidence)


def _found(kind: str, reason: str, evidence: tuple[str, ...], contradicted: tuple[str, ...] = ()) -> Container:
    virt_class = CLASSES.get(kind, VirtClass.OS_LEVEL)
    return Container(Fact(State.PRESENT, reason, "", evidence), kind, virt_class, contradicted)


def _none(reason: str, evidence: tuple[str, ...], contradicted: tuple[str, ...] = ()) -> Container:
    return Container(Fact(State.ABSENT, reason, "", evidence), "none", VirtClass.NONE, contradicted)


def _certain(raw: Raw) -> Claim | None:
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


def _claims(raw: Raw, namespaces: Namespaces) -> tuple[Claim, ...]:
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
    watched = {
        "/",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/run/.containerenv",
        "/run/host/container-manager",
    }
    claims = []
    for mount in namespaces.mounts or ():
        if mount.point in watched:
            text = f"{mount.root} {mount.source} {mount.options}/"
            claims += [Claim(kind, f"/proc/self/mountinfo: {mount.point}") for kind in _matching(MOUNT_PATTERNS, text)]
    if "podman" in {claim.kind for claim in claims} and any(KUBELET in mount.root for mount in namespaces.mounts or ()):
        claims = [claim.replace(kind="crio") if claim.kind == "podman" else claim for claim in claims]
    return claims


def _process_claims(raw: Raw) -> list[Claim]:
    name = raw.text("/proc/1/comm") or ""
    kind = next((kind for prefix, kind in FIRST_PROCESSES if name.startswith(prefix)), None)
    return [Claim(kind, f"/proc/1/comm: {name[:20]}")] if kind else []


def _is_corroborated(claim: Claim, namespaces: Namespaces) -> bool:
    """A marker file counts where the root is foreign and an engine mounted its own files: images carry markers along."""
    if not claim.marker or namespaces.mounts is None:
        return True
    foreign = bool(namespaces.foreign_root) or namespaces.same_root_as_first_process is False
    return foreign and any(mount.point in ENGINE_MOUNTS for mount in namespaces.mounts)


def _markers(raw: Raw) -> list[Claim]:
    return [Claim(kind, path, marker=True) for path, kind in MARKERS if raw.exists(path)]


def _namespace_evidence(raw: Raw, namespaces: Namespaces) -> tuple[str, ...]:
    evidence = [
        f"{kind} namespace: {'initial' if initial else 'private'}" for kind, initial in namespaces.initial.items()
    ]
    if namespaces.same_root_as_first_process is not None:
        evidence.append("/ is " + ("" if namespaces.same_root_as_first_process else "not ") + "the root of PID 1")
    elif namespaces.initial:
        failure = raw.status.get("/proc/1/root")
        evidence.append("root of PID 1: " + (failure.name if isinstance(failure, Unread) else "not recorded"))
    if namespaces.foreign_root:
        evidence.append(namespaces.foreign_root)
    return tuple(evidence)


def _in_initial_namespaces(namespaces: Namespaces, claims: tuple[Claim, ...], evidence: tuple[str, ...]) -> Container:
    contradicted = tuple(dict.fromkeys(claim.source for claim in claims))
    no_root_mount = namespaces.mounts is not None and bool(namespaces.mounts) and namespaces.root_mount is None
    if namespaces.same_root_as_first_process is False or (
        namespaces.same_root_as_first_process is None and no_root_mount
    ):
        return _found("chroot", "the machine's own namespaces, but another root than PID 1's", evidence, contradicted)
    if namespaces.same_root_as_first_process is None and namespaces.foreign_root:
        reason = f"{namespaces.foreign_root}, and it could not be read whether that is PID 1's root"
        return Container(Fact(State.UNKNOWN, reason, "run as root", evidence), None, None, contradicted)
    reason = "all namespaces are the machine's initial ones"
    if contradicted:
        reason += ": " + ", ".join(contradicted) + " stale"
    return _none(reason, evidence, contradicted)


def _in_private_namespaces(namespaces: Namespaces, claims: tuple[Claim, ...], evidence: tuple[str, ...]) -> Container:
    separated = {"pid", "user"} & set(namespaces.private)
    foreign = namespaces.foreign_root or namespaces.same_root_as_first_process is False
    trusted = tuple(claim for claim in claims if _is_corroborated(claim, namespaces))
    stale = tuple(claim.source for claim in claims if claim not in trusted)
    if trusted:
        return _named(trusted, evidence, stale)
    if separated and foreign:
        return _found("oci", "private namespaces and a root of its own, but no engine names itself", evidence, stale)
    if foreign and len(namespaces.private) >= 2:
        return _found("oci", "a root of its own and private namespaces beside the machine's processes", evidence, stale)
    if separated:
        return _found("namespaces", "private namespaces on the machine's own root", evidence, stale)
    if namespaces.same_root_as_first_process is False:
        return _found("chroot", "another root than PID 1's", evidence, stale)
    return _none("its private namespaces are those that any service may have", evidence, stale)


def _without_namespaces(raw: Raw, claims: tuple[Claim, ...], evidence: tuple[str, ...]) -> Container:
    """A tree that recorded no namespaces: what names an engine is all there is."""
    if claims:
        return _named(claims, evidence, ())
    witnesses = ("/proc/1/cgroup", "/proc/self/cgroup", "/proc/1/environ", "/proc/self/mountinfo")
    if any(isinstance(raw.read(path), bytes) for path in witnesses):
        return _none("nothing recorded names a container", evidence)
    fact = Fact(State.UNKNOWN, "neither namespaces nor an engine's traces were recorded", "", evidence)
    return Container(fact, None, None, ())


def _named(claims: tuple[Claim, ...], evidence: tuple[str, ...], stale: tuple[str, ...]) -> Container:
    """A container whose engine something names; what names another one is contradicted."""
    kind = _kind(claims)
    agreeing = tuple(claim for claim in claims if claim.kind in {kind, "oci"})
    other = tuple(claim for claim in claims if claim not in agreeing)
    contradicted = tuple(dict.fromkeys((*_sources(other), *stale)))
    return _found(kind, "", evidence + _sources(agreeing), contradicted)


def _kind(claims: tuple[Claim, ...]) -> str:
    """The first claim's kind; "oci" says only that a runtime is at work, so that a marker file may name the engine."""
    named = [claim.kind for claim in claims if claim.kind != "oci"]
    return named[0] if named else "oci"


def _sources(claims: tuple[Claim, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(claim.source for claim in claims))
