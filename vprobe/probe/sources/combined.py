"""One Raw of two records: a tree of /proc and /sys, and the CPUID that was dumped on the same machine."""

from __future__ import annotations

from pathlib import Path

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import Raw
from vprobe.probe.sources.files import read_file
from vprobe.probe.sources.tree import read_tree


def read_recorded(file: str | None, sysroot: str | None) -> tuple[Raw, tuple[str, ...]]:
    """What was recorded in the file, below the directory, or in both; and notes on what was left out."""
    if sysroot is None:
        if file is None:
            raise InvalidFileError("neither a file nor a directory was named", "use --from or --sysroot")
        return read_file(file)
    if not Path(sysroot).is_dir():
        raise InvalidFileError(f"{sysroot}: not a directory", "name the directory that holds proc and sys")
    tree = read_tree(sysroot).replace(tree_complete=False)
    if file is None:
        return tree, ()
    dump, notes = read_file(file)
    return tree.replace(
        cpuid=dump.cpuid, msrs=dump.msrs, kvm=dump.kvm, cpu_count=dump.cpu_count, machine=dump.machine
    ), notes
