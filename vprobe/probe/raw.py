"""What was read from a machine, before anything is concluded: one frozen record for every kind of source.

The live machine, a capture file, a CPUID dump and a recorded tree of /proc and /sys all become a Raw. The decoders take
nothing else, so that the same decoder serves all of them.
"""

from __future__ import annotations

import errno as errno_names
from collections.abc import Mapping
from types import MappingProxyType

from vprobe.probe.record import Record
from vprobe.states import StrEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


NOTHING: Mapping[Any, Any] = MappingProxyType({})

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

Leaves = Mapping[tuple[int, int], Registers]
"""(leaf, subleaf) -> registers, in ascending order."""


class Origin(StrEnum):
    """Where a Raw came from."""

    LIVE = "live"
    CAPTURE = "capture"
    CPUID_TEXT = "cpuid-text"  # cpuid -r
    AIDA_TEXT = "aida-text"  # AIDA64, EVEREST, InstLatX64
    TREE = "tree"  # recorded /proc and /sys


class Unread(Record):
    """Something that could not be read. `errno` is the system's; NOT_RECORDED's is 0: nobody tried."""

    errno: int

    @property
    def name(self) -> str:
        """EACCES, ENOENT, …"""
        return "not recorded" if self.errno == 0 else errno_names.errorcode.get(self.errno, f"errno {self.errno}")

    @property
    def missing(self) -> bool:
        """It was looked for and is not there."""
        return self.errno in {errno_names.ENOENT, errno_names.ENOTDIR}

    @property
    def refused(self) -> bool:
        """It may be there, but this user may not read it."""
        return self.errno in {errno_names.EACCES, errno_names.EPERM}


NOT_RECORDED = Unread(0)


class FileStatus(Record):
    """What stat(2) said: enough to tell two roots apart, and who may open a device."""

    device: int
    inode: int
    mode: int
    group: str  # name, or the number where it has none


class KvmRaw(Record):
    """What /dev/kvm answered. None: not asked, because an earlier step failed."""

    opened: int | Unread  # 0, or why not
    api_version: int | Unread | None = None
    create_vm: int | Unread | None = None
    extensions: Mapping[str, int] = NOTHING
    feature_msrs: Mapping[int, int | Unread] = NOTHING
    supported_cpuid: Leaves = NOTHING


class Raw(Record):
    """Everything that was read. Mappings are never changed after construction."""

    origin: Origin
    machine: str = ""  # uname -m; "" is not known
    cpuid: Mapping[int, Leaves] = NOTHING  # by logical CPU
    msrs: Mapping[int, Mapping[int, int | Unread]] = NOTHING  # by logical CPU, by index
    files: Mapping[str, bytes | Unread] = NOTHING  # by absolute path
    links: Mapping[str, str | Unread] = NOTHING
    directories: Mapping[str, tuple[str, ...] | Unread] = NOTHING
    status: Mapping[str, FileStatus | Unread] = NOTHING
    kvm: KvmRaw | None = None
    effective_uid: int | None = None
    cpu_count: int | None = None  # logical CPUs online, where the source can tell
    tree_complete: bool = True  # False: a path that is not there may merely not have been recorded

    def read(self, path: str) -> bytes | Unread:
        """Content of a file, or why there is none."""
        return self.files.get(path, NOT_RECORDED)

    def text(self, path: str) -> str | None:
        """Content of a text file without white space and NULs at its ends; None if it was not read."""
        content = self.files.get(path)
        if content is None or isinstance(content, Unread):
            return None
        return content.decode("utf-8", "replace").strip("\0 \t\r\n")

    def listing(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted; empty if it was not read."""
        names = self.directories.get(path, ())
        return () if isinstance(names, Unread) else names

    def exists(self, path: str) -> bool:
        """The path is there: it was read or listed, or reading it failed for another reason than its absence."""
        for record in (self.files, self.links, self.directories, self.status):
            entry = record.get(path)
            if entry is not None and not (isinstance(entry, Unread) and (entry.missing or entry is NOT_RECORDED)):
                return True
        return False

    def link(self, path: str) -> str | None:
        """Target of a symbolic link (or the text of a file that recorded it); None if it was not read."""
        target = self.links.get(path)
        return target if isinstance(target, str) else None

    @property
    def leaves(self) -> Leaves:
        """CPUID of the first CPU whose features were recorded, else of the first one; empty where there is none."""
        whole = (leaves for leaves in self.cpuid.values() if (1, 0) in leaves)
        return next(whole, next(iter(self.cpuid.values()), {}))

    def msr(self, index: int) -> int | Unread:
        """Value of an MSR on the first CPU that has it recorded, or why it could not be read."""
        failure: Unread = NOT_RECORDED
        for values in self.msrs.values():
            value = values.get(index, NOT_RECORDED)
            if not isinstance(value, Unread):
                return value
            if failure is NOT_RECORDED:
                failure = value
        return failure
