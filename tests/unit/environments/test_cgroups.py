"""Where a process is in the cgroup hierarchies, from recorded /proc files of each layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from vprobe.environments import cgroups

UNIFIED = "26 20 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)


def found(membership: str, mountinfo: str) -> dict[str, str]:
    return {one.name: str(one.own) for one in cgroups.parse(membership, mountinfo)}


def test_unified() -> None:
    """One hierarchy, without a name."""
    seen = found("0::/user.slice/user-1000.slice/session-2.scope\n", UNIFIED)
    assert seen == {"": "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"}


def test_hybrid() -> None:
    """Each v1 hierarchy by its controllers, systemd's by its name, and v2 beside them."""
    seen = found("3:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n", HYBRID)
    assert seen == {
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a",
        "name=systemd": "/sys/fs/cgroup/systemd/b",
        "": "/sys/fs/cgroup/unified/c",
    }


def test_controllers_in_another_order() -> None:
    """Linked controllers are the same hierarchy in whatever order the kernel lists them."""
    assert found("3:cpuacct,cpu:/a\n", HYBRID) == {"cpuacct,cpu": "/sys/fs/cgroup/cpu,cpuacct/a"}


def test_part_of_a_hierarchy() -> None:
    """Inside a container only its own part is mounted: paths are relative to that."""
    mounted = "26 20 0:23 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
    assert found("0::/docker/abc/inner\n", mounted) == {"": "/sys/fs/cgroup/inner"}
    assert found("0::/elsewhere\n", mounted) == {}


def test_hierarchy_that_is_not_mounted() -> None:
    """Nothing can be made in it, so it is left out."""
    assert found("5:devices:/\n0::/\n", UNIFIED) == {"": "/sys/fs/cgroup"}


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="this kernel has no cgroups")
def test_on_this_machine() -> None:
    """Every directory exists and holds this very process."""
    import os

    for one in cgroups.hierarchies():
        assert str(os.getpid()) in (one.own / "cgroup.procs").read_text().split()
