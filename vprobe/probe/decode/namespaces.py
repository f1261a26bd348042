"""Which namespaces this process shares with the machine's first process, and whose root it stands on.

The initial ipc, uts, user, pid and cgroup namespaces have the same inode numbers on every machine since Linux 3.8
(include/uapi/linux/nsfs.h); mnt and net only on recent kernels, so that their numbers prove nothing.
"""

from __future__ import annotations

import re

from vprobe.probe.raw import FileStatus, Raw
from vprobe.probe.record import Record

INITIAL = {
    "ipc": 4026531839,
    "uts": 4026531838,
    "user": 4026531837,
    "pid": 4026531836,
    "cgroup": 4026531835,
}
INITIAL_MOUNTS = 4026531832
"""The initial mount namespace on recent kernels; another number there proves nothing."""
OVERLAID = {"overlay", "aufs", "fuse.fuse-overlayfs", "fuse-overlayfs", "unionfs"}
NATIVE_SUBTREE = r"^/(@|root$|ostree/|\.snapshots/|rootfs$)"
"""Roots of hosts whose own system lies in a subvolume or an ostree deployment."""
CONTAINER_STORAGE = (
    "/docker/",
    "/containers/",
    "/containerd/",
    "/lxc/",
    "/lxd/",
    "/machines/",
    "/incus/",
    "/buildkit/",
)
RUNTIME_MASKS = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
"""Paths that the OCI runtimes' default configuration hides under mounts of their own."""


class Mount(Record):
    """One line of mountinfo (proc(5)): `root` is the directory of the file system that is mounted."""

    identifier: str
    parent: str
    root: str
    point: str
    kind: str
    source: str
    options: str


class Namespaces(Record):
    """None: not recorded."""

    initial: dict[str, bool]
    mounts: tuple[Mount, ...] | None
    same_root_as_first_process: bool | None

    @property
    def private(self) -> tuple[str, ...]:
        """Kinds that are not the machine's initial ones."""
        return tuple(kind for kind, initial in self.initial.items() if not initial)

    @property
    def all_initial(self) -> bool:
        """The two that make a container were read, and everything read is the machine's own."""
        return {"pid", "user"} <= self.initial.keys() and not self.private

    @property
    def root_mount(self) -> Mount | None:
        """What is mounted on /, the last of several."""
        return _last_root(self.mounts or ())

    @property
    def foreign_root(self) -> str:
        """Why / is not the machine's own root; "" where nothing says so."""
        mount = self.root_mount
        if mount is None:
            return ""
        if mount.kind in OVERLAID:
            return f"/ is {mount.kind}"
        if any(store in f"{mount.root}/ {mount.options}/" for store in CONTAINER_STORAGE):
            return "/ lies in a container store"
        if mount.root != "/" and not re.match(NATIVE_SUBTREE, mount.root):
            return f"/ is a directory below /{mount.root.split('/')[1][:40]} of its file system"
        masks = self._masked_paths
        return f"{masks[0]} and {masks[1]} are hidden under mounts" if len(masks) >= 2 else ""

    @property
    def is_engines_root(self) -> bool:
        """/ lies in an engine's store, or paths are hidden as the OCI runtimes do: an overlay alone may be a live system."""
        mount = self.root_mount
        if mount is None:
            return False
        return len(self._masked_paths) >= 2 or any(
            store in f"{mount.root}/ {mount.options}/" for store in CONTAINER_STORAGE
        )

    @property
    def _masked_paths(self) -> list[str]:
        return sorted(RUNTIME_MASKS & {entry.point for entry in self.mounts or ()})


def decode_namespaces(raw: Raw) -> Namespaces:
    """From /proc/self/ns, /proc/self/mountinfo and the identities of / and /proc/1/root."""
    initial = {}
    for kind, constant in INITIAL.items():
        number = _inode(raw.link(f"/proc/self/ns/{kind}"))
        if number is not None:
            initial[kind] = number == constant
    text = raw.text("/proc/self/mountinfo")
    mounts = _mounts(text) if text is not None else None
    return Namespaces(initial, mounts, _same_root(raw, _last_root(mounts or ())))


def _inode(text: str | None) -> int | None:
    """The number of "pid:[4026531836]"."""
    number = (text or "").partition("[")[2].partition("]")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 20 else None


def _last_root(mounts: tuple[Mount, ...]) -> Mount | None:
    return next((mount for mount in reversed(mounts) if mount.point == "/"), None)


def _same_root(raw: Raw, ours: Mount | None) -> bool | None:
    """By inode, and, where both see the same mounts, by mount: a bind mount of / on itself has the same inode."""
    own, first = _identity(raw, "/"), _identity(raw, "/proc/1/root")
    theirs = _last_root(_mounts(raw.text("/proc/1/mountinfo") or "", only_point=" / "))
    known = own is not None and first is not None
    if known and own != first:
        return False
    if _is_other_mount(raw, ours, theirs):
        return False
    if ours and theirs and not known:
        return (ours.source, ours.root) == (theirs.source, theirs.root)
    return True if known else None


def _identity(raw: Raw, path: str) -> tuple[int, int] | None:
    """Device and inode; None where they were not read, or are those of a copy."""
    status = raw.status.get(path)
    return (status.device, status.inode) if isinstance(status, FileStatus) and raw.tree_complete else None


def _is_other_mount(raw: Raw, ours: Mount | None, theirs: Mount | None) -> bool:
    """In PID 1's mount namespace our / is another mount than its own, whose parent is the kernel's first (0 or 1)."""
    own_table = raw.link("/proc/self/ns/mnt")
    if ours is None or own_table is None:
        return False
    if theirs is not None and own_table == raw.link("/proc/1/ns/mnt"):
        return ours.identifier != theirs.identifier
    return _inode(own_table) == INITIAL_MOUNTS and ours.parent not in {"0", "1"}


def _mounts(text: str, only_point: str = "") -> tuple[Mount, ...]:
    """Lines that have the fields of proc(5), and `only_point` between blanks; others are passed over."""
    mounts = []
    for line in text.splitlines():
        if only_point not in line:
            continue
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 2:
            options = tail[2] if len(tail) > 2 else ""
            mounts.append(
                Mount(
                    fields[0],
                    fields[1],
                    _unescape(fields[3]),
                    _unescape(fields[4]),
                    tail[0],
                    _unescape(tail[1]),
                    options,
                )
            )
    return tuple(mounts)


def _unescape(text: str) -> str:
    """The kernel writes blanks, tabs, line ends and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
