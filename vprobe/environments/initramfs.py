"""The initial root file system of a Linux guest, as bytes: what to do at boot is decided here, native/guest_init.c does it.

The archive is a cpio of the format "newc", not compressed: an emulated CPU would take longer to unpack it than to read it.
Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments.guest_kernel import Module

INIT = Path(__file__).parent.parent / "guest-init"
"""native/guest_init.c, compiled: it can be missing where vprobe was built for another architecture."""

CONSOLE = (5, 1)
"""Major and minor number of /dev/console (Documentation/admin-guide/devices.txt): where init's standard error goes."""


@dataclass(frozen=True)
class Entry:
    """One file, directory (`data` empty, mode says so) or device of an archive."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def program(data: bytes) -> Entry:
    """A file that can be executed."""
    return Entry(stat.S_IFREG | 0o755, data)


def file(data: bytes) -> Entry:
    """A file."""
    return Entry(stat.S_IFREG | 0o644, data)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """A cpio archive with these entries (paths without a leading slash) and the directories that lead to them."""
    everything = {"dev": Entry(stat.S_IFDIR | 0o755), "dev/console": Entry(stat.S_IFCHR | 0o600, device=CONSOLE)}
    for path, entry in entries.items():
        parents = [str(parent) for parent in Path(path).parents][-2::-1]
        everything.update({name: Entry(stat.S_IFDIR | 0o755) for name in parents if name not in everything})
        everything[path] = entry
    members = [_member(number, path, entry) for number, (path, entry) in enumerate(everything.items(), 1)]
    return b"".join([*members, _member(0, "TRAILER!!!", Entry(0))])


def _member(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


@dataclass(frozen=True)
class Program:
    """What the guest's init runs once all steps are done; the guest ends with it.

    `device` becomes its standard input and output; `argv[0]` is an absolute path.
    """

    device: str
    argv: tuple[str, ...]
    variables: Mapping[str, str]
    working_directory: str = "/"


Step = tuple[str, ...]
"""A verb of guest_init.c and its words: ("mkdir", PATH), ("mount", SOURCE, TARGET, TYPE, FLAGS, DATA), ("await", … as mount,
tried until the device is there), ("load", FILE), ("write", FILE, TEXT), ("link", TO, PATH), ("name", HOST), ("enter", ROOT),
("find", DEVICE), ("disk", TARGET, FILE) and ("up", INTERFACE, ADDRESS, NETMASK), the latter two or none."""


def build(modules: Iterable[Module], steps: Sequence[Step], run: Program) -> bytes:
    """An initramfs that loads the modules, does the steps and runs the program. FileNotFoundError without an init."""
    loads: list[Step] = []
    entries = {"init": program(INIT.read_bytes())}
    for module in modules:
        entries[f"modules/{module.name}.ko"] = file(module.read())
        loads.append(("load", f"/modules/{module.name}.ko"))
    last: Step = ("run", run.device, run.working_directory)
    entries["steps"] = file("".join(_line(step) for step in (*loads, *steps, last)).encode())
    entries["arguments"] = file(_list(run.argv))
    entries["variables"] = file(_list([f"{name}={value}" for name, value in run.variables.items()]))
    return archive(entries)


def _line(step: Step) -> str:
    if any(letter in word for word in step for letter in "\t\n\0"):
        raise ValueError(f"a step of the guest cannot hold a tab or a line's end: {step!r}")
    return "\t".join(step) + "\n"


def _list(words: Sequence[str]) -> bytes:
    if any("\0" in word for word in words):
        raise ValueError("a word cannot hold a zero byte")
    return "".join(f"{word}\0" for word in words).encode()
