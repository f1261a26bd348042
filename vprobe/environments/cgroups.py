"""Where this process is in the cgroup hierarchies of the host: v1, v2 and both side by side (cgroups(7))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy. `name`: "" for v2, the controllers or "name=systemd" for v1. `own`: this process's directory."""

    name: str
    own: Path


def parse(membership: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    """The hierarchies that both /proc/self/cgroup and /proc/self/mountinfo show.

    A hierarchy of which only a part is mounted that does not hold this process (as in some containers) is left out.
    """
    own = {name: path for _, name, path in (line.split(":", 2) for line in membership.splitlines() if line)}
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        root, point = fields.split(" ")[3:5]
        kind, _, options = (*tail.split(" ", 2), "", "")[:3]
        names = {"": own.get("")} if kind == "cgroup2" else own if kind == "cgroup" else {}
        for name, path in names.items():
            if path is None or (name and not set(name.split(",")) <= set(options.split(","))):
                continue
            if kind == "cgroup" and not name:
                continue
            below = Path(path)
            if below.is_relative_to(root):
                found.setdefault(name, Hierarchy(name, Path(point) / below.relative_to(root)))
    return tuple(found.values())


def hierarchies() -> tuple[Hierarchy, ...]:
    """Those of this process; none where there is no cgroup file system."""
    try:
        membership = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    return parse(membership, mountinfo)
