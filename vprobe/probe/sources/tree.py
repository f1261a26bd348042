"""Reads /proc, /sys, /run and the markers in /, of this machine or below a directory that recorded another.

A recorded tree is hostile input: a link is followed inside the tree only, nothing but regular files is opened, and every
read is bounded.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from vprobe.probe.raw import FileStatus, Origin, Raw, Unread
from vprobe.probe.sources import paths

MAXIMUM_LINKS = 40
MAXIMUM_NAMES = 8192


class Tree:
    """Bounded reads below one root directory."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def _locate(self, path: str, *, follow: bool = True) -> str:
        """The path as this process names it, with every link resolved inside the root. OSError where it is not there."""
        if not self._root:
            return path
        pending = [part for part in path.split("/") if part]
        resolved: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                resolved[-1:] = []
                continue
            if part == ".":
                continue
            candidate = "/".join((self._root, *resolved, part))
            if stat.S_ISLNK(os.lstat(candidate).st_mode) and (pending or follow):
                links += 1
                if links > MAXIMUM_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(candidate)  # noqa: PTH115 - as above
                if target.startswith("/"):
                    resolved = []
                pending[:0] = [name for name in target.split("/") if name]
            else:
                resolved.append(part)
        return "/".join((self._root, *resolved))

    def read(self, path: str, limit: int = paths.DEFAULT_LIMIT) -> bytes | Unread:
        """The first `limit` bytes of a regular file."""
        try:
            descriptor = os.open(self._locate(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            return Unread(error.errno or errno.EIO)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Unread(errno.EINVAL)
            return _read_up_to(descriptor, limit)
        except OSError as error:
            return Unread(error.errno or errno.EIO)
        finally:
            os.close(descriptor)

    def link(self, path: str) -> str | Unread:
        """Target of a link. A recorded tree may hold it as the text of a file instead."""
        try:
            return os.readlink(self._locate(path, follow=False))  # noqa: PTH115 - as above
        except OSError as error:
            if error.errno == errno.EINVAL and self._root:
                content = self.read(path, 4096)
                return content if isinstance(content, Unread) else content.decode("utf-8", "replace").strip("\0 \r\n")
            return Unread(error.errno or errno.EIO)

    def names(self, path: str) -> tuple[str, ...] | Unread:
        """Names in a directory, sorted."""
        try:
            return tuple(sorted(os.listdir(self._locate(path)))[:MAXIMUM_NAMES])  # noqa: PTH208 - names, on the hot path
        except OSError as error:
            return Unread(error.errno or errno.EIO)

    def status(self, path: str) -> FileStatus | Unread:
        """Identity, mode and group of whatever is at the path."""
        try:
            found = os.stat(self._locate(path))  # noqa: PTH116 - on the hot path
        except OSError as error:
            return Unread(error.errno or errno.EIO)
        return FileStatus(found.st_dev, found.st_ino, found.st_mode, _group_name(found.st_gid))


def _read_up_to(descriptor: int, limit: int) -> bytes:
    """Files of /proc come in pieces: read until the end or the limit."""
    first = os.read(descriptor, limit)
    if not first or len(first) >= limit:
        return first
    pieces, length = [first], len(first)
    while length < limit and (piece := os.read(descriptor, limit - length)):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def _group_name(number: int) -> str:
    if number == 0:
        return "root"
    import grp  # noqa: PLC0415 - not on every platform, and seldom asked

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _kept_environment(content: bytes | Unread) -> bytes | Unread:
    """Only the variables that say what PID 1 runs in: the others are nobody's business."""
    if isinstance(content, Unread):
        return content
    separator = b"\0" if b"\0" in content else b"\n"
    entries = (entry.strip(b"\r\n") for entry in content.split(separator))
    return b"\0".join(entry for entry in entries if entry.partition(b"=")[0] in paths.KEPT_ENVIRONMENT)


def read_tree(root: str, *, with_cpuid: bool = False, with_identifiers: bool = False) -> Raw:
    """Everything that the manifest names, below `root`. The caches' files are left out where CPUID tells of them."""
    tree = Tree(root)
    files: dict[str, bytes | Unread] = {path: tree.read(path, limit) for path, limit in paths.FILES.items()}
    for path in ("/proc/1/environ", "/proc/self/environ"):
        files[path] = _kept_environment(files[path])
    directories: dict[str, tuple[str, ...] | Unread] = {path: tree.names(path) for path in paths.DIRECTORIES}
    for directory, limit in paths.ALL_FILES_OF.items():
        directories[directory] = names = tree.names(directory)
        if not isinstance(names, Unread):
            files |= {path: tree.read(path, limit) for path in (f"{directory}/{name}" for name in names[:256])}
    tracer = _tracer_comm(files["/proc/self/status"])
    if tracer:
        files[tracer] = tree.read(tracer, 64)
    for path in _conditional_files(directories, with_cpuid=with_cpuid, with_identifiers=with_identifiers):
        files[path] = tree.read(path)
    return Raw(
        origin=Origin.TREE,
        files=files,
        directories=directories,
        links={path: tree.link(path) for path in paths.LINKS},
        status={path: tree.status(path) for path in paths.STATUS},
        tree_complete=not root.rstrip("/"),
    )


def _tracer_comm(status: bytes | Unread) -> str | None:
    """Name of the process that traces this one: PRoot works by tracing."""
    if isinstance(status, Unread):
        return None
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name == b"TracerPid" and value.strip().isdigit() and value.strip() != b"0":
            return f"/proc/{int(value)}/comm"
    return None


def _conditional_files(
    directories: Mapping[str, tuple[str, ...] | Unread], *, with_cpuid: bool, with_identifiers: bool
) -> list[str]:
    """Files that are only looked for where the directory around them is there, or nothing better is."""
    wanted: list[str] = []
    if not isinstance(directories["/sys/class/dmi/id"], Unread):
        names = paths.DMI + (paths.DMI_IDENTIFIERS if with_identifiers else ())
        wanted += [f"/sys/class/dmi/id/{name}" for name in names]
    else:
        wanted.append(paths.DMI_TABLE)
    if not isinstance(directories["/proc/device-tree"], Unread):
        wanted += [f"/proc/device-tree/{name}" for name in paths.DEVICE_TREE]
    if not with_cpuid:
        cache = "/sys/devices/system/cpu/cpu0/cache/index"
        wanted += [f"{cache}{index}/{name}" for index in paths.CACHE_INDEXES for name in paths.CACHE_FILES]
    return wanted
